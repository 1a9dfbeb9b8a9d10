"""The public names, listed once more: a change of one is a change of this file, and is meant."""

from __future__ import annotations

import importlib

import numpy as np
import pytest

import infimum

EXPORTED = """
Calibration CheckpointError Climb Corrected Estimate Evidence Expectation Fit Progress Rows Target
__version__ calibrate climb compare correct corrections evidence families fit from_numpy
from_numpyro from_pymc from_stan from_torch load predict solvers supports
"""

FIT = """
advice comparison elbo ess expect family inits inverse_mass_matrix khat kl log_evidence log_p
log_prob log_q log_r log_w log_weights loo model n_draws name path plot points positions proposal
proposal_ess q reason report rivals route rows sample save seed space starts summary target text
to_arviz trace trusted verdict verdicts work zero_fraction at_hand constrains assessment
unseen_mass weighed structure
"""

RENAMED_IN_FIT = "beyond check_chunks lacking missed stored"

CLIMB = "best ended fits plot report route skipped table"

TARGET = """
describe differentiable dim example large log_p name names model plain space value_and_gradient
values
"""


def test_the_package_exports_these_names():
    assert sorted(infimum.__all__) == EXPORTED.split()
    for name in infimum.__all__:
        assert getattr(infimum, name).__doc__ or name == "__version__", name


@pytest.fixture(scope="module")
def fit(skewed):
    return infimum.fit(skewed, "meanfield", draws=512)


def test_a_fit_has_these_attributes(fit):
    public = {name for name in dir(fit) if not name.startswith("_")}
    assert set(FIT.split()) | set(RENAMED_IN_FIT.split()) == public


@pytest.mark.parametrize("name", RENAMED_IN_FIT.split())
def test_an_old_name_works_and_names_the_new_one(fit, name):
    with pytest.warns(DeprecationWarning, match=rf"{name} is now called .*0\.3\.0.*\[W103\]"):
        getattr(fit, name)


@pytest.mark.parametrize(
    "name", ["quantities.lacking", "quantities.heavy", "quantities.most_of_one", "weights.slower"]
)
def test_an_old_function_of_the_checks_works(name):
    module, old = name.split(".")
    with pytest.warns(DeprecationWarning, match=rf"{name} is now called infimum\.checks\."):
        assert callable(getattr(importlib.import_module(f"infimum.checks.{module}"), old))


def test_a_climb_and_a_target_have_these_attributes():
    assert set(CLIMB.split()) <= set(dir(infimum.Climb)) | {"fits", "skipped", "ended"}
    target = infimum.Target(lambda z: -0.5 * (z**2).sum(), np.zeros(2))
    assert set(TARGET.split()) <= set(dir(target))


@pytest.mark.parametrize("name", ["checks", "corrections", "families", "plots", "solvers"])
def test_a_public_package_says_what_is_public(name):
    package = importlib.import_module(f"infimum.{name}")
    assert package.__all__ == sorted(package.__all__)
    for exported in package.__all__:
        assert getattr(package, exported) is not None
