"""The demonstrations: posteriors of real datasets."""

from __future__ import annotations

import importlib.resources
import json
from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from jaxtyping import Array

from infimum.base.errors import coded_error
from infimum.sources.numpyro.source import from_numpyro
from infimum.target.target import Target


@dataclass(frozen=True)
class Demo:
    """A dataset, a question about it, and a model that answers the question.

    Attributes
    ----------
    name
        Name of the demonstration and of its data file.
    question
        The question, with a reference.
    model
        NumPyro model; its arguments are the columns of the data.
    columns
        Names of the columns, in the order of the model's arguments.
    plotted
        Quantities in its plot.
    """

    name: str
    question: str
    model: Callable[..., None]
    columns: tuple[str, ...]
    plotted: tuple[str, ...]

    def data(self) -> dict[str, np.ndarray]:
        """The columns of the dataset, by name."""
        file = importlib.resources.files("infimum") / "data" / f"{self.name}.json"
        contents = json.loads(file.read_text(encoding="utf-8"))
        return {column: np.array(contents[column]) for column in self.columns}

    def target(self) -> Target:
        """The posterior of the model given the dataset."""
        return from_numpyro(self.model, *self.data().values())


def eight_schools(effect: Array, standard_error: Array) -> None:
    """Effects mu + tau * t_j around a common mean; the parameter is t_j (non-centred).

    Parameters
    ----------
    effect, standard_error
        Estimate from each school's own experiment, in points of the test, shape (8,).
    """
    mu = numpyro.sample("mu", dist.Normal(0.0, 5.0))
    tau = numpyro.sample("tau", dist.HalfCauchy(5.0))
    with numpyro.plate("schools", len(effect)):
        t = numpyro.sample("t", dist.Normal(0.0, 1.0))
        numpyro.sample("effect", dist.Normal(mu + tau * t, standard_error), obs=effect)


def challenger(temperature: Array, distress: Array) -> None:
    """Log odds of distress, linear in temperature; `at_31` is its probability at 31 °F."""
    level = numpyro.sample("level", dist.Normal(0.0, 2.5))
    slope = numpyro.sample("slope", dist.Normal(0.0, 2.5))
    log_odds = level + slope * (temperature - 70.0) / 10.0
    numpyro.sample("distress", dist.Bernoulli(logits=log_odds), obs=distress)
    numpyro.deterministic("at_31", jax.nn.sigmoid(level - 3.9 * slope))


def pumps(hours: Array, failures: Array) -> None:
    """Each pump has its own failure rate; rates are gamma-distributed (George et al. 1993)."""
    shape = numpyro.sample("shape", dist.Exponential(1.0))
    inverse_scale = numpyro.sample("inverse_scale", dist.Gamma(0.1, 1.0))
    with numpyro.plate("pumps", len(hours)):
        rate = numpyro.sample("rate", dist.Gamma(shape, inverse_scale))
        numpyro.sample("failures", dist.Poisson(rate * hours), obs=failures)


def seeds(germinated: Array, seeds: Array, variety: Array, extract: Array) -> None:
    """A logistic regression with a random effect for each plate (Breslow & Clayton 1993)."""
    level = numpyro.sample("level", dist.Normal(0.0, 2.5))
    effects = numpyro.sample("effects", dist.Normal(0.0, 2.5).expand([3]).to_event(1))
    sd = numpyro.sample("sd", dist.HalfNormal(1.0))
    design = jnp.stack([variety, extract, variety * extract], axis=-1)
    with numpyro.plate("plates", len(seeds)):
        plate = numpyro.sample("plate", dist.Normal(0.0, 1.0))
        log_odds = level + design @ effects + sd * plate
        numpyro.sample("germinated", dist.Binomial(seeds, logits=log_odds), obs=germinated)


def stackloss(air: Array, water: Array, acid: Array, loss: Array) -> None:
    """A regression on standardised columns; Student-t errors allow for outlying days."""
    columns = jnp.stack([air, water, acid], axis=-1)
    design = (columns - columns.mean(axis=0)) / columns.std(axis=0)
    level = numpyro.sample("level", dist.Normal(17.5, 10.0))
    slopes = numpyro.sample("slopes", dist.Normal(0.0, 10.0).expand([3]).to_event(1))
    scale = numpyro.sample("scale", dist.HalfNormal(5.0))
    freedom = numpyro.sample("freedom", dist.Gamma(2.0, 0.1))
    mean = level + design @ slopes
    with numpyro.plate("days", len(loss)):
        numpyro.sample("loss", dist.StudentT(freedom, mean, scale), obs=loss)


