"""The contract of a space: what a point z of R^d means in the model's own quantities."""

from __future__ import annotations

import abc
import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jax.tree_util import PyTreeDef
from jaxtyping import Bool, Float, PyTree

from infimum.base.errors import coded_error

NO_COORDINATE = -1
"""Stands for the coordinate of a quantity that is a function of several coordinates of z."""

MOST_SHOWN = 8
"""Quantities of a point that a message shows."""

MOST_LISTED = 20
"""Names that the message about an unknown name lists."""


@dataclass(frozen=True)
class Leaf:
    """One array of a draw.

    Attributes
    ----------
    name
        Its path in the pytree, `theta` or `group.scale`; empty for a bare vector.
    shape
        Shape of its value at one point.
    derived
        Whether it is computed from the parameters: a deterministic site, a generated quantity.
    noisy
        Whether it is random given the parameters, or the log-likelihood of single observations. It
        does not count for a fit's verdict, because its rare values say nothing about q.
    """

    name: str
    shape: tuple[int, ...]
    derived: bool = False
    noisy: bool = False

    @property
    def label(self) -> str:
        """Its name; `z` for a bare vector."""
        return self.name or "z"

    def scalars(self) -> list[str]:
        """The names of its scalar quantities in ArviZ's form: `tau`, `theta[0]`, `L[1, 0]`."""
        if not self.shape:
            return [self.label]
        return [f"{self.label}[{', '.join(map(str, index))}]" for index in np.ndindex(*self.shape)]


class Space(abc.ABC):
    """What the points of R^d mean: the parameters, and what the model derives from them.

    Attributes
    ----------
    dim
        d, the number of unconstrained coordinates.
    leaves
        The arrays of a draw, in the order of the pytree `treedef`.
    treedef, structure
        Structure of a draw, and of its parameters alone.
    """

    dim: int
    leaves: tuple[Leaf, ...]
    treedef: PyTreeDef
    structure: PyTreeDef

    @property
    @abc.abstractmethod
    def free_names(self) -> list[str]:
        """A name for each coordinate of z."""

    @abc.abstractmethod
    def draws(self, z: Float[np.ndarray, "n d"]) -> PyTree:
        """The quantities at each row: float64 arrays with leading axis n."""

    @abc.abstractmethod
    def invert(
        self, flat: Float[np.ndarray, "n k"]
    ) -> tuple[Float[np.ndarray, "n d"], Float[np.ndarray, " n"]]:
        """The inverse of `draws`: z, and log |det dparams/dz| there.

        Parameters
        ----------
        flat
            The parameters side by side, in the order of `leaves`, each in C order.
        """

    @abc.abstractmethod
    def coordinates(self) -> list[int]:
        """For each of `names` the one coordinate of z that decides it, or `NO_COORDINATE`."""

    def free(self, draws: PyTree) -> tuple[Float[np.ndarray, "*n d"], np.ndarray | np.float64]:
        """Points z of these draws, and log |det dparams/dz| there.

        Parameters
        ----------
        draws
            As `draws` gives them, or the parameters alone, with a leading axis n; or one point
            without it.

        Returns
        -------
        Shapes (n, d) and (n,); (d,) and () for one point.
        """
        own = [leaf for leaf in self.leaves if not leaf.derived]
        values = [np.asarray(x, np.float64) for x in self._parameters(draws)]
        point = values[0].ndim == len(own[0].shape)
        for leaf, value in zip(own, values, strict=True):
            if value.shape[value.ndim - len(leaf.shape) :] != leaf.shape:
                shapes = f"{leaf.shape}, or that with one leading axis"
                raise coded_error(
                    ValueError,
                    "E411",
                    f"parameter {leaf.name!r} has shape {value.shape}, not {shapes}",
                )
        z, log_jacobian = self.invert(columns([x[None] if point else x for x in values]))
        return (z[0], log_jacobian[0]) if point else (z, log_jacobian)

    def _parameters(self, tree: PyTree) -> list[Any]:
        """The parameters of a draw, in the order of `leaves`."""
        values, treedef = jax.tree_util.tree_flatten(tree)
        if treedef == self.structure:
            return values
        if treedef == self.treedef:
            return [x for x, leaf in zip(values, self.leaves, strict=True) if not leaf.derived]
        raise coded_error(
            ValueError,
            "E411",
            f"draws of structure {treedef}, expected {self.structure}, as fit.sample gives them",
        )

    @functools.cached_property
    def names(self) -> list[str]:
        """Names of the scalar quantities, in the order of a flattened draw."""
        return [name for leaf in self.leaves for name in leaf.scalars()]

    @functools.cached_property
    def judged(self) -> Bool[np.ndarray, " k"]:
        """Which of `names` count for a fit's verdict: all that are not noisy."""
        return np.array([not leaf.noisy for leaf in self.leaves for _ in leaf.scalars()], bool)

    def describe(self, z: Float[np.ndarray, " d"]) -> str:
        """The first parameters at one point in words, for messages."""
        try:
            values = np.concatenate(
                [np.ravel(x) for x in jax.tree_util.tree_leaves(self.draws(z[None]))]
            )
            names = self.names
        except Exception:  # the point gave trouble before: the model may refuse it here too
            values, names = z, self.free_names
        shown = [f"{name} = {x:.4g}" for name, x in zip(names, values, strict=True)][:MOST_SHOWN]
        return ", ".join(shown) + (", ..." if len(values) > MOST_SHOWN else "")


