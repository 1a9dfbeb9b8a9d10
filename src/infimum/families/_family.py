"""The contract of a family Q, and what a family can do beyond it: its capabilities.

A `Family` names a set of distributions; `Family.init` places one member of it, a `Distribution`.
A distribution is a pytree whose real leaves are unconstrained: any values of them are a member of
the family, so that every optimiser may move them freely. Integer leaves say how it is built.
"""

from __future__ import annotations

import abc
from collections.abc import Sequence
from typing import ClassVar, Literal, NamedTuple, NoReturn

import equinox as eqx
import numpy as np

from infimum.base.errors import coded_error
from infimum.families._distribution import Distribution, Pooled
from infimum.target.target import Target


class Left(NamedTuple):
    """What is left between a fit and the posterior, in nats, by what would remove it.

    Attributes
    ----------
    correlation
        What a dense covariance would remove.
    modes
        What the mass at other known optima would remove.
    shape
        The rest: skew, tails, curved dependence.
    """

    correlation: float
    modes: float
    shape: float


class Promise(NamedTuple):
    """A prediction of what a fit of a family gains, and what it costs.

    Attributes
    ----------
    gain
        Nats of the remaining KL that it removes.
    gradients
        Gradients of log p̂ that it takes.
    seconds
        Time besides the gradients: compilation, and the family's own arithmetic.
    """

    gain: float
    gradients: float
    seconds: float


class Family(eqx.Module):
    """A set Q of distributions. Its fields are what a user may choose about it.

    Attributes
    ----------
    name
        What it is called: `infimum.fit(target, name)`. The fields of a family are plain numbers and
        strings, so that the file of a fit can hold them.
    correlations
        Which correlations between coordinates its members can have: none, some, those that the
        target couples, or all.
    below
        The family whose fit this one starts from; None if it finds its own starts.
    libraries, extra
        Optional libraries that its fit needs, and the extra of this package that brings them. If
        one is missing, a fit is refused before any work, and a climb skips the rung.
    """

    name: ClassVar[str]
    correlations: ClassVar[Literal["none", "some", "coupled", "all"]] = "all"
    below: ClassVar[str | None] = None
    libraries: ClassVar[tuple[str, ...]] = ()
    extra: ClassVar[str] = ""

    @abc.abstractmethod
    def init(self, mean: np.ndarray, scale: np.ndarray) -> Distribution:
        """The member nearest to independent normals of this mean and sd, each of shape (d,)."""

    @abc.abstractmethod
    def start_from(self, q: Distribution) -> Distribution:
        """The member nearest to `q`, a member of another family."""

    @abc.abstractmethod
    def from_arrays(self, arrays: dict[str, np.ndarray]) -> Distribution:
        """The member with these leaves, named as in `Distribution.arrays`."""

    @abc.abstractmethod
    def n_parameters(self, dim: int) -> int:
        """How many free numbers a member in d dimensions has."""

    @abc.abstractmethod
    def promise(self, left: Left, dim: int) -> Promise:
        """Predict how much of another fit's remaining KL this family removes, and the cost."""


class Stacking(Family):
    """Capability: a family that is built on any other one."""

    @abc.abstractmethod
    def on(self, family: Family) -> Family:
        """The same family on another base."""


class Pooling(Family):
    """Capability: a family whose members can hold several optima of another one."""

    @abc.abstractmethod
    def start_from_all(self, qs: Sequence[Distribution], log_masses: Sequence[float]) -> Pooled:
        """The member that joins all of these.

        Parameters
        ----------
        qs
            Gaussians.
        log_masses
            log ∫ p̂ near each Gaussian, such as its ELBO, in nats.
        """


class Adaptive(Family):
    """Capability: a family that has to know its target before it can place a member."""

    @abc.abstractmethod
    def adapted(self, target: Target, rng: np.random.Generator) -> Family:
        """The family for one target, ready for `init` and `start_from`.

        Raises
        ------
        UnsuitableError
            If the family can't be used for this target.
        """


class Branching(Family):
    """Capability: a family with several starts from one fit of another family."""

    @abc.abstractmethod
    def starts_from(self, q: Distribution) -> list[Distribution]:
        """Members to start from, including `start_from(q)`; the fit that ends best is kept."""


class Directed(Family):
    """Capability: a family whose start depends on the target around q."""

    @abc.abstractmethod
    def start_at(self, q: Distribution, target: Target, rng: np.random.Generator) -> Distribution:
        """As `start_from`, with knowledge of the target around q.

        Raises
        ------
        UnsuitableError
            If there is no start from that q.
        """


class Measured(Family):
    """Capability: a family that can predict the memory of its fit."""

    @abc.abstractmethod
    def n_bytes(self, dim: int) -> int:
        """Peak memory of a fit with the default starts, without what JAX and the target take."""


class Growing(Family):
    """Capability: a family whose fit chooses some of its fields, such as a rank."""

    @abc.abstractmethod
    def settled(self, q: Distribution) -> Family:
        """The family with the fields that the fit has chosen for q."""


class Searched(Family):
    """Capability: a family whose member is found by a search of its own, at the target.

    No member can be placed without a target, and no solver moves one. If `below` names a family,
    the search begins at the fit of that.
    """

    @abc.abstractmethod
    def check(self, target: Target) -> None:
        """Raise UnsuitableError if it shows without any work that the target is none for it."""

    def init(self, mean: np.ndarray, scale: np.ndarray) -> Distribution:
        """Refuse."""
        self._refuse()

    def start_from(self, q: Distribution) -> Distribution:
        """Refuse."""
        self._refuse()

    def _refuse(self) -> NoReturn:
        raise coded_error(
            TypeError,
            "E202",
            f"{self.name} can't start from another q: its search begins at the target itself. "
            "Leave out what it should start from",
        )


def arrays_below(folder: str, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The arrays of one folder, by their names in it: those of one field of a distribution."""
    start = f"{folder}/"
    return {name[len(start) :]: x for name, x in arrays.items() if name.startswith(start)}
