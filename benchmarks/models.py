"""The models of fifteen posteriordb posteriors, as NumPyro functions of their data.

Latent sites carry posteriordb's names, and the observed one is called ``y``, whatever the data set
calls it. A "flat" prior is improper: its density is one on the support.
"""

import jax
import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist
from jax import Array
from jax.scipy.special import logsumexp
from numpyro.distributions import constraints
from numpyro.distributions.constraints import Constraint

# Hierarchical models -----------------------------------------------------------------------------


def eight_schools_centered(y: Array, sigma: Array) -> None:
    """Effects theta_j of coaching in eight schools, scattered around a common mean."""
    mu = numpyro.sample("mu", dist.Normal(0, 5))
    tau = numpyro.sample("tau", dist.HalfCauchy(5))
    with numpyro.plate("schools", len(y)):
        theta = numpyro.sample("theta", dist.Normal(mu, tau))
        numpyro.sample("y", dist.Normal(theta, sigma), obs=y)


def eight_schools_noncentered(y: Array, sigma: Array) -> None:
    """Effects theta_j = mu + tau * t_j of coaching in eight schools, in terms of t_j."""
    mu = numpyro.sample("mu", dist.Normal(0, 5))
    tau = numpyro.sample("tau", dist.HalfCauchy(5))
    with numpyro.plate("schools", len(y)):
        t = numpyro.sample("t", dist.Normal(0, 1))
        numpyro.sample("y", dist.Normal(mu + tau * t, sigma), obs=y)


# Linear regressions ------------------------------------------------------------------------------


def flat_regression(design: Array, y: Array) -> None:
    """Linear regression with flat coefficients and a flat residual sd."""
    beta = numpyro.sample("beta", _flat(constraints.real, design.shape[1:]))
    sigma = numpyro.sample("sigma", _flat(constraints.positive))
    _observe_normal(design @ beta, sigma, y)


def kidscore_regression(design: Array, y: Array) -> None:
    """Linear regression with flat coefficients and a half-Cauchy residual sd."""
    beta = numpyro.sample("beta", _flat(constraints.real, design.shape[1:]))
    sigma = numpyro.sample("sigma", dist.HalfCauchy(2.5))
    _observe_normal(design @ beta, sigma, y)


def normal_regression(design: Array, y: Array) -> None:
    """Linear regression with normal coefficients and a half-normal residual sd."""
    beta = numpyro.sample("beta", _normal_vector(10, design.shape[1:]))
    sigma = numpyro.sample("sigma", dist.HalfNormal(10))
    _observe_normal(design @ beta, sigma, y)


def diamonds_regression(centered_design: Array, y: Array) -> None:
    """Linear regression on many nearly collinear, centred predictors."""
    b = numpyro.sample("b", _normal_vector(1, centered_design.shape[1:]))
    intercept = numpyro.sample("Intercept", dist.StudentT(3, 8, 10))
    sigma = numpyro.sample("sigma", dist.FoldedDistribution(dist.StudentT(3, 0, 10)))
    _observe_normal(intercept + centered_design @ b, sigma, y)


# Time series -------------------------------------------------------------------------------------


def autoregression(lags: Array, y: Array) -> None:
    """Autoregression of y_t on its predecessors, ``lags[t] = (y_{t-1}, ..., y_{t-K})``."""
    alpha = numpyro.sample("alpha", dist.Normal(0, 10))
    beta = numpyro.sample("beta", _normal_vector(10, lags.shape[1:]))
    sigma = numpyro.sample("sigma", dist.HalfCauchy(2.5))
    _observe_normal(alpha + lags @ beta, sigma, y)


def arma11(y: Array) -> None:
    """ARMA(1, 1): y_t = mu + phi * y_{t-1} + theta * e_{t-1} + e_t, with y_0 = mu and e_0 = 0."""
    mu = numpyro.sample("mu", dist.Normal(0, 10))
    phi = numpyro.sample("phi", dist.Normal(0, 2))
    theta = numpyro.sample("theta", dist.Normal(0, 2))
    sigma = numpyro.sample("sigma", dist.HalfCauchy(2.5))

    previous = jnp.append(mu, y[:-1])
    error = _linear_recurrence(-theta, y - (mu + phi * previous))
    numpyro.sample("y", dist.Normal(y - error, sigma), obs=y)


def garch11(y: Array, sigma1: Array) -> None:
    """GARCH(1, 1): s_t^2 = alpha0 + alpha1 * (y_{t-1} - mu)^2 + beta1 * s_{t-1}^2, s_1 = sigma1.

    The prior is flat on the triangle 0 < alpha1, 0 < beta1, alpha1 + beta1 < 1, written as the
    marginal Beta(1, 2) of alpha1 and the conditional Uniform(0, 1 - alpha1) of beta1: their
    densities 2 * (1 - alpha1) and 1 / (1 - alpha1) multiply to two.

    NumPyro notices that the support of beta1 moves with alpha1 only if a bound of that support is
    no Python float, and never in an ``ImproperUniform``; otherwise it keeps the bound of its first
    trace, and draws of beta1 leave the triangle. Hence the ``jnp.asarray``.
    """
    mu = numpyro.sample("mu", _flat(constraints.real))
    alpha0 = numpyro.sample("alpha0", _flat(constraints.positive))
    alpha1 = numpyro.sample("alpha1", dist.Beta(1, 2))
    beta1 = numpyro.sample("beta1", dist.Uniform(0, 1 - jnp.asarray(alpha1)))

    shocks = alpha0 + alpha1 * (y[:-1] - mu) ** 2
    variance = _linear_recurrence(beta1, jnp.append(sigma1**2, shocks))
    numpyro.sample("y", dist.Normal(mu, jnp.sqrt(variance)), obs=y)