def positions(known: Sequence[str], names: Sequence[str]) -> list[int]:
    """Where these quantities stand among the known ones.

    Parameters
    ----------
    names
        One name or several; the name of a parameter stands for all of its entries.
    """
    places: list[int] = []
    for name in [names] if isinstance(names, str) else names:
        inside = (f"{name}[", f"{name}.")
        matches = [i for i, k in enumerate(known) if k == name or k.startswith(inside)]
        if not matches:
            raise coded_error(
                ValueError,
                "E410",
                f"no quantity {name!r}; there are {', '.join(known[:MOST_LISTED])}",
            )
        places += matches
    return places


def columns(draws: PyTree) -> Float[np.ndarray, "n k"]:
    """Draws of every scalar quantity side by side, each array in C order."""
    leaves = jax.tree_util.tree_leaves(draws)
    return np.concatenate([np.reshape(x, (len(x), -1)) for x in leaves], axis=1)


class SourceSpace(Space):
    """A space whose quantities the source computes: arrays by name.

    Parameters
    ----------
    leaves
        What a draw consists of, in any order.
    free_names
        A name for each coordinate.
    draws
        (n, d) points to arrays by name.
    invert
        As `Space.invert`; the parameters stand in the order of their names.
    coordinates
        For scalar names of parameters, the one coordinate that decides each.
    """

    def __init__(
        self,
        leaves: Sequence[Leaf],
        free_names: Sequence[str],
        draws: Callable[[np.ndarray], dict[str, np.ndarray]],
        invert: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]],
        coordinates: Mapping[str, int] | None = None,
    ) -> None:
        self.leaves = tuple(sorted(leaves, key=lambda leaf: leaf.name))
        self.dim = len(free_names)
        self.treedef = _structure([leaf.name for leaf in self.leaves])
        self.structure = _structure([leaf.name for leaf in self.leaves if not leaf.derived])
        self._free_names = list(free_names)
        self._draws = draws
        self._invert = invert
        self._coordinates = dict(coordinates or {})

    @property
    def free_names(self) -> list[str]:
        """The names that the source gave."""
        return self._free_names

    def draws(self, z: Float[np.ndarray, "n d"]) -> PyTree:
        """Arrays by name, in float64."""
        drawn = self._draws(z)
        return {leaf.name: np.asarray(drawn[leaf.name], np.float64) for leaf in self.leaves}

    def invert(
        self, flat: Float[np.ndarray, "n k"]
    ) -> tuple[Float[np.ndarray, "n d"], Float[np.ndarray, " n"]]:
        """By the source's function."""
        return self._invert(flat)

    def coordinates(self) -> list[int]:
        """The coordinates that the source gave, `NO_COORDINATE` for all other quantities."""
        return [self._coordinates.get(name, NO_COORDINATE) for name in self.names]


def _structure(names: Sequence[str]) -> PyTreeDef:
    return jax.tree_util.tree_structure(dict.fromkeys(names, 0))
