"""The command that calibrates: its output, its plot and its exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

SIMULATED = """
import infimum
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist

def model(y=np.zeros(3)):
    numpyro.sample("y", dist.Normal(numpyro.sample("mu", dist.Normal(0.0, 1.0)), 1.0), obs=y)

def simulate(rng):
    mu = rng.normal(0.0, 5.0)
    y = rng.normal(mu, 1.0, 3)
    def log_density(p):  # whose prior is five times narrower
        return -0.5 * p["mu"] ** 2 - 0.5 * jnp.sum((y - p["mu"]) ** 2)
    return {"mu": mu}, infimum.Target(log_density, {"mu": 0.0})
"""


def test_calibrate_prints_and_plots(run, folder, capsys):
    Path("drawn.py").write_text(SIMULATED)
    command = ("calibrate", "drawn.py:model", "--n", "20", "--family", "meanfield", "--seed", "1")
    assert run(*command, "--plot", "ranks.png") == 0
    printed = capsys.readouterr().out
    assert "Wrote ranks.png." in printed
    assert "infimum calibration of 'model': meanfield, 1 quantities" in printed
    assert "20; 99 importance-weighted draws each" in printed
    assert Path("ranks.png").read_bytes().startswith(b"\x89PNG")


def test_a_calibration_that_fails_ends_with_a_code_of_its_own(run, folder, capsys):
    Path("drawn.py").write_text(SIMULATED)
    command = ("calibrate", "drawn.py:simulate", "--n", "40", "--family", "meanfield", "--json")
    assert run(*command, "--unweighted") == 4
    facts = json.loads(capsys.readouterr().out)
    assert facts["passed"] is False
    assert facts["n_data_sets"] == 40
    assert [row["quantity"] for row in facts["table"]] == ["mu"]
    assert facts["table"][0]["dispersion"] > 1.2


@pytest.mark.parametrize("stated", ["drawn.py", "drawn.py:none", "drawn.py:np.pi", "absent.py:a"])
def test_calibrate_says_what_it_needs(run, folder, capsys, stated):
    Path("drawn.py").write_text(SIMULATED)
    assert run("calibrate", stated) == 2
    message = capsys.readouterr().err
    assert "give FILE.py:NAME" in message or "give drawn.py:NAME" in message
