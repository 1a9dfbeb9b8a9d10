"""Supports: where a parameter lives, and the bijection that carries R^k onto it.

They are one table. Each entry names a region and gives the NumPyro constraint that describes it.
NumPyro's `biject_to` supplies the bijection and its log-Jacobian.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from jax.typing import ArrayLike
from numpyro.distributions import biject_to, constraints
from numpyro.distributions.transforms import Transform

from infimum.base.errors import coded_error

_CONSTRAINTS: dict[str, Callable[..., Any]] = {
    "real": lambda: constraints.real,
    "positive": lambda: constraints.positive,
    "negative": lambda: constraints.less_than(0.0),
    "unit_interval": lambda: constraints.unit_interval,
    "interval": constraints.interval,
    "greater_than": constraints.greater_than,
    "less_than": constraints.less_than,
    "simplex": lambda: constraints.simplex,
    "ordered": lambda: constraints.ordered_vector,
    "positive_ordered": lambda: constraints.positive_ordered_vector,
    "corr_cholesky": lambda: constraints.corr_cholesky,
    "zero_sum": constraints.zero_sum,
}


@dataclass(frozen=True, eq=False)
class Support:
    """A region of R^n and the smooth bijection from an unconstrained space onto it.

    Attributes
    ----------
    name
        Its name in this module, or "numpyro" for any other NumPyro constraint.
    arguments
        The bounds (scalars or arrays that broadcast to the parameter), or the number of zero-sum
        axes; most supports have none.
    constraint
        The NumPyro constraint.
    """

    name: str
    arguments: tuple[Any, ...]
    constraint: constraints.Constraint

    @property
    def transform(self) -> Transform:
        """The bijection from the unconstrained space onto this support."""
        return biject_to(self.constraint)

    @property
    def event_dim(self) -> int:
        """How many trailing axes of a parameter form one point of this support."""
        return int(self.constraint.event_dim)

    @property
    def portable(self) -> bool:
        """Whether its name and arguments are enough to rebuild it in another process."""
        return self.name in _CONSTRAINTS

    def __repr__(self) -> str:
        if not self.portable:
            return repr(self.constraint)
        return (
            f"{self.name}({', '.join(map(str, self.arguments))})" if self.arguments else self.name
        )


def named(name: str, *arguments: Any) -> Support:
    """The support of this name, for instance ``named("interval", 0.0, 1.0)``."""
    if name not in _CONSTRAINTS:
        raise coded_error(
            ValueError,
            "E130",
            f"unknown support {name!r}; known: {', '.join(sorted(_CONSTRAINTS))}",
        )
    return Support(name, arguments, _CONSTRAINTS[name](*arguments))


real = named("real")
positive = named("positive")
negative = named("negative")
unit_interval = named("unit_interval")
simplex = named("simplex")
ordered = named("ordered")
positive_ordered = named("positive_ordered")
corr_cholesky = named("corr_cholesky")


def interval(lower: ArrayLike, upper: ArrayLike) -> Support:
    """Numbers between two bounds; either bound may be an array."""
    if _concrete(lower, upper) and not np.all(np.asarray(lower) < np.asarray(upper)):
        raise coded_error(
            ValueError,
            "E131",
            f"interval({lower}, {upper}): the lower bound must be below the upper",
        )
    return named("interval", lower, upper)


def greater_than(lower: ArrayLike) -> Support:
    """Numbers above a bound, which may be an array."""
    return named("greater_than", lower)


def less_than(upper: ArrayLike) -> Support:
    """Numbers below a bound, which may be an array."""
    return named("less_than", upper)


def zero_sum(axes: int = 1) -> Support:
    """Arrays whose last `axes` axes each sum to zero."""
    return named("zero_sum", axes)


lower_bound = greater_than
upper_bound = less_than


def as_support(region: Any) -> Support:
    """Read a support that is written as a `Support`, as its name, or as a NumPyro constraint.

    Raises
    ------
    TypeError
        For anything else, and for discrete constraints.
    """
    if isinstance(region, Support):
        return region
    if isinstance(region, str):
        return named(region)
    if hasattr(region, "event_dim") and hasattr(region, "is_discrete"):
        if region.is_discrete:
            raise coded_error(
                TypeError,
                "E120",
                f"{region!r} is discrete; infimum needs continuous parameters: sum it out of "
                "the density",
            )
        return _from_constraint(region)
    raise coded_error(
        TypeError,
        "E130",
        f"{region!r} is not a support: give one of infimum.supports, its name "
        f"({', '.join(sorted(_CONSTRAINTS))}), a NumPyro constraint, or a function of the "
        "other parameters that returns one of these",
    )


def _from_constraint(constraint: constraints.Constraint) -> Support:
    """The support of a NumPyro constraint, by its own name if it has one: then it is portable."""
    base = constraint
    while isinstance(base, constraints.independent):
        base = base.base_constraint
    kind = type(base)
    if kind is constraints.interval or kind is type(constraints.unit_interval):
        return interval(base.lower_bound, base.upper_bound)
    if kind in (constraints.greater_than, constraints.greater_than_eq):
        return greater_than(base.lower_bound)
    if kind in (constraints.less_than, constraints.less_than_eq):
        return less_than(base.upper_bound)
    if kind is type(constraints.nonnegative):
        return positive
    if kind is constraints.zero_sum:
        return zero_sum(base.event_dim)
    if kind in (type(constraints.real_vector), type(constraints.real_matrix)):
        return real
    for support in (real, positive, simplex, ordered, positive_ordered, corr_cholesky):
        if kind is type(support.constraint):
            return support
    return Support("numpyro", (), constraint)


def _concrete(*values: Any) -> bool:
    """Whether these are numbers: bounds that depend on parameters are traced, and have no value."""
    return all(isinstance(value, (int, float, np.ndarray, np.generic)) for value in values)


def contains(support: Support, value: np.ndarray) -> bool:
    """Whether every event of a value lies in the closure of the support.

    Boundaries count as inside: 0.0 is accepted as an example of a positive parameter.
    """
    constraint = support.constraint
    if isinstance(constraint, constraints.interval):
        return bool(np.all((value >= constraint.lower_bound) & (value <= constraint.upper_bound)))
    if isinstance(constraint, constraints.greater_than):
        return bool(np.all(value >= constraint.lower_bound))
    if isinstance(constraint, constraints.less_than):
        return bool(np.all(value <= constraint.upper_bound))
    return bool(np.all(constraint(value)))
