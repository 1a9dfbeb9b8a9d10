"""Checks of a likelihood: one that is not a sum over rows, or undefined, is refused at once."""

import numpy as np
import pytest
from row_models import EXAMPLE, data, linear, log_likelihood, log_prior

import infimum
from infimum.rows.blocks import DataError


def test_rows_that_depend_on_each_other_are_seen_where_parameters_are_zero():
    """At w = 0 a likelihood says nothing of how columns are centred."""

    def centring(p, rows):
        return log_likelihood(p, {**rows, "x": rows["x"] - rows["x"].mean(axis=0)})

    with pytest.raises(ValueError, match="not a sum over rows"):
        infimum.Rows(log_prior, centring, data(100), EXAMPLE)


def test_a_likelihood_that_is_no_sum_is_refused():
    with pytest.raises(ValueError, match="not a sum over rows"):
        infimum.Rows(log_prior, lambda p, r: log_likelihood(p, r) / len(r["y"]), data(100), EXAMPLE)
    with pytest.raises(ValueError, match="not a sum over rows"):  # a prior in the wrong place
        infimum.Rows(
            log_prior, lambda p, r: log_likelihood(p, r) + log_prior(p) - 5, data(100), EXAMPLE
        )
    with pytest.raises(ValueError, match=r"returned an array of shape.*\.sum\(\)"):
        infimum.Rows(log_prior, lambda p, r: r["y"] * p["w"][0], data(10), EXAMPLE)


@pytest.mark.parametrize("way", ["whole", "blocks"])
def test_a_row_that_is_nan_is_named(way):
    rows = data(5000)
    rows["y"][3217] = np.nan
    with pytest.raises(DataError, match=r"row 3,217 .*NaN"):
        linear(rows, way=way)


def test_float32_that_is_not_enough_is_warned_about():
    rows = data(20_000)
    rows["y"] = rows["y"] + 1e5
    with pytest.warns(UserWarning, match="in float32 differences of log p̂ are off by about"):
        linear(rows, way="blocks", precision="float32")
    with pytest.raises(ValueError, match="precision is 'half'"):
        linear(rows, precision="half")
