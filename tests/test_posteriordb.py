"""Real posteriors against long reference runs, where posteriordb lies beside this folder."""

from pathlib import Path

import pytest

import infimum

ROOT = Path(__file__).parents[1]
DATABASE = ROOT.parent / "shared" / "posteriordb"

pytestmark = pytest.mark.skipif(
    not DATABASE.is_dir(), reason="posteriordb is not in ../shared: nothing to compare with"
)


@pytest.mark.parametrize(
    "name", ["kidiq-kidscore_momhsiq", "earnings-logearn_interaction", "garch-garch11"]
)
def test_weighted_draws_agree_with_the_reference(name, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))
    from benchmarks.database import load_data, load_reference
    from benchmarks.posteriors import POSTERIORS

    posterior = POSTERIORS[name]
    data = load_data(DATABASE, name)
    reference = load_reference(DATABASE, name)
    fit = infimum.fit(infimum.from_numpyro(posterior.model, *posterior.arguments(data)), "fullrank")
    draws = posterior.quantities(fit.sample(10_000, weighted=True), data)
    assert draws.keys() == reference.keys()
    for quantity, truth in reference.items():
        error = (draws[quantity].mean() - truth.mean()) / truth.std()
        assert abs(error) < 0.06, quantity
        assert abs(draws[quantity].std() / truth.std() - 1) < 0.06, quantity
