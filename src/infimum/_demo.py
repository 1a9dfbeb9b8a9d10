"""The demonstration's posterior: the effects of coaching in eight schools (Rubin 1981)."""

from __future__ import annotations

import importlib.resources
import json

import numpy as np
import numpyro
import numpyro.distributions as dist

from infimum._target import Target
from infimum.sources.numpyro import from_numpyro


def eight_schools(effect: np.ndarray, standard_error: np.ndarray) -> None:
    """Effects mu + tau * t_j scatter around a common mean; t_j, not the effect, is a parameter.

    Parameters
    ----------
    effect, standard_error
        What each school's own experiment found, in points of the test, shape (8,).
    """
    mu = numpyro.sample("mu", dist.Normal(0.0, 5.0))
    tau = numpyro.sample("tau", dist.HalfCauchy(5.0))
    with numpyro.plate("schools", len(effect)):
        t = numpyro.sample("t", dist.Normal(0.0, 1.0))
        numpyro.sample("effect", dist.Normal(mu + tau * t, standard_error), obs=effect)


def target() -> Target:
    """The posterior of `eight_schools` given the data in this package."""
    file = importlib.resources.files("infimum") / "data" / "eight_schools.json"
    data = json.loads(file.read_text(encoding="utf-8"))
    effect, standard_error = (np.array(data[k], float) for k in ("effect", "standard_error"))
    return from_numpyro(eight_schools, effect, standard_error)
