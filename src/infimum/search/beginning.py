"""The beginning of a search that a user chose: a point, or a q that is there already."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from infimum.families._distribution import Distribution
from infimum.families._family import Family, Stacking


@dataclass(frozen=True, eq=False)
class Beginning:
    """Where a user wants a search to begin.

    Attributes
    ----------
    point
        An unconstrained point of finite density, shape (d,).
    scale
        The sd of each coordinate around it, shape (d,); None if an ascent is to find it.
    gaussian
        A Gaussian with the mean and covariance of the user's draws, if there are enough of them.
    q, family
        The q of the user's fit in the same coordinates, with its family.
    """

    point: Float[np.ndarray, " d"]
    scale: Float[np.ndarray, " d"] | None = None
    gaussian: Distribution | None = None
    q: Distribution | None = None
    family: Family | None = None

    def based(self, family: Family) -> Family:
        """The family; one that is built on another family, on that of the user's fit."""
        if not isinstance(family, Stacking) or self.family is None:
            return family
        return family if type(self.family) is type(family) else family.on(self.family)

    def q_for(self, family: Family) -> Distribution | None:
        """The q of the user's fit, if the search of a family can begin at it; else None."""
        if self.q is None or (isinstance(family, Stacking) and self._differs_from(family)):
            return None
        return None if _member(family, self.q) is None else self.q

    def own_member(self, family: Family) -> Distribution | None:
        """The q of the user's fit, if it is a member of this family; else None."""
        q = self.q_for(family)
        member = None if q is None else _member(family, q)
        return member if type(member) is type(q) else None

    def member(self, family: Family) -> Distribution | None:
        """The member of a family nearest to the user's draws or fit; None for a point alone."""
        if self.scale is None:
            return None
        members = [_member(family, q) for q in (self.q, self.gaussian) if q is not None]
        near = [member for member in members if member is not None]
        return near[0] if near else family.init(self.point, self.scale)

    def _differs_from(self, family: Family) -> bool:
        """Whether the user's fit is of the same family with other options."""
        return type(self.family) is type(family) and repr(self.family) != repr(family)


def _member(family: Family, q: Distribution) -> Distribution | None:
    """The member nearest to q; None if the family can't start from such a q."""
    try:
        return family.start_from(q)
    except TypeError:
        return None
