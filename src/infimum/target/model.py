"""The contract of a model: what a source knows beyond log p̂, for predictions and for ArviZ."""

from __future__ import annotations

import abc
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from infimum.base.errors import coded
from infimum.target.hierarchy import Hierarchy

Arrays = Mapping[str, Any]
"""Arrays by name; draws have a leading axis n."""


class Model(abc.ABC):
    """A model of data whose posterior is the target.

    Attributes
    ----------
    library
        Whose model it is.
    """

    library: str

    @abc.abstractmethod
    def dims(self) -> dict[str, Sequence[str]]:
        """Names of the axes of each quantity, where the model has some."""

    @abc.abstractmethod
    def coords(self) -> dict[str, Sequence[Any]]:
        """Labels along the named axes."""

    @abc.abstractmethod
    def observed(self) -> dict[str, np.ndarray]:
        """The data that the model explains, by site."""

    @abc.abstractmethod
    def constant(self) -> dict[str, np.ndarray]:
        """The data that it takes as given."""

    @abc.abstractmethod
    def predict(
        self, draws: Arrays, seed: int, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> dict[str, np.ndarray]:
        """A draw of the observed sites for each draw of the parameters.

        Parameters
        ----------
        args, kwargs
            New data, in the form in which this kind of model takes data; none for its own.
        """

    @abc.abstractmethod
    def log_likelihood(self, draws: Arrays) -> dict[str, np.ndarray]:
        """log p(x_n | z) of each observation, by site: shape (n, ...), in nats."""


class Hierarchical(Model):
    """Capability: a model that knows which of its coordinates have locations and scales."""

    @abc.abstractmethod
    def hierarchy(self, space: Any, rng: np.random.Generator) -> Hierarchy | None:
        """The location-scale hierarchy among the coordinates of the space; None without any.

        Parameters
        ----------
        rng
            For the points at which the model is looked at.
        """


class Labels(Model):
    """Names and labels of axes at most: no data, and no code to predict with.

    Parameters
    ----------
    dims, coords
        As a model had them.
    refusals
        What is said to those who ask for predictions, and for the log-likelihood.
    """

    library = "infimum"

    def __init__(
        self,
        dims: Mapping[str, Sequence[str]],
        coords: Mapping[str, Sequence[Any]],
        refusals: tuple[str, str],
    ) -> None:
        self._dims = {str(name): [str(axis) for axis in axes] for name, axes in dims.items()}
        self._coords = {str(name): list(labels) for name, labels in coords.items()}
        self._refusals = refusals

    def dims(self) -> dict[str, Sequence[str]]:
        """As given."""
        return dict(self._dims)

    def coords(self) -> dict[str, Sequence[Any]]:
        """As given."""
        return dict(self._coords)

    def observed(self) -> dict[str, np.ndarray]:
        """None known."""
        return {}

    def constant(self) -> dict[str, np.ndarray]:
        """None known."""
        return {}

    def predict(
        self, draws: Arrays, seed: int, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> dict[str, np.ndarray]:
        """Refuse."""
        raise ValueError(coded("E431", self._refusals[0]))

    def log_likelihood(self, draws: Arrays) -> dict[str, np.ndarray]:
        """Refuse."""
        raise ValueError(coded("E432", self._refusals[1]))


DENSITY = Labels(
    {},
    {},
    (
        "this target is a log density, which says nothing of new data: compute predictions from "
        "fit.sample(n), or state the model with from_numpyro, from_pymc or from_stan",
        "this target is a log density, which does not tell observations apart: state the model "
        "with from_numpyro or from_pymc, or with from_stan and log_lik in generated quantities",
    ),
)
"""No model: a bare log density."""
