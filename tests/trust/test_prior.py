"""NumPyro models as simulators: read once where that is right, and refused if they draw no data."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from numpyro.contrib.control_flow import scan

import infimum
from infimum.base.program import CLOCK
from infimum.trust.prior import Prior
from infimum.trust.ranked import Pipeline


def repeated(y, more=None):
    """Three data of one site without a plate; a constant; and a count of no shape."""
    rate = numpyro.sample("rate", dist.Gamma(4.0, 2.0))
    numpyro.deterministic("one", jnp.ones(()) + 0 * rate)
    numpyro.sample("y", dist.Exponential(rate), obs=y)
    numpyro.sample("more", dist.Poisson(3 * rate), obs=more)


def test_a_model_is_simulated_in_the_shapes_of_its_data():
    run = functools.partial(infimum.calibrate, repeated, np.ones(3), more=2, draws=500)
    found = run(n=20, family="meanfield", quantities=["rate", "one"])
    assert found.names == ("one", "rate")
    assert found.passed
    assert len(set(found.ranks[:, 0])) > 10  # of ties, which are broken at random


def test_one_compilation_serves_all_data_sets():
    simulate = Prior(repeated, (np.ones(3),), {"more": 2})
    pipeline = Pipeline(simulate, "meanfield", 500, True, 0)
    first = pipeline.run(0)
    compiled = CLOCK.compilations
    second = pipeline.run(1)
    assert CLOCK.compilations == compiled
    assert not np.array_equal(first.ranks, second.ranks)
    params, target = simulate(np.random.default_rng(0))
    assert set(params) == {"one", "rate"}
    assert {k: np.shape(x) for k, x in target.model.observed().items()} == {"y": (3,), "more": ()}


class Looking(dist.Normal):
    """A normal whose density looks at the data by NumPy."""

    def log_prob(self, value, intermediates=None):
        return super().log_prob(np.asarray(value))


def looking(y):
    mean = numpyro.sample("mean", dist.Normal(0.0, 1.0))
    numpyro.sample("y", Looking(mean * np.ones(3), 1.0), obs=y)


def residual(y):
    mean = numpyro.sample("mean", dist.Normal(0.0, 1.0))
    seen = numpyro.sample("y", dist.Normal(mean, 1.0), obs=y)
    numpyro.deterministic("off", seen - mean)


def bounded(y):
    seen = numpyro.sample("y", dist.Uniform(0.0, 1.0), obs=y)
    top = numpyro.sample("top", dist.Uniform(seen.max(), 2.0))
    numpyro.sample("z", dist.Uniform(0.0, top), obs=0.5 * y)


def counted(y):
    mean = numpyro.sample("mean", dist.Normal(0.0, 1.0))
    which = numpyro.sample("which", dist.Bernoulli(0.3))
    numpyro.sample("y", dist.Normal(mean + 4 * which, 1.0), obs=y)


@pytest.mark.parametrize(
    ("model", "args", "once"),
    [
        (repeated, (np.ones(3), 2), True),
        (counted, (np.array(0.5),), True),
        (looking, (np.ones(3),), False),
        (residual, (np.ones(3),), False),
        (bounded, (np.full(3, 0.4),), False),
    ],
)
def test_a_model_read_once_is_that_read_for_each_data_set(model, args, once):
    simulate = Prior(model, args, {})
    assert (simulate._posteriors is not None) == once
    for seed in (1, 2):
        truth, target = simulate(np.random.default_rng(seed))
        with jax.enable_x64(True):
            data = {name: jnp.asarray(x) for name, x in target.model.observed().items()}
            anew = infimum.from_numpyro(simulate._given(data), *args)
        z = np.random.default_rng(0).normal(size=(5, target.dim))
        np.testing.assert_array_equal(target.values(z), anew.values(z))
        for name, x in anew.constrain(z).items():
            np.testing.assert_array_equal(target.constrain(z)[name], x)
        assert set(truth) == set(anew.constrain(z))


def with_factor(y):
    mean = numpyro.sample("mean", dist.Normal(0.0, 1.0))
    numpyro.factor("more", -(mean**2))
    numpyro.sample("y", dist.Normal(mean, 1.0), obs=y)


def without_prior(y):
    mean = numpyro.sample("mean", dist.ImproperUniform(dist.constraints.real, (), ()))
    numpyro.sample("y", dist.Normal(mean, 1.0), obs=y)


def subsampled(y):
    mean = numpyro.sample("mean", dist.Normal(0.0, 1.0))
    with numpyro.plate("row", 100, subsample_size=3):
        numpyro.sample("y", dist.Normal(mean, 1.0), obs=y)


def autoregressive(y):
    first = numpyro.sample("first", dist.Normal(0.0, 1.0))

    def step(before, now):
        now = numpyro.sample("y", dist.Normal(before, 1.0), obs=now)
        return now, now

    scan(step, first, y)


def without_data(y):
    numpyro.sample("mean", dist.Normal(y.sum(), 1.0))


@pytest.mark.parametrize(
    ("model", "told"),
    [
        (with_factor, "'more' is a numpyro.factor"),
        (without_prior, "a prior that can't be drawn from"),
        (subsampled, "'y' is scaled, as that of a subsample"),
        (autoregressive, "'y' is in a scan"),
        (without_data, "no observed site"),
    ],
)
def test_models_that_draw_no_data_are_refused(model, told):
    with pytest.raises(ValueError, match=told):
        infimum.calibrate(model, np.zeros(3))


# ---- what is asked for, and what goes wrong ------------------------------------------------------
