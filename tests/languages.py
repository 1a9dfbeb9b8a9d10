"""Eight schools in every language that a target can be stated in; log p̂ is the same in all."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
import scipy.stats
from stan.library import HAS_COMPILER, compiled

import infimum

EFFECT = np.array([28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0])
ERROR = np.array([15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0])
LOG_2PI = np.log(2 * np.pi)
CONSTANT = -4.5 * LOG_2PI - np.log(5) - 4 * LOG_2PI - np.log(ERROR).sum() + np.log(2 / (5 * np.pi))


def exact(mu: float, tau: float, t: np.ndarray) -> float:
    """log p̂ of the parameters by SciPy, without a Jacobian."""
    normal = scipy.stats.norm.logpdf
    likelihood = normal(EFFECT, mu + tau * t, ERROR).sum()
    prior = normal(mu, 0, 5) + scipy.stats.halfcauchy.logpdf(tau, 0, 5) + normal(t).sum()
    return float(likelihood + prior)


def of_jax(folder: Path) -> infimum.Target:
    def log_density(p):
        residual = (EFFECT - p["mu"] - p["tau"] * p["t"]) / ERROR
        prior = (p["mu"] / 5) ** 2 + 2 * jnp.log1p((p["tau"] / 5) ** 2) + jnp.sum(p["t"] ** 2)
        return CONSTANT - 0.5 * (jnp.sum(residual**2) + prior)

    example = {"mu": 0.0, "tau": 0.0, "t": np.zeros(8)}
    return infimum.Target(log_density, example, {"tau": "positive"}, name="schools")


def of_rows(folder: Path) -> infimum.Target:
    """The same with the schools as rows of data."""
    rows = {"school": np.arange(8), "effect": EFFECT, "error": ERROR}

    def log_prior(p):
        squares = (p["mu"] / 5) ** 2 + 2 * jnp.log1p((p["tau"] / 5) ** 2) + jnp.sum(p["t"] ** 2)
        return CONSTANT + np.log(ERROR).sum() + 4 * LOG_2PI - 0.5 * squares

    def log_likelihood(p, rows):
        residual = (rows["effect"] - p["mu"] - p["tau"] * p["t"][rows["school"]]) / rows["error"]
        return -jnp.sum(0.5 * residual**2 + jnp.log(rows["error"]) + 0.5 * LOG_2PI)

    example = {"mu": 0.0, "tau": 0.0, "t": np.zeros(8)}
    return infimum.Rows(log_prior, log_likelihood, rows, example, {"tau": "positive"}, way="blocks")


def numpyro_model(error, effect=None):
    mu = numpyro.sample("mu", dist.Normal(0.0, 5.0))
    tau = numpyro.sample("tau", dist.HalfCauchy(5.0))
    with numpyro.plate("school", 8):
        t = numpyro.sample("t", dist.Normal(0.0, 1.0))
        theta = numpyro.deterministic("theta", mu + tau * t)
        numpyro.sample("effect", dist.Normal(theta, error), obs=effect)


def of_numpyro(folder: Path) -> infimum.Target:
    return infimum.from_numpyro(numpyro_model, ERROR, effect=EFFECT)


def pymc_model():
    pm = import_pymc()
    with pm.Model(coords={"school": list("ABCDEFGH")}) as model:
        error = pm.Data("error", ERROR, dims="school")
        mu = pm.Normal("mu", 0.0, 5.0)
        tau = pm.HalfCauchy("tau", 5.0)
        t = pm.Normal("t", 0.0, 1.0, dims="school")
        theta = pm.Deterministic("theta", mu + tau * t, dims="school")
        pm.Normal("effect", theta, error, observed=EFFECT, dims="school")
    return model


def import_pymc():
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"\nArviZ is undergoing", category=FutureWarning)
        return pytest.importorskip("pymc")


def of_pymc(folder: Path) -> infimum.Target:
    return infimum.from_pymc(pymc_model())


def of_pytensor(folder: Path) -> infimum.Target:
    """The same, as a model goes whose graph has no JAX form."""
    from infimum.sources.pymc import graphs

    def refuse(inputs, outputs):
        raise NotImplementedError("No JAX conversion for the given `Op`")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(graphs, "_jaxified", refuse)
        model = pymc_model()
        target = infimum.from_pymc(model)
    assert target.model.backend == "pytensor"
    return target


def stan_model(folder: Path, *flags: str, **more: float):
    bridgestan = pytest.importorskip("bridgestan")
    if not HAS_COMPILER:
        pytest.skip("no C compiler to make the Stan library with")
    data = {"J": 8, "effect": EFFECT, "standard_error": ERROR, **more}
    return bridgestan.StanModel(compiled("eight_schools", folder, *flags), data)


def of_stan(folder: Path) -> infimum.Target:
    """By stanli, which runs the program itself."""
    pytest.importorskip("stanli")
    pytest.importorskip("bridgestan")
    program = Path(__file__).parents[1] / "examples" / "eight_schools.stan"
    return infimum.from_stan(program, {"J": 8, "effect": EFFECT, "standard_error": ERROR})


def of_compiled_stan(folder: Path) -> infimum.Target:
    return infimum.from_stan(stan_model(folder))


def of_threaded_stan(folder: Path) -> infimum.Target:
    return infimum.from_stan(stan_model(folder, "-DSTAN_THREADS"))


def of_torch(folder: Path) -> infimum.Target:
    torch = pytest.importorskip("torch")
    effect, error = torch.tensor(EFFECT), torch.tensor(ERROR)

    def log_density(p):
        residual = (effect - p["mu"] - p["tau"] * p["t"]) / error
        prior = (p["mu"] / 5) ** 2 + 2 * torch.log1p((p["tau"] / 5) ** 2) + (p["t"] ** 2).sum()
        return CONSTANT - 0.5 * ((residual**2).sum() + prior)

    example = {"mu": torch.zeros(()), "tau": torch.zeros(()), "t": torch.zeros(8)}
    return infimum.from_torch(log_density, example, {"tau": "positive"}, name="schools")


def of_branching_torch(folder: Path) -> infimum.Target:
    """The same with a branch on a value, which torch.func can't take whole."""
    torch = pytest.importorskip("torch")
    effect, error = torch.tensor(EFFECT), torch.tensor(ERROR)

    def log_density(p):
        if p["mu"] > 0:
            residual = (effect - p["mu"] - p["tau"] * p["t"]) / error
        else:
            residual = (p["mu"] + p["tau"] * p["t"] - effect) / error
        prior = (p["mu"] / 5) ** 2 + 2 * torch.log1p((p["tau"] / 5) ** 2) + (p["t"] ** 2).sum()
        return CONSTANT - 0.5 * ((residual**2).sum() + prior)

    example = {"mu": np.zeros(()), "tau": np.zeros(()), "t": np.zeros(8)}
    return infimum.from_torch(log_density, example, {"tau": "positive"}, name="schools")


