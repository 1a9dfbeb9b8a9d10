"""Mixtures of Gaussians, for several modes and for shapes that no single Gaussian covers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from infimum.base.errors import coded_error
from infimum.families._dense import factor_of, mean_and_factor, raw_of, solve
from infimum.families._distribution import LARGEST_DENSE, Distribution, Gaussian, Pooled
from infimum.families._family import Growing, Left, Pooling, Promise
from infimum.gaussian.stack import LOG_2PI, Stack, normalised

MOST_COMPONENTS = 64
"""Most components, if the user does not say. Rings of radius 4 and width 0.1 end with fewer."""

FACTOR_NUMBERS = LARGEST_DENSE**2
"""Most numbers in all factors together (32 MB). So K falls as d grows; if not even two dense
factors fit, components are diagonal."""


class Mixture(Pooling, Growing):
    """Q = {Σ_k w_k N(m_k, L_k L_kᵀ)}, L_k lower triangular; diagonal if d is above 1,414.

    A fit begins with the optima of full-rank fits and with the modes that scouts found. More
    components are added where importance weights say that mass is missing, for as long as that
    pays.

    Requires: a gradient of log p̂. It starts from Gaussians.

    Attributes
    ----------
    components
        Most components; None leaves the number to the fit.
    """

    name: ClassVar[str] = "mixture"
    below: ClassVar[str | None] = "fullrank"
    components: int | None = None

    def __check_init__(self) -> None:
        k = self.components
        if k is not None and not (isinstance(k, int | np.integer) and k >= 1):
            raise coded_error(
                ValueError,
                "E203",
                f"components is {k!r}, expected at least 1, or None for as many as pay",
            )

    def init(self, mean: np.ndarray, scale: np.ndarray) -> GaussianMixture:
        """The member with one component, N(mean, diag(scale²))."""
        mean, scale = np.asarray(mean, float), np.asarray(scale, float)
        factor = np.diag(scale) if self._dense(len(mean)) else scale
        return self._member(Stack(mean[None], factor[None], np.zeros(1)))

    def start_from(self, q: Distribution) -> GaussianMixture:
        """The Gaussian q as one component; of a mixture q the heaviest components."""
        if isinstance(q, Pooled):
            return self._member(q.stack())
        return self.start_from_all([q], [0.0])

    def start_from_all(
        self, qs: Sequence[Distribution], log_masses: Sequence[float]
    ) -> GaussianMixture:
        """The mixture of these Gaussians, with weights in proportion to their masses."""
        means, factors = [], []
        for q in qs:
            if not isinstance(q, Gaussian):
                raise coded_error(
                    TypeError,
                    "E202",
                    f"a mixture can start from Gaussians, not from {type(q).__name__}: begin "
                    "with init",
                )
            means.append(np.asarray(q.mean))
            dense = self._dense(q.dim)
            factors.append(
                mean_and_factor(q, "a mixture")[1] if dense else np.sqrt(np.asarray(q.variance()))
            )
        return self._member(
            normalised(np.array(means), np.array(factors), np.array(log_masses, float))
        )

    def from_arrays(self, arrays: dict[str, np.ndarray]) -> GaussianMixture:
        """From `logits` (K,), `means` (K, d), and `raw` (K, d, d) or (K, d)."""
        return GaussianMixture(**arrays, max_components=self._most(arrays["means"].shape[-1]))

    def n_parameters(self, dim: int) -> int:
        """Numbers in all components; in one component, until the fit has chosen how many."""
        k = self.components or 1
        return k * (dim + dim * (dim + 1) // 2 + 1) - 1 if self._dense(dim) else k * (2 * dim + 1)

    def settled(self, q: Distribution) -> Mixture:
        """The family with as many components as q has."""
        assert isinstance(q, Pooled)
        return Mixture(len(q.stack()))

    def promise(self, left: Left, dim: int) -> Promise:
        """All of the modes; of the shape the less, the more dimensions there are.

        Of the shape 97 % in 2 dimensions (a banana, two rings), 86 % in 10 (a funnel), none in 50.
        Bent shapes take many components: garch (d = 4) took 20 s, a Poisson process (d = 13) 60 s.
        """
        bent = left.shape * max(0.0, 1 - dim / 50)
        if bent > left.modes:
            return Promise(left.modes + bent, 2e5, 5.0 * dim)
        return Promise(left.modes, 1e4, 1.0 + 1e-5 * dim**3)

    def _dense(self, dim: int) -> bool:
        return 2 * dim**2 <= FACTOR_NUMBERS

    def _most(self, dim: int) -> int:
        size = dim**2 if self._dense(dim) else dim
        return int(self.components or max(1, min(MOST_COMPONENTS, FACTOR_NUMBERS // size)))

    def _member(self, stack: Stack) -> GaussianMixture:
        """The member with these components, or with the heaviest if they are too many."""
        most = self._most(stack.dim)
        if len(stack) > most:
            stack = stack.taken(np.sort(np.argsort(-stack.log_weights)[:most]))
        return _of(stack, most)


class GaussianMixture(Pooled):
    """Σ_k w_k N(m_k, L_k L_kᵀ): w = softmax(`logits`), `raw` as each L_k, its diagonal by its log.

    Attributes
    ----------
    raw
        Shape (K, d, d); or (K, d), the logarithms of sds, if components are diagonal.
    max_components
        How many components a fit may give it.
    """

    logits: Any
    means: Any
    raw: Any
    max_components: int = eqx.field(static=True)

    @property
    def dim(self) -> int:
        """The dimension d."""
        return int(self.means.shape[-1])

    @property
    def weights(self) -> np.ndarray:
        """Weights of the components, shape (K,)."""
        return self.stack().weights

    @property
    def mean(self) -> np.ndarray:
        """Mean of the mixture, shape (d,)."""
        return self.stack().mean()

    def covariance(self) -> np.ndarray:
        """Covariance of the mixture, shape (d, d)."""
        return self.stack().covariance()

    def stack(self) -> Stack:
        """The components on the host."""
        raw = np.asarray(self.raw)
        factors = np.array([factor_of(x) for x in raw]) if raw.ndim == 3 else np.exp(raw)
        return normalised(np.asarray(self.means), factors, np.asarray(self.logits))

    def restacked(self, stack: Stack) -> GaussianMixture:
        """The member with other components."""
        return _of(stack, self.max_components)

    def draw(self, rng: np.random.Generator, n: int) -> Float[np.ndarray, "n d"]:
        """Draw n points, stratified by component, in random order."""
        return self.stack().draw(rng, n)

    def log_density(self, z: Float[np.ndarray, "n d"]) -> Float[np.ndarray, " n"]:
        """log q at each row."""
        return self.stack().log_density(z)

    def sample(self, key: PRNGKeyArray) -> Float[Array, " d"]:
        """Draw one z, differentiable in every leaf by implicit reparameterisation.

        Graves (2016); Figurnov, Mohamed & Mnih (2018), eq. 5. F(z), the conditional distribution
        function of each coordinate given those before it, is uniform whatever the leaves are. So
        dz = -(∂F/∂z)⁻¹ dF.
        """
        choice, noise = jax.random.split(key)
        k = jax.random.categorical(choice, jnp.asarray(self.logits))
        eps = jax.random.normal(noise, (self.dim,), dtype=jnp.result_type(float))
        raw = jnp.asarray(self.raw)[k]
        spread = factor_of(raw) @ eps if raw.ndim == 2 else jnp.exp(raw) * eps
        z = jax.lax.stop_gradient(jnp.asarray(self.means)[k] + spread)
        return _drawn((self.logits, self.means, self.raw), z)

    def log_prob(self, z: Float[Array, " d"]) -> Float[Array, ""]:
        """log q(z)."""
        leaves = (self.logits, self.means, self.raw)
        eps, log_scales = _whitened(leaves, z)
        parts = -0.5 * (eps**2).sum(axis=1) - log_scales.sum(axis=1) - 0.5 * self.dim * LOG_2PI
        return jax.nn.logsumexp(jax.nn.log_softmax(jnp.asarray(self.logits)) + parts)

    def sample_and_log_prob(self, key: PRNGKeyArray) -> tuple[Float[Array, " d"], Float[Array, ""]]:
        """Draw one z, with log q(z)."""
        z = self.sample(key)
        return z, self.log_prob(z)


def _of(stack: Stack, most: int) -> GaussianMixture:
    raw = np.array([raw_of(x) for x in stack.factors]) if stack.dense else np.log(stack.factors)
    return GaussianMixture(
        logits=stack.log_weights, means=stack.means, raw=raw, max_components=most
    )


def _whitened(leaves: PyTree, z: Array) -> tuple[Any, Any]:
    """L_k⁻¹(z - m_k), and the logarithms of the diagonal of L_k, for every k: (K, d) each."""
    _, means, raw = (jnp.asarray(leaf) for leaf in leaves)
    if raw.ndim == 2:
        return (z - means) * jnp.exp(-raw), raw
    eps = jax.vmap(lambda raw, apart: solve(factor_of(raw), apart))(raw, z - means)
    return eps, jnp.diagonal(raw, axis1=1, axis2=2)


def _uniform(leaves: PyTree, z: Array) -> Any:
    """F(z): the distribution function of each coordinate given those before it, shape (d,).

    Given the coordinates before it, coordinate j of component k is normal, and its standardised
    value is ε_j of that component.
    """
    eps, log_scales = _whitened(leaves, z)
    each = jax.scipy.stats.norm.logpdf(eps) - log_scales
    before = jnp.cumsum(each, axis=1) - each
    shares = jax.nn.softmax(jnp.asarray(leaves[0])[:, None] + before, axis=0)
    return (shares * jax.scipy.stats.norm.cdf(eps)).sum(axis=0)


@jax.custom_jvp
def _drawn(leaves: PyTree, z: Array) -> Any:
    """z, a draw from the mixture with these leaves; its derivative in the leaves is below."""
    return z


@_drawn.defjvp
def _drawn_jvp(primals: Any, tangents: Any) -> Any:
    (leaves, z), (moved, _) = primals, tangents
    slope = jax.jacfwd(lambda z: _uniform(leaves, z))(z)
    change = jax.jvp(lambda leaves: _uniform(leaves, z), (leaves,), (moved,))[1]
    return z, -jax.scipy.linalg.solve_triangular(slope, change, lower=True)
