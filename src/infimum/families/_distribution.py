"""The contract of a distribution q, and what q can do beyond it: its capabilities.

Solvers, checks and corrections ask for capabilities, never for a family by its name:

Hosted              draws and densities in batches, on the host
Pooled              a mixture of Gaussians
Pushforward         z = T(ε) of a standard normal ε
Charted             natural coordinates around q, and the error of fixed draws
NaturalPushforward  natural-gradient steps, with a d×d curvature
Layered, Apart      a flow on a base that stays as it is
Gaussian            z = mean + L ε
NaturalGaussian     with a d×d covariance
SparseGaussian      with a sparse precision
"""

from __future__ import annotations

import abc
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from infimum.gaussian.stack import LOG_2PI, Stack

Rows = TypeVar("Rows", np.ndarray, Array)
"""Arrays of NumPy, on the host, or of JAX: a method gives back those of the library that it got."""

LARGEST_CHANGE = 20.0
"""Factor by which one natural-gradient step may change a precision. Within [1/20, 20] cold starts
solved 43 of 47 posteriordb posteriors; without a limit q collapses far from the mode."""

LEAST_CURVATURE = 1e-12
"""Part of the largest curvature below which a curvature is rounding: 1e-12 leaves room for
condition numbers of 1e8 at the sixteen digits of float64."""

LARGEST_DENSE = 2000
"""Largest d for which a d×d curvature is formed: 32 MB, an eigendecomposition of seconds."""


def bounded(precision: np.ndarray) -> np.ndarray:
    """The whitened precisions of one step, kept within a factor `LARGEST_CHANGE` of 1."""
    return np.clip(precision, 1 / LARGEST_CHANGE, LARGEST_CHANGE)


class Distribution(eqx.Module):
    """A member q of a family, over R^d. Methods take one point, or one key; `vmap` makes batches.

    Attributes
    ----------
    portable
        Whether its arrays define it completely. If not, a file holds draws from it instead.
    """

    portable: ClassVar[bool] = True

    if not TYPE_CHECKING:
        __getattribute__ = object.__getattribute__
        """Without this, Equinox wraps each method, whenever it is read, in a module that can be an
        argument of compiled functions. That took 22 % of a fit of the eight schools, and it is not
        needed: here q itself is the argument."""

    @property
    @abc.abstractmethod
    def dim(self) -> int:
        """The dimension d."""

    @abc.abstractmethod
    def sample(self, key: PRNGKeyArray) -> Float[Array, " d"]:
        """Draw one z, differentiable in the leaves of q."""

    @abc.abstractmethod
    def log_prob(self, z: Float[Array, " d"]) -> Float[Array, ""]:
        """log q(z) in nats."""

    @abc.abstractmethod
    def sample_and_log_prob(self, key: PRNGKeyArray) -> tuple[Float[Array, " d"], Float[Array, ""]]:
        """Draw one z, with log q(z); cheaper than one after the other."""

    def arrays(self) -> dict[str, np.ndarray]:
        """Every leaf by the path to it, as `Family.from_arrays` takes them."""
        leaves = jax.tree_util.tree_leaves_with_path(self)
        return {
            jax.tree_util.keystr(path, simple=True, separator="/"): np.asarray(leaf)
            for path, leaf in leaves
        }


class Hosted(Distribution):
    """Capability: batches by NumPy on the host, without compilation."""

    @abc.abstractmethod
    def draw(self, rng: np.random.Generator, n: int) -> Float[np.ndarray, "n d"]:
        """Draw n points, each distributed as q; together they may be stratified."""

    @abc.abstractmethod
    def log_density(self, z: Float[np.ndarray, "n d"]) -> Float[np.ndarray, " n"]:
        """log q at each row."""


class Pooled(Hosted):
    """Capability: q = Σ_k w_k N(m_k, L_k L_kᵀ).

    Attributes
    ----------
    max_components
        How many components a fit may give it.
    """

    max_components: eqx.AbstractVar[int]

    @abc.abstractmethod
    def stack(self) -> Stack:
        """The components and their weights."""

    @abc.abstractmethod
    def restacked(self, stack: Stack) -> Pooled:
        """The member with these components."""


