"""The family Q: what every family provides, and the capability of being Gaussian.

A `Family` names a set of distributions; `Family.init` places one member of it, a `Distribution`.
A distribution is a pytree whose real leaves are unconstrained: any values of them are a member of
the family, so that every optimiser may move them freely. Leaves of integers say how it is built.
"""

from __future__ import annotations

import abc
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from infimum._stack import LOG_2PI as LOG_2PI
from infimum._stack import Stack
from infimum._target import Target

LARGEST_FACTOR = 20.0
"""One natural-gradient step changes no precision by more than this factor. Within [1/20, 20] cold
starts solved 43 of 47 posteriordb posteriors; without a limit q collapses far from the mode."""

SINGULAR = 1e-12
"""Curvatures below this part of the largest are rounding: 1e-12 leaves room for condition numbers
of 1e8 at the sixteen digits of float64."""

LARGEST_DENSE = 2000
"""Largest d for which a d×d curvature is formed: 32 MB, an eigendecomposition of seconds."""


def bounded(precision: np.ndarray) -> np.ndarray:
    """Keep the whitened precisions of one step within `LARGEST_FACTOR`."""
    return np.clip(precision, 1 / LARGEST_FACTOR, LARGEST_FACTOR)


class Distribution(eqx.Module):
    """A member q of a family, over R^d. One point, one key: batches are `vmap`'s business.

    Attributes
    ----------
    portable
        Whether its arrays say all of it. If not, a file holds draws from it in their place.
    """

    portable: ClassVar[bool] = True

    if not TYPE_CHECKING:
        __getattribute__ = object.__getattribute__
        """Equinox wraps each method, whenever it is read, in a module of its own, which can be an
        argument of compiled functions. That took 22 % of a fit of the eight schools, and here q
        itself is the argument."""

    @property
    @abc.abstractmethod
    def dim(self) -> int:
        """D."""

    @abc.abstractmethod
    def sample(self, key: PRNGKeyArray) -> Float[Array, " d"]:
        """One draw, differentiable in the leaves of q."""

    @abc.abstractmethod
    def log_prob(self, z: Float[Array, " d"]) -> Float[Array, ""]:
        """log q(z) in nats."""

    @abc.abstractmethod
    def sample_and_log_prob(self, key: PRNGKeyArray) -> tuple[Float[Array, " d"], Float[Array, ""]]:
        """One draw and log q there, at less cost than the two apart."""

    def arrays(self) -> dict[str, np.ndarray]:
        """Every leaf by the path to it, as `Family.from_arrays` takes them."""
        leaves = jax.tree_util.tree_leaves_with_path(self)
        return {
            jax.tree_util.keystr(path, simple=True, separator="/"): np.asarray(leaf)
            for path, leaf in leaves
        }


class Hosted(Distribution):
    """Capability: batches by NumPy, on the host, with nothing to compile."""

    @abc.abstractmethod
    def draw(self, rng: np.random.Generator, n: int) -> Float[np.ndarray, "n d"]:
        """N draws, each of them one from q."""

    @abc.abstractmethod
    def log_density(self, z: Float[np.ndarray, "n d"]) -> Float[np.ndarray, " n"]:
        """log q at each row."""


class Pooled(Hosted):
    """Capability: q = Σ_k w_k N(m_k, L_k L_kᵀ), with at most so many components."""

    most: eqx.AbstractVar[int]

    @abc.abstractmethod
    def stack(self) -> Stack:
        """The components and their weights."""

    @abc.abstractmethod
    def restacked(self, stack: Stack) -> Pooled:
        """The member with these components."""


class UnsuitableError(ValueError):
    """A family can't serve this target; the message says why, and a climb skips the rung."""


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
    below
        The family whose fit this one starts from; without one it finds starts of its own.
    """

    name: ClassVar[str]
    below: ClassVar[str | None] = None

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


class Chart(abc.ABC):
    """Coordinates of a family around one member, in which the KL's Hessian is near I."""

    size: int

    @abc.abstractmethod
    def move(self, theta: np.ndarray) -> Any:
        """The member at these coordinates; the origin is the chart's own member."""

    @abc.abstractmethod
    def pull(self, theta: np.ndarray, eps: np.ndarray, score: np.ndarray) -> np.ndarray:
        """Gradient of the loss over the draws `move(theta).push(eps)`.

        Parameters
        ----------
        eps
            Base draws, shape (n, d).
        score
            Gradient of log p̂ at the draws, shape (n, d).
        """


