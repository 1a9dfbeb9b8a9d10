"""Targets whose means, sds and log Z are known by formula or by quadrature.

Every density is a normalised one times exp(`LOG_Z`). None of the truths was typed: constants come
from the same expressions as the densities, moments from SciPy's distributions, from the laws of
total mean and variance, or from quadrature.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.scipy import stats as densities
from jax.scipy.special import gammaln, logsumexp
from scipy import stats

import infimum
from benchmarks.truth import LOG_Z, Truth, made

LOG_TAU = np.linspace(-15.0, 15.0, 3_001)
"""Grid for the hierarchy's integrals over log τ, whose prior is N(0, 1): what lies outside it is
below the rounding of float64, and there the trapezoidal rule converges geometrically."""

ROTATION, MODES, GROUPS = 11, 12, 13
"""Seeds of the random rotation, the directions of modes, and the data of the hierarchy."""


# Kinds of targets ---------------------------------------------------------------------------------


def gaussian(name: str, mean: np.ndarray, covariance: np.ndarray) -> Truth:
    """N(mean, covariance)."""
    values, basis = np.linalg.eigh(covariance)
    constant = -0.5 * np.log(2 * np.pi * values).sum()

    def log_density(z: Any) -> Any:
        return constant - 0.5 * jnp.sum(((z - mean) @ basis) ** 2 / values)

    return made(name, log_density, np.zeros(len(mean)), mean, np.sqrt(np.diag(covariance)))


def equicorrelated(name: str, dim: int, rho: float) -> Truth:
    """N(1, Σ) with unit variances and one correlation `rho` between any two coordinates."""
    return gaussian(name, np.ones(dim), (1 - rho) * np.eye(dim) + rho)


def rotated(name: str, dim: int, condition: float) -> Truth:
    """A Gaussian with variances from 1 to `condition` along axes of no particular direction."""
    rng = np.random.default_rng(ROTATION)
    basis = np.linalg.qr(rng.standard_normal((dim, dim)))[0]
    covariance = (basis * np.geomspace(1.0, condition, dim)) @ basis.T
    return gaussian(name, np.arange(float(dim)), 0.5 * (covariance + covariance.T))


def ridge(name: str, along: float, across: float) -> Truth:
    """Two numbers of which the sum is observed: sd `along` of it, `across` of the difference."""
    axes = np.array([[1.0, 1.0], [1.0, -1.0]]) / np.sqrt(2)
    covariance = axes.T @ np.diag([along**2, across**2]) @ axes
    return gaussian(name, np.array([2.0, 1.0]), covariance)


def product(
    name: str,
    law: Any,
    log_pdf: Callable[[Any], Any],
    dim: int = 1,
    support: Any = None,
    example: float = 0.0,
) -> Truth:
    """Independent coordinates of one law.

    Parameters
    ----------
    law
        SciPy's frozen distribution, which knows the moments.
    log_pdf
        Its normalised log density in `jax.numpy`.
    dim
        How many coordinates.
    support, example
        Of every coordinate.
    """
    return made(
        name,
        lambda z: jnp.sum(log_pdf(z)),
        np.full(dim, example),
        law.mean(),
        law.std(),
        support,
    )


def mixture(
    name: str, means: np.ndarray, sds: np.ndarray, weights: np.ndarray, hidden: bool = False
) -> Truth:
    """Round Gaussians: means of shape (K, d), sds and weights of shape (K,)."""
    dim = means.shape[1]
    heights = np.log(weights) - 0.5 * dim * np.log(2 * np.pi * sds**2)

    def log_density(z: Any) -> Any:
        return logsumexp(heights - 0.5 * jnp.sum((z - means) ** 2, axis=1) / sds**2)

    mean = weights @ means
    variance = weights @ (sds[:, None] ** 2 + (means - mean) ** 2)
    return made(name, log_density, np.zeros(dim), mean, np.sqrt(variance), hidden=hidden)


def apart(name: str, distance: float, weights: np.ndarray, dim: int = 20) -> Truth:
    """Modes of sd 1 in random directions, about `distance` apart."""
    means = np.random.default_rng(MODES).standard_normal((len(weights), dim))
    means *= distance / np.sqrt(2) / np.linalg.norm(means, axis=1)[:, None]
    return mixture(name, means, np.ones(len(weights)), weights)


def two(name: str, dim: int, places: tuple[float, float], weight: float) -> Truth:
    """Two modes of sd 1 at these places of the first axis, the first of this weight."""
    means = np.zeros((2, dim))
    means[:, 0] = places
    return mixture(name, means, np.ones(2), np.array([weight, 1 - weight]))


def spike(name: str, dim: int, place: float, sd: float) -> Truth:
    """N(0, I), and half of the mass in a narrow mode far away, towards which nothing points."""
    means = np.stack([np.zeros(dim), np.full(dim, place)])
    return mixture(name, means, np.array([1.0, sd]), np.array([0.5, 0.5]), hidden=True)


def round_student(name: str, freedom: float, dim: int) -> Truth:
    """A t whose coordinates share one radius: heavier than a Gaussian in all directions."""
    half = 0.5 * (freedom + dim)
    constant = gammaln(half) - gammaln(0.5 * freedom) - 0.5 * dim * np.log(freedom * np.pi)
    return made(
        name,
        lambda z: constant - half * jnp.log1p(jnp.sum(z**2) / freedom),
        np.zeros(dim),
        0.0,
        np.sqrt(freedom / (freedom - 2)),
    )


def by_values(name: str, make: Callable[[str], Truth]) -> Truth:
    """The same target by its values alone."""
    truth = make(name)
    values = truth.target.values
    return replace(truth, target=infimum.from_numpy(values, truth.target.dim, batched=True))


def plateau(name: str) -> Truth:
    """Effects with unit errors and a common log τ without a prior: flat towards -∞."""
    y, nothing = np.linspace(-4.0, 4.0, 6), float("nan")

    def log_density(z: Any) -> Any:
        spread = jnp.sqrt(1.0 + jnp.exp(2 * z[1]))
        return jnp.sum(densities.norm.logpdf(y, z[0], spread)) + densities.norm.logpdf(
            z[0], 0.0, 5.0
        )

    return made(name, log_density, np.zeros(2), nothing, nothing, log_z=nothing, improper=True)


def uneven(
    name: str,
    dim: int,
    places: Sequence[Sequence[float]],
    sds: Sequence[float],
    weights: Sequence[float],
) -> Truth:
    """Modes of these sds and places, in the plane of the first two axes: few searches find all."""
    means = np.zeros((len(places), dim))
    means[:, :2] = places
    return mixture(name, means, np.array(sds), np.array(weights), hidden=True)


def flat(name: str) -> Truth:
    """N(0, 1) in one direction, constant in the other: not a posterior, and without moments."""
    nothing = float("nan")
    return made(
        name,
        lambda z: densities.norm.logpdf(z[0]),
        np.zeros(2),
        nothing,
        nothing,
        log_z=nothing,
        improper=True,
    )


def funnel(name: str, dim: int, spread: float) -> Truth:
    """Neal's: v ~ N(0, spread²), the others N(0, exp(v))."""

    def log_density(z: Any) -> Any:
        others = densities.norm.logpdf(z[1:], 0.0, jnp.exp(0.5 * z[0]))
        return densities.norm.logpdf(z[0], 0.0, spread) + jnp.sum(others)

    sds = np.full(dim, np.sqrt(stats.lognorm(spread).mean()))
    sds[0] = spread
    return made(name, log_density, np.zeros(dim), 0.0, sds)


