"""Data sets one by one: the truth in the target's shapes, and workers with one thread each."""

import os

import jax.numpy as jnp
import numpy as np
import pytest

import infimum
from infimum import supports as S
from infimum.trust import ranked
from infimum.trust.ranked import true_values


def test_the_truth_has_the_target_s_shapes_and_supports():
    target = infimum.Target(
        lambda p: -p["s"] - jnp.sum(p["z"] ** 2), {"s": 1.0, "z": np.zeros(2)}, {"s": S.positive}
    )
    params = {"s": np.float32(2.0), "z": [1, 2]}
    with pytest.raises(ValueError, match="structure"):
        true_values(target, params)
    params["z"] = np.arange(2)
    np.testing.assert_array_equal(true_values(target, params), [2, 0, 1])
    with pytest.raises(ValueError, match=r"'z' has shape \(3,\), not the target's \(2,\)"):
        true_values(target, {"s": 2.0, "z": np.arange(3)})
    with pytest.raises(ValueError, match="'s' is NaN"):
        true_values(target, {"s": np.nan, "z": np.arange(2)})


def test_workers_begin_with_one_thread_each_unless_told(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    with ranked._single_threaded():
        assert (os.environ["OMP_NUM_THREADS"], os.environ["MKL_NUM_THREADS"]) == ("3", "1")
    assert os.environ["OMP_NUM_THREADS"] == "3"
    assert "MKL_NUM_THREADS" not in os.environ