class Pushforward(Distribution):
    """Capability: z = T(ε) with ε ~ N(0, I) and T a bijection of R^d.

    Its methods take NumPy arrays, on the host, over batches; and JAX arrays.
    """

    @abc.abstractmethod
    def push(self, eps: Any) -> Any:
        """T(ε) for ε of shape (..., d)."""

    @abc.abstractmethod
    def pull_back(self, z: Any) -> Any:
        """ε = T⁻¹(z) for z of shape (..., d) with at most one leading axis."""

    @abc.abstractmethod
    def log_prob_base(self, eps: Any) -> Any:
        """log q(push(eps)) for base draws of shape (..., d)."""

    def sample(self, key: PRNGKeyArray) -> Float[Array, " d"]:
        """One draw."""
        return self.push(jax.random.normal(key, (self.dim,), dtype=jnp.result_type(float)))

    def log_prob(self, z: Float[Array, " d"]) -> Float[Array, ""]:
        """log q(z)."""
        return self.log_prob_base(self.pull_back(z))

    def sample_and_log_prob(self, key: PRNGKeyArray) -> tuple[Float[Array, " d"], Float[Array, ""]]:
        """One draw and log q there; T is not inverted."""
        eps = jax.random.normal(key, (self.dim,), dtype=jnp.result_type(float))
        return self.push(eps), self.log_prob_base(eps)


class Layered(Pushforward):
    """Capability: z = T(f(ε)), a flow f on the draws of a fitted base, of which only f moves.

    These methods take JAX arrays, over batches, inside a compiled loop.

    Attributes
    ----------
    base
        The distribution of T(ε).
    """

    base: eqx.AbstractVar[Any]

    @abc.abstractmethod
    def flow(self, eps: Any) -> Any:
        """y = f(ε) for ε of shape (n, d)."""

    @abc.abstractmethod
    def land(self, y: Any) -> tuple[Any, Any]:
        """z = T(y) and log q(z), for y = f(ε) of shape (n, d)."""

    @abc.abstractmethod
    def moving(self) -> Any:
        """f, a pytree."""

    @abc.abstractmethod
    def moved(self, f: Any) -> Layered:
        """The member with another f."""


class Charted(Pushforward):
    """Capability: coordinates around a member, and the error of draws: for the fixed-draw solver.

    These methods take NumPy arrays, on the host, over batches.

    Attributes
    ----------
    flat
        Whether some coordinates may hardly matter: a search then ends before it has settled these.
    """

    flat: ClassVar[bool] = False

    @abc.abstractmethod
    def curvature(self, eps: np.ndarray, score: np.ndarray) -> np.ndarray | None:
        """What these draws and the scores there say of the curvature that `chart` wants."""

    @abc.abstractmethod
    def chart(self, curvature: np.ndarray | None) -> Chart:
        """Coordinates around this member, preconditioned by the curvature if there is one."""

    @abc.abstractmethod
    def sampling_error(self, eps: np.ndarray, score: np.ndarray) -> float:
        """Expected excess of the loss, in nats, at the optimum found with these draws.

        Half the trace of the gradient's sampling variance in natural coordinates. What whitened
        draws integrate exactly has no variance.

        Parameters
        ----------
        eps
            Base draws in antithetic pairs, the second half minus the first, shape (n, d).
        score
            Gradient of log p̂ at the draws, shape (n, d).
        """


class NaturalGradient(Charted):
    """Capability: natural-gradient steps in ε, with a curvature that is held as a d×d matrix."""

    @abc.abstractmethod
    def slope(self, eps: np.ndarray, score: np.ndarray) -> np.ndarray:
        """Gradient of log p̂(T(ε)) + log |det T'(ε)| in ε, shape (n, d).

        Parameters
        ----------
        score
            Gradient of log p̂ at the draws T(ε), shape (n, d).
        """

    @abc.abstractmethod
    def natural_step(self, pull: np.ndarray, curvature: np.ndarray, rho: float) -> NaturalGradient:
        """Member reached by a natural-gradient step of size rho.

        Parameters
        ----------
        pull
            Mean of the slopes, shape (d,).
        curvature
            Minus the mean of their derivatives, shape (d, d), not necessarily symmetric.
        """

    @abc.abstractmethod
    def decrement(self, pull: np.ndarray, curvature: np.ndarray) -> float:
        """Nats by which the loss is above its minimum if log p̂ is quadratic in ε."""