def banana(name: str, spread: float, bend: float) -> Truth:
    """A bent Gaussian: x ~ N(0, spread²) and y ~ N(bend·(x² - spread²), 1)."""

    def log_density(z: Any) -> Any:
        middle = bend * (z[0] ** 2 - spread**2)
        return densities.norm.logpdf(z[0], 0.0, spread) + densities.norm.logpdf(z[1], middle)

    bent = bend * spread**2 * stats.chi2(1).std()
    return made(name, log_density, np.zeros(2), 0.0, np.array([spread, np.hypot(1.0, bent)]))


def autoregression(name: str, dim: int, rho: float) -> Truth:
    """A stationary Gaussian AR(1) of sd 1 and lag-one correlation `rho`."""
    step = np.sqrt(1 - rho**2)

    def log_density(z: Any) -> Any:
        steps = densities.norm.logpdf(z[1:], rho * z[:-1], step)
        return densities.norm.logpdf(z[0]) + jnp.sum(steps)

    return made(name, log_density, np.zeros(dim), 0.0, 1.0)


def hierarchy(name: str, groups: int, prior: float) -> Truth:
    """y_j ~ N(θ_j, 1), θ_j ~ N(μ, τ²), μ ~ N(0, prior²), log τ ~ N(0, 1).

    Given τ all else is Gaussian, so that log Z and the moments are integrals over log τ alone.
    """
    rng = np.random.default_rng(GROUPS)
    y = 1.0 + 0.7 * rng.standard_normal(groups) + rng.standard_normal(groups)

    def log_density(p: Any) -> Any:
        effects = densities.norm.logpdf(p["theta"], p["mu"], jnp.exp(p["log_tau"]))
        top = densities.norm.logpdf(p["mu"], 0.0, prior) + densities.norm.logpdf(p["log_tau"])
        return jnp.sum(densities.norm.logpdf(y, p["theta"]) + effects) + top

    log_z, means, sds = _integrated(y, prior)
    example = {"log_tau": 0.0, "mu": 0.0, "theta": np.zeros(groups)}
    return made(name, log_density, example, means, sds, log_z=LOG_Z + log_z)


