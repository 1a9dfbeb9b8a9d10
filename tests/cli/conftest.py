"""Fixtures of the command line's tests: a folder with model files, and a call of the program."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from infimum.cli import main

MODEL = """
import infimum
import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist

def log_density(p):
    return -0.5 * ((p["a"] - 1.0) ** 2 + (p["b"] - 0.8 * p["a"]) ** 2 / 0.36)

posterior = infimum.Target(log_density, {"a": 0.0, "b": 0.0})

def model(scale=0.6):
    a = numpyro.sample("a", dist.Normal(1.0, 1.0))
    numpyro.sample("b", dist.Normal(0.8 * a, scale))

def makes_target():
    return infimum.from_numpyro(model)

def makes_model():
    return model

def flat():
    a = numpyro.sample("a", dist.ImproperUniform(dist.constraints.real, (), ()))
    numpyro.sample("b", dist.Normal(a, 1.0), obs=2.0)

def needs(y, sigma):
    numpyro.sample("y", dist.Normal(numpyro.sample("a", dist.Normal()), sigma), obs=y)

def discrete():
    numpyro.sample("k", dist.Poisson(3.0))

def whole_number():
    return infimum.Target(log_density, {"a": 0, "b": 0.0})

def undefined():
    return infimum.Target(lambda p: jnp.log(-1.0 - p["a"] ** 2), {"a": 0.5})

def fails():
    raise RuntimeError("no such column")

number = 3
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder with a model file in it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model.py").write_text(MODEL)
    (tmp_path / "one.py").write_text(MODEL.split("def model")[0])
    (tmp_path / "empty.py").write_text("")
    (tmp_path / "torn.py").write_text("x = = 3\n")
    (tmp_path / "missing.py").write_text("\nimport no_such_module\n")
    (tmp_path / "not_a_fit.zip").write_text("hello")
    return tmp_path


@pytest.fixture
def run() -> Callable[..., int | str | None]:
    """Run the program with these arguments and return its exit code."""

    def call(*arguments: str) -> int | str | None:
        with pytest.raises(SystemExit) as end:
            main(arguments)
        return end.value.code

    return call
