"""The family Q: what every family provides, and the capability of being Gaussian.

A `Family` names a set of distributions; `Family.init` places one member of it, a `Distribution`.
A distribution is a pytree whose real leaves are unconstrained: any values of them are a member of
the family, so that every optimiser may move them freely. Leaves of integers say how it is built.
"""

from __future__ import annotations

import abc
from collections.abc import Sequence
from typing import ClassVar, Literal, NamedTuple

import equinox as eqx
import numpy as np

from infimum.families._distribution import Distribution, Pooled
from infimum.target.target import Target


class Left(NamedTuple):
    """What is left between a fit and the posterior, in nats, apart by what would remove it.

    Attributes
    ----------
    correlation
        What q would gain from a dense covariance.
    modes
        Mass that q does not cover, at optima that are known.
    shape
        The rest: skew, tails, curved dependence.
    """

    correlation: float
    modes: float
    shape: float


class Promise(NamedTuple):
    """What a rung may gain, and what that may cost.

    Attributes
    ----------
    gain
        Nats.
    gradients
        Gradients of log p̂.
    seconds
        Besides these: compilation, and the family's own arithmetic.
    """

    gain: float
    gradients: float
    seconds: float


class Family(eqx.Module):
    """A set Q of distributions. Its fields are what a user may choose about it.

    Attributes
    ----------
    name
        What it is called: `infimum.fit(target, name)`. A family's own fields are plain numbers and
        strings, for the file of a fit.
    correlations
        Which correlations between coordinates its members can have: none, some, those that the
        target couples, or all.
    below
        The family whose fit this one starts from; without one it finds starts of its own.
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
        """A member from its leaves by name, as `Distribution.arrays` gives them."""

    @abc.abstractmethod
    def n_parameters(self, dim: int) -> int:
        """How many numbers say which member q is."""

    @abc.abstractmethod
    def promise(self, left: Left, dim: int) -> Promise:
        """What this family would make of what another one has left."""


class Stacking(Family):
    """Capability: a family on top of any other one."""

    @abc.abstractmethod
    def on(self, family: Family) -> Family:
        """The same on that base."""


class Pooling(Family):
    """Capability: a family with room for several optima of another one."""

    @abc.abstractmethod
    def start_from_all(self, qs: Sequence[Distribution], log_masses: Sequence[float]) -> Pooled:
        """The member made of all of these.

        Parameters
        ----------
        qs
            Gaussians.
        log_masses
            log ∫ p̂ near each of them, such as its ELBO, in nats.
        """


class Adaptive(Family):
    """Capability: a family that looks at its target before it can place a member."""

    @abc.abstractmethod
    def adapted(self, target: Target, rng: np.random.Generator) -> Family:
        """Look at one target: the family ready for `init` and `start_from`.

        Raises
        ------
        UnsuitableError
            If the target is none for this family.
        """


class Branching(Family):
    """Capability: a family with several places to go on to from another one's fit."""

    @abc.abstractmethod
    def starts_from(self, q: Distribution) -> list[Distribution]:
        """Members to start from, `start_from(q)` among them; the fit that ends best is kept."""


class Directed(Family):
    """Capability: a family whose start also depends on the target where q is."""

    @abc.abstractmethod
    def start_at(self, q: Distribution, target: Target, rng: np.random.Generator) -> Distribution:
        """As `start_from`, having looked at the target around q.

        Raises
        ------
        UnsuitableError
            If there is no start from that q.
        """


class Measured(Family):
    """Capability: a family that knows how much memory its fit takes."""

    @abc.abstractmethod
    def n_bytes(self, dim: int) -> int:
        """Largest memory of a fit with the default starts, besides JAX's own and the target's."""


class Growing(Family):
    """Capability: a family whose fit chooses some of its fields, such as a rank."""

    @abc.abstractmethod
    def settled(self, q: Distribution) -> Family:
        """The family with what the fit chose in the place of what was left open."""