def _integrated(y: np.ndarray, prior: float) -> tuple[float, np.ndarray, np.ndarray]:
    """Log p(y), and the moments of log τ, μ and θ, by quadrature over log τ."""
    between = np.exp(2 * LOG_TAU)[:, None]
    total = 1 + between
    n, centre = len(y), y.mean()
    variance = 1 / (n / total + prior**-2)
    mean = variance * n * centre / total
    within = stats.norm.logpdf(y, centre, np.sqrt(total)).sum(axis=1)
    centred = stats.norm.logpdf(centre, 0.0, np.sqrt(total / n + prior**2))
    exact = stats.norm.logpdf(0.0, 0.0, np.sqrt(total / n))
    height = stats.norm.logpdf(LOG_TAU) + within + (centred - exact)[:, 0]
    weights = np.exp(height - height.max())
    log_z = height.max() + np.log(weights.sum() * (LOG_TAU[1] - LOG_TAU[0]))
    weights /= weights.sum()
    given = np.hstack([LOG_TAU[:, None], mean, (between * y + mean) / total])
    spread = np.hstack([0 * mean, variance, between / total + variance / total**2 + 0 * y])
    means = weights @ given
    return float(log_z), means, np.sqrt(weights @ (spread + (given - means) ** 2))


# The registry -------------------------------------------------------------------------------------


def _skewed(z: Any) -> Any:
    return np.log(2) + densities.norm.logpdf(z) + densities.norm.logcdf(5 * z)


def _log_gamma(shape: float) -> Callable[[Any], Any]:
    """The log of a gamma variable."""
    return lambda z: densities.gamma.logpdf(jnp.exp(z), shape) + z


def _log_normal(z: Any) -> Any:
    return densities.norm.logpdf(jnp.log(z)) - jnp.log(z)


def _cut(z: Any) -> Any:
    """N(1, 1) where z > 0, and -inf elsewhere."""
    return jnp.where(z > 0, densities.norm.logpdf(z, 1.0) - stats.norm.logcdf(1.0), -jnp.inf)


def _student(freedom: float, dim: int) -> Callable[[str], Truth]:
    law = stats.t(freedom)
    return partial(product, law=law, log_pdf=partial(densities.t.logpdf, df=freedom), dim=dim)


def _beta(a: float, b: float) -> Callable[[str], Truth]:
    return partial(
        product,
        law=stats.beta(a, b),
        log_pdf=partial(densities.beta.logpdf, a=a, b=b),
        support="unit_interval",
        example=0.5,
    )


_positive = partial(product, support="positive", example=1.0)