def dugongs(age: Array, length: Array) -> None:
    """Length approaches a limit: each year the remaining difference shrinks by a factor `kept`."""
    limit = numpyro.sample("limit", dist.HalfNormal(5.0))
    missing = numpyro.sample("missing", dist.HalfNormal(5.0))
    kept = numpyro.sample("kept", dist.Uniform(0.5, 1.0))
    sd = numpyro.sample("sd", dist.HalfNormal(1.0))
    with numpyro.plate("animals", len(age)):
        numpyro.sample("length", dist.Normal(limit - missing * kept**age, sd), obs=length)


def coal(year: Array, disasters: Array) -> None:
    """The rate changes once; the year of the change is summed out, and `change` is its mean."""
    before = numpyro.sample("before", dist.Exponential(0.5))
    after = numpyro.sample("after", dist.Exponential(0.5))
    early = jnp.cumsum(dist.Poisson(before).log_prob(disasters))[:-1]
    late = jnp.cumsum(dist.Poisson(after).log_prob(disasters)[::-1])[::-1][1:]
    each = early + late - jnp.log(len(year) - 1.0)
    numpyro.factor("disasters", jax.nn.logsumexp(each))
    numpyro.deterministic("change", jax.nn.softmax(each) @ (year[1:] - year[0]) + year[0])


def galaxies(velocity: Array) -> None:
    """Three clusters of unknown place, width and share, ordered from slowest to fastest.

    Without the order the posterior would have six copies of each mode, one for each permutation of
    the clusters.

    Parameters
    ----------
    velocity
        Velocities in km/s; places and widths are in 1,000 km/s.
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
            "Eight schools: by how much does coaching raise test scores, in eight separate "
            "experiments (Rubin 1981)?",
            eight_schools,
            ("effect", "standard_error"),
            ("mu", "tau", "t[0]"),
        ),
        Demo(
            "challenger",
            "Challenger: on 23 flights, O-rings were damaged more often in cold weather. How "
            "likely was damage at 31 °F, on the morning of the last flight (Dalal et al. 1989)?",
            challenger,
            ("temperature", "distress"),
            ("level", "slope", "at_31"),
        ),
        Demo(
            "pumps",
            "Pumps: ten pump systems of a power plant were observed, some for a thousand hours, "
            "some for a hundred thousand. At what rate does each fail (Gaver & O'Muircheartaigh "
            "1987)?",
            pumps,
            ("hours", "failures"),
            ("shape", "inverse_scale", "rate[0]"),
        ),
        Demo(
            "seeds",
            "Seeds: how does germination depend on the variety and on the root extract, if plates "
            "differ as well (Crowder 1978)?",
            seeds,
            ("germinated", "seeds", "variety", "extract"),
            ("level", "effects", "sd"),
        ),
        Demo(
            "stackloss",
            "Stack loss: which operating conditions make a plant lose ammonia, if some of the 21 "
            "days are outliers (Brownlee 1965)?",
            stackloss,
            ("air", "water", "acid", "loss"),
            ("slopes", "scale", "freedom"),
        ),
        Demo(
            "dugongs",
            "Dugongs: what length do sea cows reach, and how fast? A regression that is not linear "
            "in its parameters (Carlin & Gelfand 1991).",
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
            "Galaxies: 82 galaxies recede from us. Where are the three clusters in their "
            "velocities (Roeder 1990)?",
            galaxies,
            ("velocity",),
            ("place",),
        ),
    )
}


def named(name: str) -> Demo:
    """The demonstration with this name.

    Raises
    ------
    ValueError
        If there is no such demonstration.
    """
    if name not in DEMOS:
        raise coded_error(
            ValueError,
            "E306",
            f"there is no demonstration {name!r}. Choose one of {', '.join(DEMOS)}",
        )
    return DEMOS[name]
