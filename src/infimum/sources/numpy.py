"""Any code that returns log p̂ and its gradient at a point of R^d as a target."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from infimum.base.errors import coded
from infimum.target.bijection import Bijection
from infimum.target.compiled import target_name
from infimum.target.foreign import ForeignDensity
from infimum.target.gradient_check import PROBES, check_gradient, first_answer
from infimum.target.guarded import GuardedCode
from infimum.target.target import Target

INDEXED = re.compile(r"^(?P<base>[^\[\]]+)\[(?P<index>\d+(?:, ?\d+)*)\]$")
"""A scalar quantity's name in ArviZ's form: `theta[0]`, `L[1, 0]`."""

LARGEST_WITHOUT_GRADIENT = 20
"""Largest d for a density without a gradient: a quadratic of 231 coefficients is fitted to values
at about a thousand draws a step; at d = 40 it would be four thousand."""


def from_numpy(
    value_and_gradient: Callable[[np.ndarray], Any],
    dim: int,
    names: Sequence[str] | None = None,
    batched: bool = False,
    *,
    name: str | None = None,
) -> Target:
    """A log density on R^d that any code evaluates.

    Parameters
    ----------
    value_and_gradient
        Function of a point z, shape (d,), that returns log p̂(z) in nats and its gradient, shape
        (d,). One that returns log p̂ alone is accepted up to d = 20: it is then fitted from values,
        which takes far more evaluations. -inf means zero density; an error at a point counts as
        an undefined density there, and the first is shown.
    dim
        d. Every coordinate is real: restrict a parameter by transforming it, with the log-Jacobian
        in log p̂.
    names
        A name for each coordinate; `theta[0]`, `theta[1]` make one array. Without names a draw is
        a vector.
    batched
        Whether the function takes points of shape (n, d), and returns shapes (n,) and (n, d).
    name
        What to call the target in print.

    Raises
    ------
    TypeError, ValueError
        If the function raises wherever it is tried, returns the wrong shapes or dtypes, or a
        gradient that finite differences contradict.

    Examples
    --------
    >>> from_numpy(lambda z: (-0.5 * z @ z, -z), 3).dim
    3
    """
    if not callable(value_and_gradient):
        raise TypeError(coded("E101", f"from_numpy takes a function, not {value_and_gradient!r}"))
    if not isinstance(dim, int | np.integer) or dim < 1:
        raise ValueError(
            coded("E302", f"dim is {dim!r}, expected a positive number of coordinates")
        )
    dim = int(dim)
    name = target_name(value_and_gradient, name)
    example, order = _arrangement(names, dim)
    has_gradient = _gives_gradient(value_and_gradient, dim, batched)
    if not has_gradient and dim > LARGEST_WITHOUT_GRADIENT:
        raise ValueError(
            coded(
                "E110",
                f"{name!r} returns log p̂ without a gradient: that is for up to "
                f"{LARGEST_WITHOUT_GRADIENT} coordinates, this has {dim}. Return (value, "
                "gradient), or write log p̂ in JAX or PyTorch, which differentiate it: "
                "infimum.Target, from_torch",
            )
        )
    space = Bijection(example)
    make = GuardedCode if batched else GuardedCode.of_points
    given = value_and_gradient
    code = make(given, dim) if has_gradient else make(None, dim, given)
    density = ForeignDensity(code.reordered(order))
    if has_gradient:
        check_gradient(density, space.free_names)
    return Target.of(space, density, name)


def _gives_gradient(function: Callable[[np.ndarray], Any], dim: int, batched: bool) -> bool:
    """Look at an answer; refuse what is neither log p̂ nor log p̂ and its gradient."""
    shape = (PROBES, 2, dim) if batched else (PROBES, dim)
    answer = first_answer(function, np.random.default_rng(0).uniform(-1, 1, shape))
    pair = isinstance(answer, tuple | list)
    if pair and len(answer) != 2:
        raise TypeError(
            coded(
                "E651",
                f"value_and_gradient must return (log p̂, gradient), it returned {len(answer)} "
                "things",
            )
        )
    value, gradient = answer if pair else (answer, None)
    rows = (2,) if batched else ()
    _check("log p̂", value, rows, "sum over observations" if not batched else "one value a row")
    if pair:
        _check("a gradient", gradient, (*rows, dim), "one entry a coordinate")
    return pair


def _check(what: str, given: Any, shape: tuple[int, ...], cure: str) -> None:
    try:
        array = np.asarray(given)
    except (TypeError, ValueError) as error:
        raise TypeError(
            coded("E651", f"value_and_gradient returned {what} that is no array: {error}")
        ) from None
    if array.dtype.kind != "f":
        raise TypeError(
            coded(
                "E651",
                f"value_and_gradient returned {what} of dtype {array.dtype}, expected float64",
            )
        )
    if array.shape != shape:
        raise ValueError(
            coded(
                "E651",
                f"value_and_gradient returned {what} of shape {array.shape}, expected {shape}: "
                f"{cure}",
            )
        )


def _arrangement(names: Sequence[str] | None, dim: int) -> tuple[Any, np.ndarray]:
    """The parameters' shapes, and which of the user's coordinates each coordinate of z is."""
    if names is None:
        return np.zeros(dim), np.arange(dim)
    names = [names] if isinstance(names, str) else list(names)
    if len(names) != dim or len(set(names)) < dim:
        raise ValueError(
            coded("E652", f"names must be {dim} different names, one a coordinate; given: {names}")
        )
    groups: dict[str, dict[tuple[int, ...], int]] = {}
    for place, name in enumerate(names):
        match = INDEXED.match(name)
        base = match["base"] if match else name
        index = tuple(map(int, match["index"].split(","))) if match else ()
        groups.setdefault(base, {})[index] = place
    example: dict[str, np.ndarray] = {}
    order: list[int] = []
    for base in sorted(groups):
        entries = groups[base]
        depth = {len(index) for index in entries}
        shape = tuple(np.max([*entries], axis=0) + 1) if depth != {0} and len(depth) == 1 else ()
        if set(entries) != set(np.ndindex(*shape)):
            raise ValueError(
                coded(
                    "E652",
                    f"the entries of {base!r} in names do not make an array: {names}. Count them "
                    "from 0, without gaps",
                )
            )
        example[base] = np.zeros(shape)
        order += [entries[index] for index in np.ndindex(*shape)]
    return example, np.array(order)
