"""Fits as files: what survives, in a process without the model; and what a hostile file gets."""

import io
import json
import subprocess
import sys
import zipfile

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import infimum
from infimum import supports as S


@pytest.fixture(scope="module")
def saved(skewed_fit, tmp_path_factory):
    return skewed_fit.save(tmp_path_factory.mktemp("fits") / "fit.zip")


def test_everything_survives(skewed_fit, saved):
    again = infimum.load(saved)
    assert again.target is None
    for name in ("elbo", "log_evidence", "kl", "ess", "khat", "verdict", "advice", "reason"):
        assert getattr(again, name) == getattr(skewed_fit, name), name
    assert str(again) == str(skewed_fit)
    assert again.summary().equals(skewed_fit.summary())
    assert again.starts == skewed_fit.starts
    assert again.trace == skewed_fit.trace
    for weighted in (False, True):
        draws = again.sample(100, seed=4, weighted=weighted)
        assert draws["b"].shape == (100,)
    np.testing.assert_array_equal(again.sample(50)["b"], skewed_fit.sample(50)["b"])
    draws = again.sample(5)
    np.testing.assert_allclose(again.log_prob(draws), skewed_fit.log_prob(draws))
    assert again.to_arviz(10)["posterior"].sizes["draw"] == 10


def test_a_fresh_process_needs_neither_model_nor_data(skewed_fit, saved):
    code = f"import infimum; print(repr(infimum.load({str(saved)!r}).sample(3)['b'].tolist()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == skewed_fit.sample(3)["b"].tolist()


def test_saving_twice_is_stable(saved, tmp_path):
    again = infimum.load(infimum.load(saved).save(tmp_path / "again.zip"))
    assert str(again) == str(infimum.load(saved))


@pytest.mark.parametrize(
    ("example", "supports"),
    [
        (np.zeros(2), None),
        ({"a": [np.zeros(2), 1.0], "b": {"c": np.zeros(2)}}, {"b": {"c": S.ordered}}),
        ({"w": np.full(3, 1 / 3)}, {"w": "simplex"}),
        ({"x": np.zeros(2)}, {"x": S.interval(np.array([0.0, 1.0]), 4.0)}),
        ((np.zeros(1), 1.0), None),
    ],
)
def test_structures_and_supports_survive(example, supports, tmp_path):
    def log_density(params):
        return -sum(jnp.sum(x**2) for x in jax.tree_util.tree_leaves(params))

    fit = infimum.fit(infimum.Target(log_density, example, supports), "meanfield", draws=200)
    again = infimum.load(fit.save(tmp_path / "fit.zip"))
    assert again.space.names == fit.space.names
    for a, b in zip(*(jax.tree_util.tree_leaves(f.sample(20)) for f in (fit, again)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)
    if not isinstance(example, tuple):  # a container of another kind comes back as a dict by name
        assert again.space.treedef == fit.space.treedef


def test_a_dependent_support_carries_draws_and_says_so(tmp_path):
    target = infimum.Target(
        lambda p: -p["x"] - p["y"],
        {"x": np.zeros(()), "y": np.zeros(())},
        {"x": S.unit_interval, "y": lambda p: S.interval(0.0, 1.0 - p["x"])},
    )
    fit = infimum.fit(target, "meanfield", draws=300)
    again = infimum.load(fit.save(tmp_path / "fit.zip"))
    assert "300 stored draws" in str(again)
    draws = again.sample(300)
    assert np.all(draws["x"] + draws["y"] < 1)
    assert again.sample(1000, weighted=True)["x"].shape == (1000,)
    assert again.summary().equals(fit.summary())
    with pytest.raises(ValueError, match="stores 300 draws"):
        again.sample(301)
    with pytest.raises(ValueError, match="model's own code"):
        again.log_prob(draws)


def rewritten(saved, path, **changes):
    """The file with some entries replaced; None removes one."""
    with zipfile.ZipFile(saved) as source, zipfile.ZipFile(path, "w") as target:
        for name in source.namelist():
            content = changes.get(name, source.read(name))
            if content is not None:
                target.writestr(name, content)
    return path


def npy(value):
    buffer = io.BytesIO()
    np.save(buffer, value, allow_pickle=True)
    return buffer.getvalue()


def described(saved, **changes):
    with zipfile.ZipFile(saved) as archive:
        return json.dumps({**json.loads(archive.read("fit.json")), **changes})


def test_another_version_is_refused(saved, tmp_path):
    path = rewritten(saved, tmp_path / "x.zip", **{"fit.json": described(saved, format=99)})
    with pytest.raises(ValueError, match="format version 99, this infimum reads"):
        infimum.load(path)


@pytest.mark.parametrize(
    "changes",
    [
        {"fit.json": None},
        {"fit.json": b"{"},
        {"fit.json": b"[1]"},
        {"log_p.npy": None},
        {"log_p.npy": b"\x93NUMPY nonsense"},
        {"log_p.npy": npy(np.zeros(3))},
        {"log_p.npy": npy(np.array([{"a": 1}], dtype=object))},
        {"log_p.npy": npy(np.array(["text"]))},
        {"q0/raw.npy": None},
        {"q0/raw.npy": npy(np.zeros((7, 7)))},
    ],
)
def test_a_damaged_file_is_refused(saved, tmp_path, changes):
    with pytest.raises(ValueError, match=r"x\.zip"):
        infimum.load(rewritten(saved, tmp_path / "x.zip", **changes))


@pytest.mark.parametrize(
    "changes",
    [
        {"family": "os.system"},
        {"supports": [{"name": "__import__", "arguments": ["os"]}] * 2},
        {"tree": {"a": "b"}},
        {"reason": "NOTHING"},
        {"leaves": [["a", [10**6, 10**6], False], ["b", [], False]]},
        {"n_draws": -1},
        {"starts": [{"kind": "x"}]},
    ],
)
def test_a_hostile_description_is_refused(saved, tmp_path, changes):
    path = rewritten(saved, tmp_path / "x.zip", **{"fit.json": described(saved, **changes)})
    with pytest.raises(ValueError, match=r"x\.zip"):
        infimum.load(path)


def test_a_pickle_is_never_executed(saved, tmp_path):
    class Bomb:
        def __reduce__(self):
            return (open, (str(tmp_path / "exploded"), "w"))

    bomb = np.empty(1, dtype=object)
    bomb[0] = Bomb()
    with pytest.raises(ValueError, match=r"x\.zip"):
        infimum.load(rewritten(saved, tmp_path / "x.zip", **{"log_p.npy": npy(bomb)}))
    assert not (tmp_path / "exploded").exists()


def test_truncated_and_foreign_files_are_refused(saved, tmp_path):
    path = tmp_path / "x.zip"
    path.write_bytes(saved.read_bytes()[:-200])
    with pytest.raises(ValueError, match=r"x\.zip"):
        infimum.load(path)
    path.write_text("not a zip")
    with pytest.raises(ValueError, match=r"x\.zip"):
        infimum.load(path)
    with pytest.raises(FileNotFoundError):
        infimum.load(tmp_path / "missing.zip")


def test_a_failed_save_leaves_the_old_file(skewed_fit, saved, tmp_path, monkeypatch):
    path = skewed_fit.save(tmp_path / "fit.zip")
    monkeypatch.setattr(np.lib.format, "write_array", lambda *a, **k: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        skewed_fit.save(path)
    assert infimum.load(path).elbo == skewed_fit.elbo
