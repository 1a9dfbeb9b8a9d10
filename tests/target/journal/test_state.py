"""The state of a checkpoint: one that is damaged or of another job is refused, and left alone."""

from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from checkpoints import refused

import infimum
from infimum import solvers
from infimum.base import version
from infimum.target.journal import state


def damages(path: Path):
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    for place in [0, len(whole) - 1, *rng.integers(len(whole), size=30)]:
        flipped = bytearray(whole)
        flipped[place] ^= 1 << int(rng.integers(8))
        yield bytes(flipped)
    yield from (whole[:-1], whole[: len(whole) // 2], b"")


@pytest.mark.parametrize("name", ["evaluations.bin", "checkpoint.json"])
def test_a_damaged_one_is_refused(skewed, begun, name):
    path = begun / name
    whole = path.read_bytes()
    for damaged in damages(path):
        path.write_bytes(damaged)
        refused("damaged|format version|another job", begun, skewed, "meanfield")
    path.unlink()
    refused(f"damaged: {name} is missing", begun, skewed, "meanfield")
    path.write_bytes(whole)
    infimum.fit(skewed, "meanfield", checkpoint=begun)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"seed": 1}, "its seed is 0, that of this call is 1"),
        ({"family": "fullrank"}, "its family is MeanField.* is FullRank"),
        ({"draws": 300}, "its draws is None, that of this call is 300"),
        ({"starts": 2}, "its starts"),
        ({"tolerance": 0.1}, "its tolerance"),
        ({"max_steps": 7}, "its max_steps"),
        ({"solver": solvers.FixedDraws(draws=128)}, "its solver is None, .* FixedDraws"),
        ({"budget": 3.0}, "its budget is None"),
    ],
)
def test_other_arguments_are_refused(skewed, begun, changes, match):
    arguments = {"family": "meanfield", **changes}
    refused(f"{match}.*another folder", begun, skewed, **arguments)


def test_another_target_is_refused(begun, make_gaussian):
    def other(params):
        return 3 * params["a"] - 1.01 * jnp.exp(params["a"]) + jnp.log(params["b"]) - params["b"]

    example, positive = {"a": 0.0, "b": 1.0}, {"b": "positive"}
    changed = infimum.Target(other, example, positive, name="skewed")
    refused("other data or another density", begun, changed, "meanfield")
    named = infimum.Target(other, example, positive, name="other")
    refused("its target is skewed, that of this call is other", begun, named, "meanfield")
    longer = infimum.Target(lambda p: -(sum(p.values()) ** 2), {**example, "c": 0.0}, name="skewed")
    refused("its dimension is 2, that of this call is 3", begun, longer, "meanfield")


def test_other_data_behind_the_same_code_are_refused(tmp_path, make_gaussian):
    def target(data):
        return infimum.Target(lambda z: -0.5 * ((z - data) ** 2).sum(), np.zeros(2), name="t")

    infimum.fit(target(np.array([1.0, 2.0])), "meanfield", checkpoint=tmp_path)  # nothing is slow
    refused("other data", tmp_path, target(np.array([1.0, 2.0 + 1e-12])), "meanfield")
    infimum.fit(target(np.array([1.0, 2.0])), "meanfield", checkpoint=tmp_path)


def test_other_versions_are_refused(skewed, begun, monkeypatch):
    monkeypatch.setattr(version, "__version__", "9.9")
    refused("its infimum is .*, that of this call is 9.9", begun, skewed, "meanfield")
    monkeypatch.undo()
    monkeypatch.setattr(state, "FORMAT", 2)
    refused("format version 1, this infimum reads 2", begun, skewed, "meanfield")