class Gaussian(Pushforward):
    """Capability: z = mean + L ε with ε ~ N(0, I)."""

    mean: eqx.AbstractVar[Any]

    @abc.abstractmethod
    def spread(self, eps: Any) -> Any:
        """L ε for ε of shape (..., d)."""

    @abc.abstractmethod
    def log_det(self) -> Any:
        """log |det L|."""

    @abc.abstractmethod
    def whiten(self, score: np.ndarray) -> np.ndarray:
        """Lᵀ s for scores of shape (n, d): the gradient with respect to ε."""

    @abc.abstractmethod
    def variance(self) -> np.ndarray:
        """Marginal variances, shape (d,)."""

    def push(self, eps: Any) -> Any:
        """z = mean + L ε for ε of shape (..., d)."""
        return self.mean + self.spread(eps)

    def log_prob_base(self, eps: Any) -> Any:
        """log q(push(eps)) for base draws of shape (..., d)."""
        return -0.5 * (eps**2).sum(-1) - self.log_det() - 0.5 * self.dim * LOG_2PI


class Apart(Layered):
    """Capability: a Gaussian base, and f confined to some directions B of its draws, or to all.

    f(ε) = ε + B (g(Bᵀε) - Bᵀε), and g can be trained with the base, and the target, on the host.
    """

    base: eqx.AbstractVar[Gaussian]

    @abc.abstractmethod
    def inner(self) -> Layered:
        """G on independent standard normals, with the same moving part."""

    @abc.abstractmethod
    def within(self, x: Any) -> Any:
        """Bᵀ x for x of shape (..., d)."""

    @abc.abstractmethod
    def across(self, x: Any) -> Any:
        """B x for x of shape (..., k)."""


class SparseGaussian(Gaussian):
    """Capability: a precision with entries on a pattern, moved by those entries.

    Attributes
    ----------
    edges
        Rows and columns of the entries below the diagonal, row > column, shape (2, n).
    order
        Coordinate i of ε belongs to coordinate order[i] of z, shape (d,).
    """

    edges: eqx.AbstractVar[Any]
    order: eqx.AbstractVar[Any]

    @abc.abstractmethod
    def precision(self) -> np.ndarray:
        """Values of the precision: its diagonal, then its entries at `edges`."""

    @abc.abstractmethod
    def covariances(self) -> np.ndarray:
        """Entries of the covariance in the same places."""

    @abc.abstractmethod
    def pivots(self) -> np.ndarray:
        """Those of the precision's LDLᵀ in this order: inverse variances given what comes later."""

    @abc.abstractmethod
    def placed(self, mean: np.ndarray, precision: np.ndarray) -> SparseGaussian | None:
        """The member with these; None if the precision is not positive definite."""

    def n_neighbours(self) -> np.ndarray:
        """How many others the coordinate of each ε is coupled to, shape (d,)."""
        return np.bincount(np.asarray(self.edges).ravel(), minlength=self.dim)[self.order]


class NaturalGaussian(Gaussian, NaturalGradient):
    """Capability: a Gaussian with a covariance that is held as a d×d matrix."""

    @abc.abstractmethod
    def natural_step(self, pull: np.ndarray, curvature: np.ndarray, rho: float) -> NaturalGaussian:
        """Another Gaussian; curvature is -E_q[Lᵀ ∇²log p̂ L]."""

    @abc.abstractmethod
    def covariance(self) -> np.ndarray:
        """Covariance matrix, shape (d, d)."""

    def slope(self, eps: np.ndarray, score: np.ndarray) -> np.ndarray:
        """Lᵀ s: the log-determinant is constant."""
        return self.whiten(score)

    def curvature(self, eps: np.ndarray, score: np.ndarray) -> np.ndarray | None:
        """-E_q[Lᵀ ∇²log p̂ L] by Stein's identity; None where a d×d matrix is too large."""
        if self.dim > LARGEST_DENSE:
            return None
        return np.asarray(-(self.whiten(score).T @ eps) / len(eps))