CASES: dict[str, Callable[[str], Truth]] = {
    "Gaussian, d = 1": partial(gaussian, mean=np.ones(1), covariance=np.full((1, 1), 4.0)),
    "Gaussian of condition 1e6, d = 10": partial(rotated, dim=10, condition=1e6),
    "correlation .95, d = 2": partial(equicorrelated, dim=2, rho=0.95),
    "correlation .999, d = 2": partial(equicorrelated, dim=2, rho=0.999),
    "ridge, d = 2": partial(ridge, along=1.0, across=1e3),
    "AR(1), d = 100": partial(autoregression, dim=100, rho=0.95),
    "Student's t of 3, d = 1": _student(3.0, 1),
    "Student's t of 3, d = 5": _student(3.0, 5),
    "Cauchy": _student(1.0, 1),
    "log-gamma": partial(product, law=stats.loggamma(0.5), log_pdf=_log_gamma(0.5)),
    "skew-normal, d = 5": partial(product, law=stats.skewnorm(5), log_pdf=_skewed, dim=5),
    "log-gamma, d = 300": partial(
        product, law=stats.loggamma(2.0), log_pdf=_log_gamma(2.0), dim=300
    ),
    "log-normal": partial(_positive, law=stats.lognorm(1.0), log_pdf=_log_normal),
    "gamma of .5": partial(
        _positive, law=stats.gamma(0.5), log_pdf=partial(densities.gamma.logpdf, a=0.5)
    ),
    "gamma of 3": partial(
        _positive, law=stats.gamma(3.0), log_pdf=partial(densities.gamma.logpdf, a=3.0)
    ),
    "half-normal": partial(
        _positive, law=stats.halfnorm(), log_pdf=lambda z: np.log(2) + densities.norm.logpdf(z)
    ),
    "beta(.5, .5)": _beta(0.5, 0.5),
    "beta(1, 30)": _beta(1.0, 30.0),
    "uniform": partial(
        product,
        law=stats.uniform(-1.0, 3.0),
        log_pdf=lambda z: densities.uniform.logpdf(z, -1.0, 3.0),
        support=infimum.supports.interval(-1.0, 2.0),
    ),
    "cut normal": partial(
        product, law=stats.truncnorm(-1.0, np.inf, loc=1.0), log_pdf=_cut, example=1.0
    ),
    "funnel, d = 10": partial(funnel, dim=10, spread=3.0),
    "banana": partial(banana, spread=2.0, bend=0.5),
    "hierarchy of 20 groups": partial(hierarchy, groups=20, prior=5.0),
    "heavy component, d = 2": partial(
        mixture, means=np.zeros((2, 2)), sds=np.array([1.0, 10.0]), weights=np.array([0.9, 0.1])
    ),
    "modes of .7 and .3, d = 2": partial(two, dim=2, places=(-4.0, 6.0), weight=0.7),
    "modes of .95 and .05, d = 10": partial(two, dim=10, places=(-3.0, 12.0), weight=0.95),
    "4 modes, d = 20": partial(apart, distance=20.0, weights=np.array([0.4, 0.3, 0.2, 0.1])),
    "4 equal modes, d = 20": partial(apart, distance=6.0, weights=np.full(4, 0.25)),
    "hidden mode, d = 5": partial(spike, dim=5, place=200.0, sd=0.01),
    "narrow mode at a distance, d = 10": partial(
        uneven, dim=10, places=[[0, 0], [10, 0]], sds=[1.0, 0.2], weights=[0.5, 0.5]
    ),
    "modes of unequal widths, d = 8": partial(
        uneven,
        dim=8,
        places=[[0, 0], [9, 0], [0, 12]],
        sds=[1.0, 0.5, 2.0],
        weights=[0.4, 0.3, 0.3],
    ),
    "spike in the bulk, d = 10": partial(
        uneven, dim=10, places=[[0, 0], [0.5, 0]], sds=[1.0, 0.05], weights=[0.7, 0.3]
    ),
    "round t of 6, d = 70": partial(round_student, freedom=6.0, dim=70),
    "round t of 10, d = 100": partial(round_student, freedom=10.0, dim=100),
    "round t of 30, d = 300": partial(round_student, freedom=30.0, dim=300),
    "Laplace, d = 5": partial(
        product, law=stats.laplace(), log_pdf=densities.laplace.logpdf, dim=5
    ),
    "skew-normal by values, d = 2": partial(
        by_values, make=partial(product, law=stats.skewnorm(5), log_pdf=_skewed, dim=2)
    ),
    "modes by values, d = 5": partial(
        by_values, make=partial(two, dim=5, places=(0.0, 8.0), weight=0.6)
    ),
    "flat in one direction": flat,
    "flat where a scale is 0": plateau,
}
"""Synthetic targets by name, each made when it is asked for."""

LAWS: dict[str, Any] = {
    "Gaussian, d = 1": stats.norm(1.0, 2.0),
    "Student's t of 3, d = 5": stats.t(3.0),
    "log-gamma": stats.loggamma(0.5),
    "skew-normal, d = 5": stats.skewnorm(5),
    "log-normal": stats.lognorm(1.0),
    "gamma of .5": stats.gamma(0.5),
    "beta(1, 30)": stats.beta(1.0, 30.0),
    "Laplace, d = 5": stats.laplace(),
}
"""What the first coordinate of some of them follows."""


def synthetic(name: str) -> Truth:
    """The synthetic target of this name."""
    return CASES[name](name)
