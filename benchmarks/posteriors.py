"""Fifteen posteriordb posteriors: each one's model, its arguments, and what its draws report."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import jax
import numpy as np

from benchmarks import models

Arrays = Mapping[str, np.ndarray]


def _sites_alone(sample: Arrays, data: Arrays) -> Arrays:
    return sample


@dataclass(frozen=True)
class Posterior:
    """A model with its data's arguments, comparable with posteriordb's reference draws.

    Attributes
    ----------
    name
        The posterior's full name in posteriordb.
    model
        A NumPyro model.
    arguments
        Maps the data set to the model's positional arguments.
    report
        Maps draws of the model's sites, and the data, to draws of the variables that posteriordb
        reports. By default these are the sites themselves.
    """

    name: str
    model: Callable[..., None]
    arguments: Callable[[Arrays], tuple[np.ndarray, ...]]
    report: Callable[[Arrays, Arrays], Arrays] = _sites_alone

    def quantities(self, sample: Arrays, data: Arrays) -> dict[str, np.ndarray]:
        """Name draws of the model's sites as posteriordb names its reference draws.

        Parameters
        ----------
        sample
            Draws of each latent site, with a leading draw axis.
        data
            The data set the posterior conditions on.

        Returns
        -------
        dict[str, np.ndarray]
            Draws of each scalar quantity, shape ``(draws,)``: a scalar variable by its own name,
            the entries of a vector as ``beta[1]``, ``beta[2]``, ...
        """
        scalars = {}
        for name, draws in self.report(sample, data).items():
            if np.ndim(draws) == 1:
                scalars[name] = np.asarray(draws)
            else:
                entries = np.asarray(draws).T
                scalars |= {f"{name}[{i}]": entry for i, entry in enumerate(entries, start=1)}
        return scalars


# Arguments of the models -------------------------------------------------------------------------


def _entries(*names: str) -> Callable[[Arrays], tuple[np.ndarray, ...]]:
    """Pass entries of the data set on as they are."""
    return lambda data: tuple(data[name] for name in names)


def _design(*columns: np.ndarray) -> np.ndarray:
    """Join predictors to a design matrix whose first column is the intercept's."""
    return np.column_stack([np.ones(len(columns[0])), *columns])


def _kidiq(data: Arrays) -> tuple[np.ndarray, np.ndarray]:
    return _design(data["mom_hs"], data["mom_iq"]), data["kid_score"]


def _earnings(data: Arrays) -> tuple[np.ndarray, np.ndarray]:
    height, male = data["height"], data["male"]
    return _design(height, male, height * male), np.log(data["earn"])


def _mesquite(data: Arrays) -> tuple[np.ndarray, np.ndarray]:
    canopy_area = data["diam1"] * data["diam2"]
    design = _design(
        np.log(canopy_area * data["canopy_height"]),
        np.log(canopy_area),
        np.log(data["diam1"] / data["diam2"]),
        np.log(data["total_height"]),
        np.log(data["density"]),
        data["group"],
    )
    return design, np.log(data["weight"])


def _nes(data: Arrays) -> tuple[np.ndarray, np.ndarray]:
    design = _design(
        data["real_ideo"],
        data["race_adj"],
        *(data["age_discrete"] == age for age in (2, 3, 4)),
        data["educ1"],
        data["gender"],
        data["income"],
    )
    return design, data["partyid7"]


def _diamonds(data: Arrays) -> tuple[np.ndarray, np.ndarray]:
    predictors = data["X"][:, 1:]
    return predictors - predictors.mean(axis=0), data["Y"]


def _autoregression(data: Arrays) -> tuple[np.ndarray, np.ndarray]:
    y, order = data["y"], int(data["K"])
    lags = np.column_stack([y[order - lag : -lag] for lag in range(1, order + 1)])
    return lags, y[order:]


# Variables that the reference draws hold instead of the sites ------------------------------------


def _school_effects(sample: Arrays, data: Arrays) -> Arrays:
    mu, tau = sample["mu"], sample["tau"]
    return {"mu": mu, "tau": tau, "theta": mu[:, None] + tau[:, None] * sample["t"]}


def _log_rates(sample: Arrays, data: Arrays) -> Arrays:
    rho, alpha = sample["rho"], sample["alpha"]
    values = jax.vmap(models.gaussian_process_values, in_axes=(None, 0, 0, 0))
    with jax.enable_x64(True):
        f = values(data["x"], rho, alpha, sample["f_tilde"])
    return {"rho": rho, "alpha": alpha, "f": f}


# The registry ------------------------------------------------------------------------------------

POSTERIORS: dict[str, Posterior] = {
    posterior.name: posterior
    for posterior in (
        Posterior(
            "eight_schools-eight_schools_noncentered",
            models.eight_schools_noncentered,
            _entries("y", "sigma"),
            _school_effects,
        ),
        Posterior(
            "eight_schools-eight_schools_centered",
            models.eight_schools_centered,
            _entries("y", "sigma"),
        ),
        Posterior("kidiq-kidscore_momhsiq", models.kidscore_regression, _kidiq),
        Posterior("earnings-logearn_interaction", models.flat_regression, _earnings),
        Posterior("mesquite-logmesquite_logvas", models.flat_regression, _mesquite),
        Posterior("nes1980-nes", models.flat_regression, _nes),
        Posterior("diamonds-diamonds", models.diamonds_regression, _diamonds),
        Posterior("sblrc-blr", models.normal_regression, _entries("X", "y")),
        Posterior("arK-arK", models.autoregression, _autoregression),
        Posterior("arma-arma11", models.arma11, _entries("y")),
        Posterior("garch-garch11", models.garch11, _entries("y", "sigma1")),
        Posterior("gp_pois_regr-gp_regr", models.gaussian_process_regression, _entries("x", "y")),
        Posterior(
            "gp_pois_regr-gp_pois_regr",
            models.gaussian_process_poisson,
            _entries("x", "k"),
            _log_rates,
        ),
        Posterior("hmm_example-hmm_example", models.hidden_markov, _entries("y")),
        Posterior("low_dim_gauss_mix-low_dim_gauss_mix", models.gaussian_mixture, _entries("y")),
    )
}
