"""The demonstrations: real data, a question about them, and a model that answers it."""

from __future__ import annotations

import importlib.resources
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist

from infimum.base.errors import coded
from infimum.sources.numpyro.source import from_numpyro
from infimum.target.target import Target


@dataclass(frozen=True)
class Demo:
    """A demonstration.

    Attributes
    ----------
    name
        Of it, and of its file of data.
    question
        What is asked of the data, and by whom it was.
    model
        NumPyro model of the columns.
    columns
        Of the data, in the order of the model's arguments.
    drawn
        Quantities in its picture.
    """

    name: str
    question: str
    model: Callable[..., None]
    columns: tuple[str, ...]
    drawn: tuple[str, ...]

    def data(self) -> dict[str, np.ndarray]:
        """The columns of the data in this package."""
        file = importlib.resources.files("infimum") / "data" / f"{self.name}.json"
        known = json.loads(file.read_text(encoding="utf-8"))
        return {column: np.array(known[column]) for column in self.columns}

    def target(self) -> Target:
        """The posterior of the model given the data."""
        return from_numpyro(self.model, *self.data().values())


def eight_schools(effect: Any, standard_error: Any) -> None:
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


def challenger(temperature: Any, distress: Any) -> None:
    """Log odds of distress are linear in temperature; `at_31` is the chance on the last day."""
    level = numpyro.sample("level", dist.Normal(0.0, 2.5))
    slope = numpyro.sample("slope", dist.Normal(0.0, 2.5))
    log_odds = level + slope * (temperature - 70.0) / 10.0
    numpyro.sample("distress", dist.Bernoulli(logits=log_odds), obs=distress)
    numpyro.deterministic("at_31", jax.nn.sigmoid(level - 3.9 * slope))


def pumps(hours: Any, failures: Any) -> None:
    """Each pump has a rate of its own; rates are gamma-distributed (George et al. 1993)."""
    shape = numpyro.sample("shape", dist.Exponential(1.0))
    inverse_scale = numpyro.sample("inverse_scale", dist.Gamma(0.1, 1.0))
    with numpyro.plate("pumps", len(hours)):
        rate = numpyro.sample("rate", dist.Gamma(shape, inverse_scale))
        numpyro.sample("failures", dist.Poisson(rate * hours), obs=failures)


def seeds(germinated: Any, seeds: Any, variety: Any, extract: Any) -> None:
    """A logistic regression with an effect of each plate (Breslow & Clayton 1993)."""
    level = numpyro.sample("level", dist.Normal(0.0, 2.5))
    effects = numpyro.sample("effects", dist.Normal(0.0, 2.5).expand([3]).to_event(1))
    sd = numpyro.sample("sd", dist.HalfNormal(1.0))
    design = jnp.stack([variety, extract, variety * extract], axis=-1)
    with numpyro.plate("plates", len(seeds)):
        plate = numpyro.sample("plate", dist.Normal(0.0, 1.0))
        log_odds = level + design @ effects + sd * plate
        numpyro.sample("germinated", dist.Binomial(seeds, logits=log_odds), obs=germinated)


def stackloss(air: Any, water: Any, acid: Any, loss: Any) -> None:
    """A regression on standardised columns; Student-t errors let strange days be strange."""
    columns = jnp.stack([air, water, acid], axis=-1)
    design = (columns - columns.mean(axis=0)) / columns.std(axis=0)
    level = numpyro.sample("level", dist.Normal(17.5, 10.0))
    slopes = numpyro.sample("slopes", dist.Normal(0.0, 10.0).expand([3]).to_event(1))
    scale = numpyro.sample("scale", dist.HalfNormal(5.0))
    freedom = numpyro.sample("freedom", dist.Gamma(2.0, 0.1))
    mean = level + design @ slopes
    with numpyro.plate("days", len(loss)):
        numpyro.sample("loss", dist.StudentT(freedom, mean, scale), obs=loss)


def dugongs(age: Any, length: Any) -> None:
    """Length grows towards a limit, by a constant part of what is missing each year."""
    limit = numpyro.sample("limit", dist.HalfNormal(5.0))
    missing = numpyro.sample("missing", dist.HalfNormal(5.0))
    kept = numpyro.sample("kept", dist.Uniform(0.5, 1.0))
    sd = numpyro.sample("sd", dist.HalfNormal(1.0))
    with numpyro.plate("animals", len(age)):
        numpyro.sample("length", dist.Normal(limit - missing * kept**age, sd), obs=length)


