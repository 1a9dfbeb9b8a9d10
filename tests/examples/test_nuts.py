"""The examples of NUTS that starts from a fit run, and its chains mix."""

from __future__ import annotations

import contextlib
import io
import json
import re
import runpy
import sys
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from stan.library import HAS_COMPILER, compiled

EXAMPLES = Path(__file__).parents[2] / "examples"

pytestmark = pytest.mark.filterwarnings("ignore:PyTensor could not link to a BLAS:UserWarning")


def run(sampler, *arguments):
    """What a script left behind, and what it printed."""
    script, printed = EXAMPLES / f"nuts_{sampler}.py", io.StringIO()
    given = [script.name, *map(str, arguments)]
    with mock.patch.object(sys, "argv", given), contextlib.redirect_stdout(printed):
        names = runpy.run_path(str(script), run_name="__main__")
    return names, printed.getvalue()


@pytest.mark.parametrize("sampler", ["numpyro", "pymc", "blackjax"])
def test_fifty_steps_from_the_fit_are_enough(sampler):
    pytest.importorskip(sampler, reason=f"{sampler} is not installed")
    _, printed = run(sampler)
    row = r"^{} +(\d+) +([\d.]+) +([\d.]+)$"
    usual, begun = (
        [float(x) for x in re.search(row.format(name), printed, flags=re.MULTILINE).groups()]
        for name in ("1,000 steps, as usual", "50 steps, from the fit")
    )
    assert begun[0] > usual[0] / 2
    assert begun[1] < 1.03
    assert begun[2] < 2 * usual[2]


@pytest.mark.skipif(not HAS_COMPILER, reason="there is no C compiler")
def test_stan_reads_from_the_files_what_the_fit_has_drawn(tmp_path):
    pytest.importorskip("bridgestan", reason="bridgestan is not installed")
    names, _ = run("stan", compiled("eight_schools", tmp_path), tmp_path)
    fit, model, mass = names["fit"], names["model"], names["mass"]
    place = {name: i for i, name in enumerate(fit.space.free_names)}
    order = [place[name] for name in ("mu", "tau", *(f"t[{i}]" for i in range(8)))]
    metric = json.loads((tmp_path / "metric.json").read_text(encoding="utf-8"))["inv_metric"]
    np.testing.assert_array_equal(metric, mass[np.ix_(order, order)])
    for chain, z in enumerate(names["start"].unconstrained, start=1):
        text = (tmp_path / f"inits_{chain}.json").read_text(encoding="utf-8")
        np.testing.assert_allclose(model.param_unconstrain_json(text), z[order], atol=1e-12)