def value_and_gradient(z):
    """At rows (mu, t, log tau); written for one row or for many."""
    mu, t, tau = z[..., :1], z[..., 1:9], np.exp(z[..., 9:])
    residual = (EFFECT - mu - tau * t) / ERROR
    squares = np.sum(residual**2 + t**2, axis=-1) + (mu[..., 0] / 5) ** 2
    value = CONSTANT - 0.5 * squares - np.log1p((tau[..., 0] / 5) ** 2) + z[..., 9]
    slope = residual / ERROR
    heavy = 2 * tau**2 / (25 + tau**2)
    gradient = np.concatenate(
        [
            slope.sum(-1, keepdims=True) - mu / 25,
            tau * slope - t,
            tau * np.sum(slope * t, axis=-1, keepdims=True) - heavy + 1,
        ],
        axis=-1,
    )
    return value, gradient


NAMES = ["mu", *(f"t[{i}]" for i in range(8)), "tau_log"]


def of_numpy(folder: Path) -> infimum.Target:
    return infimum.from_numpy(value_and_gradient, 10, NAMES, name="schools")


def of_batched_numpy(folder: Path) -> infimum.Target:
    return infimum.from_numpy(value_and_gradient, 10, NAMES, batched=True, name="schools")


LANGUAGES: dict[str, Callable[[Path], infimum.Target]] = {
    "jax": of_jax,
    "rows": of_rows,
    "numpyro": of_numpyro,
    "pymc": of_pymc,
    "pytensor": of_pytensor,
    "stan": of_stan,
    "compiled stan": of_compiled_stan,
    "threaded stan": of_threaded_stan,
    "torch": of_torch,
    "branching torch": of_branching_torch,
    "numpy": of_numpy,
    "batched numpy": of_batched_numpy,
}
MODELS = ("numpyro", "pymc", "pytensor", "stan")
"""Those that know their data."""
