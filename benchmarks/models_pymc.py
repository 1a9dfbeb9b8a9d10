"""The models of `models.py` again, in PyMC: one function for each, of the same name and arguments.

Names, priors with all their constants, and bijections are those of the NumPyro models, so that one
z means the same in both. PyMC's own transforms do that except in one place: its simplex is a
softmax, NumPyro's is broken like a stick, and `StickOfTwo` is the latter.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pymc as pm
import pytensor
import pytensor.tensor as pt
from pymc.distributions import transforms

Tensor = Any
"""A PyTensor expression."""


def twin(numpyro_model: Callable[..., None], *args: np.ndarray) -> pm.Model:
    """The PyMC model that is called as this NumPyro model is, on these arguments."""
    with pm.Model() as model:
        globals()[numpyro_model.__name__](*args)
    return model


# Hierarchical models -----------------------------------------------------------------------------


def eight_schools_centered(y: np.ndarray, sigma: np.ndarray) -> None:
    """Effects theta_j of coaching in eight schools, scattered around a common mean."""
    mu = pm.Normal("mu", 0, 5)
    tau = pm.HalfCauchy("tau", 5)
    theta = pm.Normal("theta", mu, tau, shape=len(y))
    pm.Normal("y", theta, sigma, observed=y)


def eight_schools_noncentered(y: np.ndarray, sigma: np.ndarray) -> None:
    """Effects theta_j = mu + tau * t_j of coaching in eight schools, in terms of t_j."""
    mu = pm.Normal("mu", 0, 5)
    tau = pm.HalfCauchy("tau", 5)
    t = pm.Normal("t", 0, 1, shape=len(y))
    pm.Normal("y", mu + tau * t, sigma, observed=y)


# Linear regressions ------------------------------------------------------------------------------


def flat_regression(design: np.ndarray, y: np.ndarray) -> None:
    """Linear regression with flat coefficients and a flat residual sd."""
    beta = pm.Flat("beta", shape=design.shape[1])
    sigma = pm.HalfFlat("sigma")
    pm.Normal("y", design @ beta, sigma, observed=y)


def kidscore_regression(design: np.ndarray, y: np.ndarray) -> None:
    """Linear regression with flat coefficients and a half-Cauchy residual sd."""
    beta = pm.Flat("beta", shape=design.shape[1])
    sigma = pm.HalfCauchy("sigma", 2.5)
    pm.Normal("y", design @ beta, sigma, observed=y)


def normal_regression(design: np.ndarray, y: np.ndarray) -> None:
    """Linear regression with normal coefficients and a half-normal residual sd."""
    beta = pm.Normal("beta", 0, 10, shape=design.shape[1])
    sigma = pm.HalfNormal("sigma", 10)
    pm.Normal("y", design @ beta, sigma, observed=y)


def diamonds_regression(centered_design: np.ndarray, y: np.ndarray) -> None:
    """Linear regression on many nearly collinear, centred predictors."""
    b = pm.Normal("b", 0, 1, shape=centered_design.shape[1])
    intercept = pm.StudentT("Intercept", nu=3, mu=8, sigma=10)
    sigma = pm.HalfStudentT("sigma", nu=3, sigma=10)
    pm.Normal("y", intercept + centered_design @ b, sigma, observed=y)


# Time series -------------------------------------------------------------------------------------


def autoregression(lags: np.ndarray, y: np.ndarray) -> None:
    """Autoregression of y_t on its predecessors, ``lags[t] = (y_{t-1}, ..., y_{t-K})``."""
    alpha = pm.Normal("alpha", 0, 10)
    beta = pm.Normal("beta", 0, 10, shape=lags.shape[1])
    sigma = pm.HalfCauchy("sigma", 2.5)
    pm.Normal("y", alpha + lags @ beta, sigma, observed=y)


def arma11(y: np.ndarray) -> None:
    """ARMA(1, 1): y_t = mu + phi * y_{t-1} + theta * e_{t-1} + e_t, with y_0 = mu and e_0 = 0."""
    mu = pm.Normal("mu", 0, 10)
    phi = pm.Normal("phi", 0, 2)
    theta = pm.Normal("theta", 0, 2)
    sigma = pm.HalfCauchy("sigma", 2.5)

    previous = pt.concatenate([mu[None], y[:-1]])
    error = _linear_recurrence(-theta, y - (mu + phi * previous))
    pm.Normal("y", y - error, sigma, observed=y)


def garch11(y: np.ndarray, sigma1: np.ndarray) -> None:
    """GARCH(1, 1): s_t^2 = alpha0 + alpha1 * (y_{t-1} - mu)^2 + beta1 * s_{t-1}^2, s_1 = sigma1."""
    mu = pm.Flat("mu")
    alpha0 = pm.HalfFlat("alpha0")
    alpha1 = pm.Beta("alpha1", 1, 2)
    beta1 = pm.Uniform("beta1", 0, 1 - alpha1)

    shocks = alpha0 + alpha1 * (y[:-1] - mu) ** 2
    variance = _linear_recurrence(beta1, pt.concatenate([np.atleast_1d(sigma1**2), shocks]))
    pm.Normal("y", mu, pt.sqrt(variance), observed=y)


def hidden_markov(y: np.ndarray) -> None:
    """Two hidden states with Normal(mu_k, 1) emissions, summed out by the forward algorithm.

    Row k of the transition matrix is theta_k; both initial states weigh one.
    """
    stick = {"default_transform": StickOfTwo()}
    theta1 = pm.Dirichlet("theta1", np.ones(2), **stick)
    theta2 = pm.Dirichlet("theta2", np.ones(2), **stick)
    prior_mean = np.array([3.0, 10.0])
    increasing = transforms.Chain([transforms.log, transforms.ordered])
    mu = pm.Normal("mu", prior_mean, 1, transform=increasing, initval=prior_mean)

    log_transition = pt.log(pt.stack([theta1, theta2]))
    log_emission = pm.logp(pm.Normal.dist(mu, 1), y[:, None])

    def advance(log_emission_now: Tensor, log_forward: Tensor, log_transition: Tensor) -> Tensor:
        log_arrival = pt.logsumexp(log_forward[:, None] + log_transition, axis=0)
        return log_arrival + log_emission_now

    log_forward = pytensor.scan(
        advance,
        sequences=log_emission[1:],
        outputs_info=log_emission[0],
        non_sequences=log_transition,
        return_updates=False,
    )
    pm.Potential("y", pt.logsumexp(log_forward[-1]))


# Gaussian processes ------------------------------------------------------------------------------


def gaussian_process_regression(x: np.ndarray, y: np.ndarray) -> None:
    """Noisy values of a Gaussian process; sigma is the *variance* of the noise."""
    rho = pm.Gamma("rho", 25, 4)
    alpha = pm.HalfNormal("alpha", 2)
    sigma = pm.HalfNormal("sigma", 1)
    covariance = _squared_exponential(x, rho, alpha) + sigma * np.eye(len(x))
    pm.MvNormal("y", np.zeros(len(x)), cov=covariance, observed=y)


def gaussian_process_poisson(x: np.ndarray, counts: np.ndarray) -> None:
    """Counts whose log rate is a Gaussian process, in terms of white noise ``f_tilde``."""
    rho = pm.Gamma("rho", 25, 4)
    alpha = pm.HalfNormal("alpha", 2)
    f_tilde = pm.Normal("f_tilde", 0, 1, shape=len(x))
    covariance = _squared_exponential(x, rho, alpha) + 1e-10 * np.eye(len(x))
    log_rate = pt.linalg.cholesky(covariance) @ f_tilde
    pm.Poisson("y", pt.exp(log_rate), observed=counts)


# Mixtures ----------------------------------------------------------------------------------------


def gaussian_mixture(y: np.ndarray) -> None:
    """Two normal components, told apart by the order of their means; theta weighs the first."""
    mu = pm.Normal("mu", 0, 2, shape=2, transform=transforms.ordered, initval=[-1.0, 1.0])
    sigma = pm.HalfNormal("sigma", 2, shape=2)
    theta = pm.Beta("theta", 5, 5)
    pm.NormalMixture("y", pt.stack([theta, 1 - theta]), mu, sigma, observed=y)


# Shared parts ------------------------------------------------------------------------------------


class StickOfTwo(transforms.Transform):
    """A simplex of two from the log odds of its first entry, as NumPyro breaks a stick."""

    name = "stick"

    def forward(self, value: Tensor, *inputs: Tensor) -> Tensor:
        """Log odds."""
        return pt.log(value[..., :-1]) - pt.log(value[..., 1:])

    def backward(self, value: Tensor, *inputs: Tensor) -> Tensor:
        """Both entries."""
        return pt.concatenate([pt.sigmoid(value), pt.sigmoid(-value)], axis=-1)

    def log_jac_det(self, value: Tensor, *inputs: Tensor) -> Tensor:
        """Log of the product of both entries."""
        return pt.sum(-pt.softplus(value) - pt.softplus(-value), axis=-1)


def _linear_recurrence(coefficient: Tensor, increments: Tensor) -> Tensor:
    """Solve x_1 = u_1, x_t = c * x_{t-1} + u_t for all t."""
    states = pytensor.scan(
        lambda increment, state, coefficient: coefficient * state + increment,
        sequences=increments[1:],
        outputs_info=increments[0],
        non_sequences=coefficient,
        return_updates=False,
    )
    return pt.concatenate([increments[:1], states])


def _squared_exponential(x: np.ndarray, rho: Tensor, alpha: Tensor) -> Tensor:
    """Covariance of a Gaussian process with length scale rho and marginal sd alpha at x."""
    squared_distance = (x[:, None] - x) ** 2
    return alpha**2 * pt.exp(-squared_distance / (2 * rho**2))