def coal(year: Any, disasters: Any) -> None:
    """The rate changes once; the year in which it does is summed out, and `change` is its mean."""
    before = numpyro.sample("before", dist.Exponential(0.5))
    after = numpyro.sample("after", dist.Exponential(0.5))
    early = jnp.cumsum(dist.Poisson(before).log_prob(disasters))[:-1]
    late = jnp.cumsum(dist.Poisson(after).log_prob(disasters)[::-1])[::-1][1:]
    each = early + late - jnp.log(len(year) - 1.0)
    numpyro.factor("disasters", jax.nn.logsumexp(each))
    numpyro.deterministic("change", jax.nn.softmax(each) @ (year[1:] - year[0]) + year[0])


def galaxies(velocity: Any) -> None:
    """Three clusters of unknown places, widths and shares, from the slowest to the fastest.

    Without that order each answer would be there six times, once for each way to name them.

    Parameters
    ----------
    velocity
        In kilometres per second; places and widths are in thousands of them.
    """
    share = numpyro.sample("share", dist.Dirichlet(2.0 * jnp.ones(3)))
    first = numpyro.sample("first", dist.Normal(10.0, 5.0))
    with numpyro.plate("gaps", 2):
        gap = numpyro.sample("gap", dist.LogNormal(2.0, 0.7))
    with numpyro.plate("clusters", 3):
        width = numpyro.sample("width", dist.LogNormal(0.5, 0.5))
    steps = jnp.concatenate([first[None], gap])
    place = numpyro.deterministic("place", jnp.cumsum(steps))
    cluster = dist.Normal(place, width)
    mixture = dist.MixtureSameFamily(dist.Categorical(probs=share), cluster)
    with numpyro.plate("galaxies", len(velocity)):
        numpyro.sample("velocity", mixture, obs=velocity / 1000.0)


DEMOS = {
    demo.name: demo
    for demo in (
        Demo(
            "eight_schools",
            "Eight schools: what does coaching do to test scores? Eight experiments, one model "
            "(Rubin 1981).",
            eight_schools,
            ("effect", "standard_error"),
            ("mu", "tau", "t[0]"),
        ),
        Demo(
            "challenger",
            "Challenger: on 23 flights O-rings were in distress more often when it was cold. How "
            "likely was it at 31 °F, on the morning of the last flight (Dalal et al. 1989)?",
            challenger,
            ("temperature", "distress"),
            ("level", "slope", "at_31"),
        ),
        Demo(
            "pumps",
            "Pumps: ten pump systems of a power plant were watched for a thousand hours or for a "
            "hundred thousand. At what rate does each fail (Gaver & O'Muircheartaigh 1987)?",
            pumps,
            ("hours", "failures"),
            ("shape", "inverse_scale", "rate[0]"),
        ),
        Demo(
            "seeds",
            "Seeds: which seeds germinate in which extract, when plates differ as well (Crowder "
            "1978)?",
            seeds,
            ("germinated", "seeds", "variety", "extract"),
            ("level", "effects", "sd"),
        ),
        Demo(
            "stackloss",
            "Stack loss: what makes a plant lose ammonia, if some of its 21 days were strange "
            "(Brownlee 1965)?",
            stackloss,
            ("air", "water", "acid", "loss"),
            ("slopes", "scale", "freedom"),
        ),
        Demo(
            "dugongs",
            "Dugongs: how long do sea cows get, and how fast? Growth that is not linear in its "
            "parameters (Carlin & Gelfand 1991).",
            dugongs,
            ("age", "length"),
            ("limit", "missing", "kept", "sd"),
        ),
        Demo(
            "coal",
            "Coal: in which year did British mines become safer, and by how much (Jarrett 1979)?",
            coal,
            ("year", "disasters"),
            ("before", "after", "change"),
        ),
        Demo(
            "galaxies",
            "Galaxies: 82 of them move away from us. Where are three clusters in their velocities "
            "(Roeder 1990)?",
            galaxies,
            ("velocity",),
            ("place",),
        ),
    )
}


def named(name: str) -> Demo:
    """The demonstration of this name.

    Raises
    ------
    ValueError
        If there is none.
    """
    if name not in DEMOS:
        raise ValueError(
            coded("E306", f"there is no demonstration {name!r}: choose one of {', '.join(DEMOS)}")
        )
    return DEMOS[name]