def hidden_markov(y: Array) -> None:
    """Two hidden states with Normal(mu_k, 1) emissions, summed out by the forward algorithm.

    Row k of the transition matrix is theta_k; both initial states weigh one.
    """
    theta1 = numpyro.sample("theta1", dist.Dirichlet(jnp.ones(2)))
    theta2 = numpyro.sample("theta2", dist.Dirichlet(jnp.ones(2)))
    mu = numpyro.sample("mu", _flat(constraints.positive_ordered_vector, (2,)))
    numpyro.factor("mu_prior", dist.Normal(jnp.array([3.0, 10.0]), 1).log_prob(mu).sum())

    log_transition = jnp.log(jnp.stack([theta1, theta2]))
    log_emission = dist.Normal(mu, 1).log_prob(y[:, None])

    def advance(log_forward: Array, log_emission_now: Array) -> tuple[Array, None]:
        log_arrival = logsumexp(log_forward[:, None] + log_transition, axis=0)
        return log_arrival + log_emission_now, None

    log_forward, _ = jax.lax.scan(advance, log_emission[0], log_emission[1:])
    numpyro.factor("y", logsumexp(log_forward))


# Gaussian processes ------------------------------------------------------------------------------


def gaussian_process_regression(x: Array, y: Array) -> None:
    """Noisy values of a Gaussian process; sigma is the *variance* of the noise."""
    rho = numpyro.sample("rho", dist.Gamma(25, 4))
    alpha = numpyro.sample("alpha", dist.HalfNormal(2))
    sigma = numpyro.sample("sigma", dist.HalfNormal(1))
    covariance = _squared_exponential(x, rho, alpha) + sigma * jnp.eye(len(x))
    numpyro.sample("y", dist.MultivariateNormal(0, covariance), obs=y)


def gaussian_process_poisson(x: Array, counts: Array) -> None:
    """Counts whose log rate is a Gaussian process, in terms of white noise ``f_tilde``."""
    rho = numpyro.sample("rho", dist.Gamma(25, 4))
    alpha = numpyro.sample("alpha", dist.HalfNormal(2))
    f_tilde = numpyro.sample("f_tilde", _normal_vector(1, x.shape))
    log_rate = gaussian_process_values(x, rho, alpha, f_tilde)
    with numpyro.plate("observations", len(counts)):
        numpyro.sample("y", dist.Poisson(jnp.exp(log_rate)), obs=counts)


def gaussian_process_values(x: Array, rho: Array, alpha: Array, f_tilde: Array) -> Array:
    """Colour white noise: chol(K + 1e-10 * I) @ f_tilde, which needs double precision."""
    covariance = _squared_exponential(x, rho, alpha) + 1e-10 * jnp.eye(len(x))
    return jnp.linalg.cholesky(covariance) @ f_tilde


# Mixtures ----------------------------------------------------------------------------------------


def gaussian_mixture(y: Array) -> None:
    """Two normal components, told apart by the order of their means; theta weighs the first."""
    mu = numpyro.sample("mu", _flat(constraints.ordered_vector, (2,)))
    numpyro.factor("mu_prior", dist.Normal(0, 2).log_prob(mu).sum())
    sigma = numpyro.sample("sigma", dist.HalfNormal(2).expand((2,)).to_event(1))
    theta = numpyro.sample("theta", dist.Beta(5, 5))

    weights = dist.Categorical(jnp.stack([theta, 1 - theta]))
    with numpyro.plate("observations", len(y)):
        numpyro.sample("y", dist.MixtureSameFamily(weights, dist.Normal(mu, sigma)), obs=y)


# Shared parts ------------------------------------------------------------------------------------


def _flat(support: Constraint, shape: tuple[int, ...] = ()) -> dist.Distribution:
    return dist.ImproperUniform(support, (), shape)


def _normal_vector(sd: float, shape: tuple[int, ...]) -> dist.Distribution:
    return dist.Normal(0, sd).expand(shape).to_event(1)


def _observe_normal(mean: Array, sd: Array, y: Array) -> None:
    with numpyro.plate("observations", len(y)):
        numpyro.sample("y", dist.Normal(mean, sd), obs=y)


def _linear_recurrence(coefficient: Array, increments: Array) -> Array:
    """Solve x_1 = u_1, x_t = c * x_{t-1} + u_t for all t."""

    def advance(state: Array, increment: Array) -> tuple[Array, Array]:
        state = coefficient * state + increment
        return state, state

    _, states = jax.lax.scan(advance, jnp.zeros_like(increments[0]), increments)
    return states


def _squared_exponential(x: Array, rho: Array, alpha: Array) -> Array:
    """Covariance of a Gaussian process with length scale rho and marginal sd alpha at x."""
    squared_distance = (x[:, None] - x) ** 2
    return alpha**2 * jnp.exp(-squared_distance / (2 * rho**2))
