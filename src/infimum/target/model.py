"""The contract of a model: what a source knows beyond log p̂, such as data and predictions."""

from __future__ import annotations

import abc
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from infimum.base.errors import coded_error
from infimum.target.hierarchy import Hierarchy

Arrays = Mapping[str, Any]
"""Arrays by name. Draws have a leading axis n."""


class Model(abc.ABC):
    """A model of data whose posterior is the target.

    Attributes
    ----------
    library
        The library that the model is written in.
    unknown_constant
        Why the additive constant of log p̂ is not known, so that log Z says nothing; None if it
        is known.
    """

    library: str
    unknown_constant: str | None = None

    @abc.abstractmethod
    def dims(self) -> dict[str, Sequence[str]]:
        """Names of the axes of each quantity that has named axes."""

    @abc.abstractmethod
    def coords(self) -> dict[str, Sequence[Any]]:
        """Labels along the named axes."""

    @abc.abstractmethod
    def observed(self) -> dict[str, np.ndarray]:
        """The data that the model explains, by site."""

    @abc.abstractmethod
    def constant(self) -> dict[str, np.ndarray]:
        """The data that the model conditions on, such as covariates."""

    @abc.abstractmethod
    def predict(
        self, draws: Arrays, seed: int, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> dict[str, np.ndarray]:
        """A draw of the observed sites for each draw of the parameters.

        Parameters
        ----------
        args, kwargs
            New data, in the form in which this kind of model takes data; none for its own data.
        """

    @abc.abstractmethod
    def log_likelihood(self, draws: Arrays) -> dict[str, np.ndarray]:
        """log p(x_n | z) of each observation, by site: shape (n, ...), in nats."""


class Hierarchical(Model):
    """Capability: a model that knows which of its coordinates have locations and scales."""

    @abc.abstractmethod
    def hierarchy(self, space: Any, rng: np.random.Generator) -> Hierarchy | None:
        """The location-scale hierarchy among the coordinates of the space; None if there is none.

        Parameters
        ----------
        rng
            Chooses the points at which the model is examined.
        """


class Labels(Model):
    """A model of which only names and labels of axes are known: it has no data, and no code.

    Parameters
    ----------
    dims, coords
        As the model had them.
    refusals
        What the errors say when predictions are asked for, and the log-likelihood.
    unknown_constant
        As the model had it.
    """

    library = "infimum"

    def __init__(
        self,
        dims: Mapping[str, Sequence[str]],
        coords: Mapping[str, Sequence[Any]],
        refusals: tuple[str, str],
        unknown_constant: str | None = None,
    ) -> None:
        self.unknown_constant = unknown_constant
        self._dims = {str(name): [str(axis) for axis in axes] for name, axes in dims.items()}
        self._coords = {str(name): list(labels) for name, labels in coords.items()}
        self._refusals = refusals

    def dims(self) -> dict[str, Sequence[str]]:
        """Names of the axes of each quantity, as they were given."""
        return dict(self._dims)

    def coords(self) -> dict[str, Sequence[Any]]:
        """Labels along the named axes, as they were given."""
        return dict(self._coords)

    def observed(self) -> dict[str, np.ndarray]:
        """Nothing: the data are not known."""
        return {}

    def constant(self) -> dict[str, np.ndarray]:
        """Nothing: the data are not known."""
        return {}

    def predict(
        self, draws: Arrays, seed: int, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> dict[str, np.ndarray]:
        """Raise ValueError: there is no code to predict with."""
        raise coded_error(ValueError, "E431", self._refusals[0])

    def log_likelihood(self, draws: Arrays) -> dict[str, np.ndarray]:
        """Raise ValueError: there is no code of the likelihood."""
        raise coded_error(ValueError, "E432", self._refusals[1])


DENSITY = Labels(
    {},
    {},
    (
        "this target is a log density, which says nothing about new data: compute predictions "
        "from fit.sample(n), or state the model with from_numpyro, from_pymc or from_stan",
        "this target is a log density, which does not tell observations apart: state the model "
        "with from_numpyro or from_pymc, or with from_stan and log_lik in generated quantities",
    ),
)
"""The model of a bare log density: nothing is known besides log p̂."""
