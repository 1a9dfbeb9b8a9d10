"""The examples run, and say the same in five languages."""

from __future__ import annotations

import contextlib
import functools
import io
import re
import runpy
import sys
from pathlib import Path
from unittest import mock

import numpy as np
import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"
MODELS = {"eight_schools": ("mu", "tau", "t"), "logistic": ("alpha", "beta")}
"""The names that the languages share."""

LANGUAGES = {"numpy": (), "numpyro": (), "pymc": ("pymc",), "stan": ("stanli", "bridgestan")}
LANGUAGES |= {"torch": ("torch",)}
"""What each needs beyond infimum's own requirements."""

pytestmark = [
    pytest.mark.filterwarnings("ignore:PyTensor could not link to a BLAS:UserWarning"),
    pytest.mark.parametrize("model", MODELS),
]


@pytest.fixture(scope="session")
def run():
    """Run a script, once for all tests: its fit, and what it printed."""

    @functools.cache
    def script(model, language):
        arguments = [f"{model}_{language}.py"]
        printed = io.StringIO()
        with mock.patch.object(sys, "argv", arguments), contextlib.redirect_stdout(printed):
            names = runpy.run_path(str(EXAMPLES / arguments[0]), run_name="__main__")
        return names["fit"], printed.getvalue()

    def checked(model, language):
        for module in (*LANGUAGES[language], *(["sklearn"] if model == "logistic" else [])):
            pytest.importorskip(module, reason=f"{module} is not installed")
        return script(model, language)

    return checked


def draws(fit, names):
    sample = fit.sample(200, seed=1)
    return {
        name: sample[name] if name in sample else np.exp(sample[f"{name}_log"]) for name in names
    }


@pytest.mark.parametrize("language", LANGUAGES)
def test_it_prints_the_verdict(run, model, language):
    fit, printed = run(model, language)
    assert fit.verdict in ("good", "reweight")
    assert re.search(rf"^  verdict +{fit.verdict}\. ", printed, flags=re.MULTILINE)


@pytest.mark.parametrize("language", list(LANGUAGES)[1:])
def test_it_agrees_with_numpy(run, model, language):
    names = MODELS[model]
    (reference, _), (fit, _) = run(model, "numpy"), run(model, language)
    assert fit.elbo.value == pytest.approx(reference.elbo.value, abs=1e-6)
    expected, found = draws(reference, names), draws(fit, names)
    for name in names:
        np.testing.assert_allclose(found[name], expected[name], atol=1e-5, err_msg=name)


def test_it_begins_by_saying_what_it_shows(model):
    for language in LANGUAGES:
        first = (EXAMPLES / f"{model}_{language}.py").read_text(encoding="utf-8").splitlines()[0]
        assert re.match(r'"""[\w ]+ in \w+: ', first), language
