"""Fits that several tests of pictures draw."""

import jax.numpy as jnp
import matplotlib as mpl
import numpy as np
import pytest
from plots.pictures import gaussian

import infimum
from infimum import supports as S

mpl.use("agg")


@pytest.fixture(scope="session")
def plane():
    """Mean-field and full-rank fits of a correlated Gaussian in two dimensions."""
    return infimum.climb(gaussian(2), starts=1)


@pytest.fixture(scope="session")
def bounded():
    """A positive quantity, and a simplex whose entries are no coordinates."""

    def log_density(p):
        return 3 * jnp.log(p["s"]) - p["s"] + jnp.sum(jnp.array([3.0, 5.0, 9.0]) * jnp.log(p["p"]))

    supports = {"s": S.positive, "p": S.simplex}
    target = infimum.Target(log_density, {"s": 1.0, "p": np.ones(3) / 3}, supports)
    return infimum.fit(target, "fullrank", starts=1)


@pytest.fixture(scope="session")
def many():
    """300 normals: of some of them q is off."""
    scale = jnp.linspace(1.0, 2.0, 300)
    target = infimum.Target(
        lambda z: -0.5 * jnp.sum((z / scale) ** 2) + 0.8 * z[7] * z[11], np.zeros(300)
    )
    return infimum.fit(target, "meanfield", starts=1, draws=1000)
