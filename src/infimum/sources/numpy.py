"""Any function that returns log p̂ and its gradient at a point of R^d, as a target."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from infimum.base.errors import coded_error
from infimum.target.bijection import Bijection
from infimum.target.compiled import target_name
from infimum.target.foreign import ForeignDensity
from infimum.target.gradient_check import PROBES, check_gradient, first_answer
from infimum.target.guarded import GuardedCode
from infimum.target.target import Target

INDEXED_NAME = re.compile(r"^(?P<base>[^\[\]]+)\[(?P<index>\d+(?:, ?\d+)*)\]$")
"""A scalar quantity's name in ArviZ's form: `theta[0]`, `L[1, 0]`."""

LARGEST_WITHOUT_GRADIENT = 20
"""Largest d for a density without a gradient. A quadratic of 231 coefficients is then fitted to
values at about a thousand draws per step; at d = 40 it would take four thousand draws."""


def from_numpy(
    value_and_gradient: Callable[[np.ndarray], Any],
    dim: int,
    names: Sequence[str] | None = None,
    batched: bool = False,
    *,
    name: str | None = None,
) -> Target:
    """A log density on R^d that any code evaluates.

    Requires: float64 numbers, the same at the same point; a gradient above d = 20.

    Parameters
    ----------
    value_and_gradient
        Function of a point z, shape (d,), that returns log p̂(z) in nats and its gradient, shape
        (d,). A function that returns log p̂ alone is accepted up to d = 20; a fit then takes far
        more evaluations. -inf means zero density. If the function raises an error at a point, the
        density is undefined there; the first error is shown with the fit.
    dim
        d. Every coordinate is real. To restrict a parameter, transform it inside the function and
        add the log-Jacobian to log p̂.
    names
        A name for each coordinate; `theta[0]`, `theta[1]` become one array `theta`. Without names a
        draw is a vector.
    batched
        Whether the function takes points of shape (n, d), and returns shapes (n,) and (n, d).
    name
        Name of the target in printed output.

    Raises
    ------
    TypeError, ValueError
        If the function raises at every point tried, returns wrong shapes or dtypes, or returns a
        gradient that finite differences contradict.

    Examples
    --------
    >>> from_numpy(lambda z: (-0.5 * z @ z, -z), 3).dim
    3
    """
    if not callable(value_and_gradient):
        raise coded_error(
            TypeError, "E101", f"from_numpy takes a function, not {value_and_gradient!r}"
        )
    if not isinstance(dim, int | np.integer) or dim < 1:
        raise coded_error(
            ValueError, "E302", f"dim is {dim!r}, expected a positive number of coordinates"
        )
    dim = int(dim)
    name = target_name(value_and_gradient, name)
    example, order = _arrangement(names, dim)
    has_gradient = _gives_gradient(value_and_gradient, dim, batched)
    if not has_gradient and dim > LARGEST_WITHOUT_GRADIENT:
        raise coded_error(
            ValueError,
            "E110",
            f"{name!r} returns log p̂ without a gradient: this works up to "
            f"{LARGEST_WITHOUT_GRADIENT} coordinates, this has {dim}. Return (value, "
            "gradient), or write log p̂ in JAX or PyTorch, which differentiate it: "
            "infimum.Target, from_torch",
        )
    space = Bijection(example)
    make = GuardedCode if batched else GuardedCode.of_points
    code = make(value_and_gradient, dim) if has_gradient else make(None, dim, value_and_gradient)
    density = ForeignDensity(code.reordered(order))
    if has_gradient:
        check_gradient(density, space.free_names)
    return Target.of(space, density, name)


def _gives_gradient(function: Callable[[np.ndarray], Any], dim: int, batched: bool) -> bool:
    """Whether an answer has a gradient; an error if it is neither log p̂ nor such a pair."""
    shape = (PROBES, 2, dim) if batched else (PROBES, dim)
    answer = first_answer(function, np.random.default_rng(0).uniform(-1, 1, shape))
    pair = isinstance(answer, tuple | list)
    if pair and len(answer) != 2:
        raise coded_error(
            TypeError,
            "E651",
            f"value_and_gradient must return (log p̂, gradient), it returned {len(answer)} things",
        )
    value, gradient = answer if pair else (answer, None)
    rows = (2,) if batched else ()
    remedy = "one value per row" if batched else "sum over observations"
    _check_array("log p̂", value, rows, remedy)
    if pair:
        _check_array("a gradient", gradient, (*rows, dim), "one entry per coordinate")
    return pair


def _check_array(what: str, value: Any, shape: tuple[int, ...], remedy: str) -> None:
    """Refuse a part of the answer that is not an array of floats of this shape."""
    try:
        array = np.asarray(value)
    except (TypeError, ValueError) as error:
        raise coded_error(
            TypeError, "E651", f"value_and_gradient returned {what} that is not an array: {error}"
        ) from None
    if array.dtype.kind != "f":
        raise coded_error(
            TypeError,
            "E651",
            f"value_and_gradient returned {what} of dtype {array.dtype}, expected float64",
        )
    if array.shape != shape:
        raise coded_error(
            ValueError,
            "E651",
            f"value_and_gradient returned {what} of shape {array.shape}, expected {shape}: "
            f"{remedy}",
        )


def _arrangement(names: Sequence[str] | None, dim: int) -> tuple[Any, np.ndarray]:
    """The parameters' shapes, and the place of each coordinate of z among the user's."""
    if names is None:
        return np.zeros(dim), np.arange(dim)
    names = [names] if isinstance(names, str) else list(names)
    if len(names) != dim or len(set(names)) < dim:
        raise coded_error(
            ValueError,
            "E652",
            f"names must be {dim} different names, one per coordinate; given: {names}",
        )
    groups: dict[str, dict[tuple[int, ...], int]] = {}
    for place, name in enumerate(names):
        match = INDEXED_NAME.match(name)
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
            raise coded_error(
                ValueError,
                "E652",
                f"the entries of {base!r} in names do not make an array: {names}. Number them "
                "from 0, without gaps",
            )
        example[base] = np.zeros(shape)
        order += [entries[index] for index in np.ndindex(*shape)]
    return example, np.array(order)
