"""Results as JSON."""

from __future__ import annotations

import json

import numpy as np

from infimum.cli import facts


def test_numbers_that_are_not_known_are_null():
    unknown = {"a": [np.float64("nan"), np.int64(3)], "b": {"c": float("inf")}, "d": 0.1}
    assert json.loads(facts.as_json(unknown)) == {"a": [None, 3], "b": {"c": None}, "d": 0.1}