class Chart(abc.ABC):
    """Coordinates θ of a family around one member, in which the Hessian of the KL is near I.

    Attributes
    ----------
    size
        How many coordinates there are.
    """

    size: int

    @abc.abstractmethod
    def move(self, theta: np.ndarray) -> Any:
        """The member at θ, shape (size,); the chart's own member is at the origin."""

    @abc.abstractmethod
    def pull(self, theta: np.ndarray, eps: np.ndarray, score: np.ndarray) -> np.ndarray:
        """Gradient of the loss in θ, over the draws `move(theta).push(eps)`.

        Parameters
        ----------
        eps
            Base draws, shape (n, d).
        score
            Gradient of log p̂ at the draws, shape (n, d).
        """


class Pushforward(Distribution):
    """Capability: z = T(ε) with ε ~ N(0, I) and T a bijection of R^d.

    Its methods take batches as NumPy arrays, and run on the host; or as JAX arrays.
    """

    @abc.abstractmethod
    def push(self, eps: Rows) -> Rows:
        """T(ε) for ε of shape (..., d)."""

    @abc.abstractmethod
    def pull_back(self, z: Rows) -> Rows:
        """ε = T⁻¹(z) for z of shape (..., d) with at most one leading axis."""

    @abc.abstractmethod
    def log_prob_base(self, eps: Rows) -> Rows:
        """log q(push(eps)) for base draws of shape (..., d)."""

    def sample(self, key: PRNGKeyArray) -> Float[Array, " d"]:
        """T of one standard normal draw."""
        return self.push(jax.random.normal(key, (self.dim,), dtype=jnp.result_type(float)))

    def log_prob(self, z: Float[Array, " d"]) -> Float[Array, ""]:
        """log q(z) in nats, by T⁻¹."""
        return self.log_prob_base(self.pull_back(z))

    def sample_and_log_prob(self, key: PRNGKeyArray) -> tuple[Float[Array, " d"], Float[Array, ""]]:
        """Draw one z, with log q(z); T is not inverted."""
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
    def flow(self, eps: Rows) -> Rows:
        """y = f(ε) for ε of shape (n, d)."""

    @abc.abstractmethod
    def land(self, y: Rows) -> tuple[Rows, Rows]:
        """z = T(y) and log q(z), for y = f(ε) of shape (n, d)."""

    @abc.abstractmethod
    def moving(self) -> Any:
        """f, a pytree."""

    @abc.abstractmethod
    def moved(self, f: Any) -> Layered:
        """The member with this f, and the same base."""


class Charted(Pushforward):
    """Capability: natural coordinates around a member, and the error that fixed draws make.

    These methods take batches as NumPy arrays, on the host.

    Attributes
    ----------
    flat
        Whether the loss may hardly depend on some coordinates: a search then ends before these have
        settled.
    """

    flat: ClassVar[bool] = False

    @abc.abstractmethod
    def curvature(self, eps: np.ndarray, score: np.ndarray) -> np.ndarray | None:
        """Estimate the curvature that `chart` uses from draws; None if the chart uses none.

        Parameters
        ----------
        eps
            Base draws, shape (n, d).
        score
            Gradient of log p̂ at the draws, shape (n, d).
        """

    @abc.abstractmethod
    def chart(self, curvature: np.ndarray | None) -> Chart:
        """Coordinates around this member, scaled by its `curvature` if there is one."""

    @abc.abstractmethod
    def sampling_error(self, eps: np.ndarray, score: np.ndarray) -> float:
        """Nats by which the optimum on these draws is expected to be worse than the true optimum.

        Half the trace of the gradient's sampling variance in natural coordinates, without the part
        that whitened draws integrate exactly.

        Parameters
        ----------
        eps
            Base draws in antithetic pairs, the second half minus the first, shape (n, d).
        score
            Gradient of log p̂ at the draws, shape (n, d).
        """


class NaturalPushforward(Charted):
    """Capability: natural-gradient steps in ε, with the curvature as a d×d matrix."""

    @abc.abstractmethod
    def slope(self, eps: np.ndarray, score: np.ndarray) -> np.ndarray:
        """Gradient of log p̂(T(ε)) + log |det T'(ε)| in ε, shape (n, d).

        Parameters
        ----------
        score
            Gradient of log p̂ at the draws T(ε), shape (n, d).
        """

    @abc.abstractmethod
    def natural_step(
        self, pull: np.ndarray, curvature: np.ndarray, rho: float
    ) -> NaturalPushforward:
        """The member that a natural-gradient step of size rho leads to.

        Parameters
        ----------
        pull
            Mean of the slopes, shape (d,).
        curvature
            Minus the mean of their derivatives, shape (d, d), not necessarily symmetric.
        """

    @abc.abstractmethod
    def decrement(self, pull: np.ndarray, curvature: np.ndarray) -> float:
        """Nats by which the loss exceeds its minimum, if log p̂ is quadratic in ε."""


class Gaussian(Pushforward):
    """Capability: z = mean + L ε with ε ~ N(0, I)."""

    mean: eqx.AbstractVar[Any]

    @abc.abstractmethod
    def spread(self, eps: Rows) -> Rows:
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

    def push(self, eps: Rows) -> Rows:
        """z = mean + L ε for ε of shape (..., d)."""
        return self.mean + self.spread(eps)

    def log_prob_base(self, eps: Rows) -> Rows:
        """log q(push(eps)) for base draws of shape (..., d)."""
        return -0.5 * (eps**2).sum(-1) - self.log_det() - 0.5 * self.dim * LOG_2PI


class Apart(Layered):
    """Capability: a Gaussian base, and f confined to some directions B of its draws, or to all.

    f(ε) = ε + B (g(Bᵀε) - Bᵀε). g can be trained while the base and the target stay on the host.
    """

    base: eqx.AbstractVar[Gaussian]

    @abc.abstractmethod
    def inner(self) -> Layered:
        """The flow g on independent standard normals, with the same moving part."""

    @abc.abstractmethod
    def within(self, x: Rows) -> Rows:
        """Bᵀ x for x of shape (..., d)."""

    @abc.abstractmethod
    def across(self, x: Rows) -> Rows:
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
        """Pivots of the precision's LDLᵀ: inverse variances given the coordinates that follow."""

    @abc.abstractmethod
    def placed(self, mean: np.ndarray, precision: np.ndarray) -> SparseGaussian | None:
        """The member with this mean and precision; None if that is not positive definite."""

    def n_neighbours(self) -> np.ndarray:
        """How many others each coordinate is coupled to, in the order of ε, shape (d,)."""
        return np.bincount(np.asarray(self.edges).ravel(), minlength=self.dim)[self.order]


class NaturalGaussian(Gaussian, NaturalPushforward):
    """Capability: a Gaussian with the covariance as a d×d matrix."""

    @abc.abstractmethod
    def natural_step(self, pull: np.ndarray, curvature: np.ndarray, rho: float) -> NaturalGaussian:
        """The Gaussian that a step leads to; the curvature is -E_q[Lᵀ ∇²log p̂ L]."""

    @abc.abstractmethod
    def covariance(self) -> np.ndarray:
        """Covariance matrix, shape (d, d)."""

    def slope(self, eps: np.ndarray, score: np.ndarray) -> np.ndarray:
        """Lᵀ s: the log-determinant is constant."""
        return self.whiten(score)

    def curvature(self, eps: np.ndarray, score: np.ndarray) -> np.ndarray | None:
        """-E_q[Lᵀ ∇²log p̂ L] by Stein's identity; None if a d×d matrix is too large."""
        if self.dim > LARGEST_DENSE:
            return None
        return np.asarray(-(self.whiten(score).T @ eps) / len(eps))
