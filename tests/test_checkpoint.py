"""Checkpoints: killed at any moment a fit goes on, to the same answer; what is wrong is refused."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
import warnings
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import test_locals

import infimum
from infimum import CheckpointError
from infimum.fitting import climb
from infimum.target import journal
from infimum import solvers
from infimum.fitting.forecast import TIMED_POINTS

SLOW = """
    import time
    import numpy as np
    import infimum

    def log_density(z):  # skewed, and slow enough to be killed
        time.sleep(SECONDS)
        log_p = 3 * z[0] - np.exp(z[0]) - 0.5 * (z[1] - z[0]) ** 2
        return log_p, np.array([3 - np.exp(z[0]) + z[1] - z[0], z[0] - z[1]])

    def run(folder, **options):
        target = infimum.from_numpy(log_density, 2)
        rungs = ["meanfield", "fullrank"]
        return infimum.climb(target, rungs, draws=400, checkpoint=folder, **options)
"""


def slow(seconds: float) -> dict:
    names: dict = {"SECONDS": seconds}
    exec(textwrap.dedent(SLOW), names)
    return names


class CutOffError(Exception):
    """Ends a fit as a kill does: no more is evaluated."""


def stopping(after: int):
    """A callback that ends the fit at its nth call."""
    calls = iter(range(after))

    def callback(progress):
        if next(calls, None) is None:
            raise CutOffError

    return callback


def counted(most: float = np.inf):
    """A target whose evaluations are counted, and interrupted when there have been too many."""
    asked = []

    def log_density(z):
        asked.append(z)
        if len(asked) > most:
            raise KeyboardInterrupt
        return -0.5 * z @ z - 0.1 * z[0] ** 4, -z - 0.4 * np.eye(1, 3)[0] * z[0] ** 3

    target = infimum.from_numpy(log_density, 3)
    asked.clear()
    return target, asked


def bits(fit):
    """All of an answer that must be the same, bit for bit."""
    leaves = jax.tree_util.tree_leaves((fit.q, fit.sample(50)))
    numbers = [fit.elbo, fit.kl, fit.log_evidence, fit.khat, fit.ess, fit.verdict, fit.starts]
    told = [fit.trace, fit.reason, fit.work.n_gradients, fit.work.n_calls, fit.work.n_failed]
    arrays = [np.asarray(x).tobytes() for x in (*leaves, fit.log_p, fit.log_q, fit.log_r)]
    return arrays, numbers, told, fit.work.first_failure


def held(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.fixture
def keeping_all(monkeypatch):
    """Keep what takes no time as well."""
    monkeypatch.setattr(journal, "LEAST_SECONDS", 0.0)
    monkeypatch.setattr(journal, "RATE", np.inf)


@pytest.fixture
def begun(skewed, tmp_path, keeping_all):
    """A checkpoint of a fit that was cut off."""
    folder = tmp_path / "begun"
    with pytest.raises(CutOffError):
        infimum.fit(skewed, "meanfield", checkpoint=folder, callback=stopping(4))
    return folder


# ---- going on ------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["meanfield", "fullrank", "sparse", "sinharcsinh", "flow"])
def test_a_fit_that_was_cut_off_gives_the_same_answer(skewed, tmp_path, keeping_all, family):
    options = {"draws": 200, "max_steps": 8}
    whole = infimum.fit(skewed, family, **options)
    with pytest.raises(CutOffError):
        infimum.fit(skewed, family, checkpoint=tmp_path, callback=stopping(5), **options)
    done = infimum.fit(skewed, family, checkpoint=str(tmp_path), **options)
    assert bits(done) == bits(whole)
    assert done.target is skewed
    before = held(tmp_path)
    assert bits(infimum.fit(skewed, family, checkpoint=tmp_path, **options)) == bits(whole)
    assert held(tmp_path) == before


def test_a_climb_goes_the_same_way(skewed, tmp_path, keeping_all, monkeypatch):
    ways = iter(["lowrank", "fullrank"])

    def once(rungs, fit, target=None):
        wanted = next(ways, None)
        return [(rung, 1.0) for rung in rungs if rung.name == wanted]

    monkeypatch.setattr(climb, "ranked", once)
    seen = []

    def after_the_choice(progress):
        seen.append(progress.family)
        if "lowrank" in seen and len(seen) > seen.index("lowrank") + 3:
            raise CutOffError

    with pytest.raises(CutOffError):
        infimum.climb(skewed, tol=0, checkpoint=tmp_path, callback=after_the_choice)
    climbed = infimum.climb(skewed, tol=0, checkpoint=tmp_path)  # chooses "fullrank" only now
    names = [fit.family.name for fit in climbed]
    assert names == ["meanfield", "lowrank", "fullrank"]
    again = infimum.climb(skewed, tol=0, checkpoint=tmp_path)
    assert [bits(fit) for fit in again] == [bits(fit) for fit in climbed]
    assert (again.skipped, again.ended) == (climbed.skipped, climbed.ended)


def test_what_is_known_is_not_asked_again(tmp_path, keeping_all):
    target, asked = counted()
    whole = infimum.fit(target, "fullrank", draws=200)
    every = len(asked)
    asked.clear()
    with pytest.raises(CutOffError):
        infimum.fit(target, "fullrank", draws=200, checkpoint=tmp_path, callback=stopping(6))
    first = len(asked)
    asked.clear()
    assert bits(infimum.fit(target, "fullrank", draws=200, checkpoint=tmp_path)) == bits(whole)
    again = 1 + 2 + TIMED_POINTS  # one as a proof, the others for the forecast
    assert first + len(asked) == every + again
    asked.clear()
    assert bits(infimum.fit(target, "fullrank", draws=200, checkpoint=tmp_path)) == bits(whole)
    assert len(asked) == again


def test_failures_are_booked_as_in_one_go(tmp_path, keeping_all):
    def log_density(z):
        if z[0] > 0.5:
            raise ArithmeticError(f"at {z[0]:.6f}")
        return -0.5 * z @ z, -z

    target = infimum.from_numpy(log_density, 2)
    options = {"draws": 200, "max_steps": 20}
    whole = infimum.fit(target, "meanfield", **options)
    assert whole.work.n_failed
    for after in (2, 6):
        with pytest.raises(CutOffError):
            infimum.fit(
                target, "meanfield", checkpoint=tmp_path, callback=stopping(after), **options
            )
    done = infimum.fit(target, "meanfield", checkpoint=tmp_path, **options)
    assert bits(done) == bits(whole)
    assert done.work.first_failure == whole.work.first_failure


def test_code_that_a_compiled_loop_calls_is_remembered_within_a_chunk(tmp_path, keeping_all):
    target, asked = counted()
    chosen = {"solver": solvers.StochasticGradient(optax.adam(0.01), max_steps=1), "draws": 200}
    whole = infimum.fit(target, "meanfield", **chosen)
    every = len(asked)
    interrupted, tried = counted(5000)
    with pytest.raises(KeyboardInterrupt):  # in the loop, and in the checks after it
        infimum.fit(interrupted, "meanfield", checkpoint=tmp_path, **chosen)
    assert 5000 < len(tried) < every
    asked.clear()
    done = infimum.fit(target, "meanfield", checkpoint=tmp_path, **chosen)
    assert 0 < len(asked) < every - 3000
    assert bits(done) == bits(whole)


def test_a_density_without_gradient(tmp_path, keeping_all):
    target = infimum.from_numpy(lambda z: -0.5 * z @ z - 0.1 * z[0] ** 4, 2)
    whole = infimum.fit(target, "fullrank", draws=200)
    with pytest.raises(CutOffError):
        infimum.fit(target, "fullrank", draws=200, checkpoint=tmp_path, callback=stopping(4))
    assert bits(infimum.fit(target, "fullrank", draws=200, checkpoint=tmp_path)) == bits(whole)


def test_optimisers_are_told_apart(skewed, tmp_path, keeping_all):
    def fitted(rate, **options):
        chosen = solvers.StochasticGradient(optax.sgd(rate), max_steps=1)
        return infimum.fit(skewed, "meanfield", solver=chosen, draws=200, **options)

    fitted(1e-3, checkpoint=tmp_path)  # both are described in the same words
    assert bits(fitted(1e-2, checkpoint=tmp_path)) == bits(fitted(1e-2))


@pytest.fixture
def ctrl_c():
    """Python's own answer to it, which a shell's background job does not have."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_ctrl_c_saves_and_returns(tmp_path, keeping_all, ctrl_c):
    target, asked = counted()
    whole = infimum.fit(target, "fullrank", draws=200)
    every = len(asked)
    calls = []

    def interrupt(progress):
        calls.append(progress)
        if len(calls) == 8:
            signal.raise_signal(signal.SIGINT)

    stopped = infimum.fit(target, "fullrank", draws=200, checkpoint=tmp_path, callback=interrupt)
    assert stopped.reason.name == "INTERRUPTED"
    asked.clear()
    assert bits(infimum.fit(target, "fullrank", draws=200, checkpoint=tmp_path)) == bits(whole)
    assert len(asked) < every


def test_a_budget_counts_the_seconds_of_before(skewed, tmp_path, keeping_all):
    def slowly(progress):
        time.sleep(0.05)
        return stop(progress) if stop else None

    options = {"budget": 0.7, "tol": 0, "draws": 200, "checkpoint": tmp_path}
    stop = stopping(5)
    with pytest.raises(CutOffError):
        infimum.climb(skewed, ["meanfield", "fullrank"], callback=slowly, **options)
    assert json.loads((tmp_path / "checkpoint.json").read_text())["seconds"] > 0.2
    stop = None
    spent = infimum.climb(skewed, ["meanfield", "fullrank"], callback=slowly, **options)
    assert spent.ended == "the budget of 0.7 s is spent"
    before = held(tmp_path)
    again = infimum.climb(skewed, ["meanfield", "fullrank"], **options)  # fast enough now
    assert [bits(fit) for fit in again] == [bits(fit) for fit in spent]
    assert (again.skipped, again.ended) == (spent.skipped, spent.ended)
    assert held(tmp_path) == before


def test_processes_follow_the_time_that_was_up_as_far_as_all_can(tmp_path, monkeypatch):
    """One of two was killed eight looks after what the other one had written down."""
    monkeypatch.setattr(journal, "EVERY", np.inf)  # nothing is written

    def answers(here, there):
        monkeypatch.setattr(
            "infimum._processes.gathered",
            lambda array: np.stack([array, [there[0], there[1] or 0]]),
        )
        with (tmp_path / "records").open("w+b") as file:
            state = {**journal.BLANK, "looks": here[0], "over": here[1]}
            journal = journal.Journal(tmp_path, {}, file, state, shared=True)
            asked = iter([False] * 3 + [True])
            return [journal.over(lambda: next(asked)) for _ in range(30)]

    assert answers((20, 21), (20, 21)) == [False] * 20 + [True] * 10
    assert answers((20, 21), (12, None)) == [False] * 15 + [True] * 15


def test_local_variables_of_rows_go_on_too(tmp_path, keeping_all):
    def fit(**options):
        target = test_locals.grouped(test_locals.groups(41), way="blocks")
        return infimum.fit(target, "meanfield", starts=1, draws=100, max_steps=20, **options)

    with pytest.raises(CutOffError):
        fit(checkpoint=tmp_path, callback=stopping(6))
    assert bits(fit(checkpoint=tmp_path)) == bits(fit())


# ---- killed --------------------------------------------------------------------------------------


def started(folder, seconds):
    """A process that fits, ready to begin."""
    code = textwrap.dedent(SLOW) + f"\nprint('ready', flush=True)\nrun({str(folder)!r})\n"
    child = subprocess.Popen(
        [sys.executable, "-c", code.replace("SECONDS", str(seconds))],
        stdout=subprocess.PIPE,
        text=True,
    )
    with child.stdout:
        assert child.stdout.readline() == "ready\n"
    return child


def test_killed_at_random_moments(tmp_path):
    rng = np.random.default_rng()
    sizes = []
    for _ in range(3):
        child = started(tmp_path / "killed", 0.001)
        time.sleep(rng.uniform(0.3, 1.5))
        child.kill()
        child.wait()
        sizes.append((tmp_path / "killed" / "evaluations.bin").stat().st_size)
    assert sizes[-1] > 0
    quick, whole = slow(0.0)["run"](tmp_path / "killed"), slow(0.0)["run"](None)
    assert [bits(fit) for fit in quick] == [bits(fit) for fit in whole]
    assert bits(quick.best) == bits(whole.best)


def test_two_at_once_are_refused(tmp_path):
    child = started(tmp_path / "used", 0.01)
    try:
        while not (tmp_path / "used" / "checkpoint.json").exists():
            time.sleep(0.01)
        with pytest.raises(CheckpointError, match=r"used.*in use by another fit.*another folder"):
            slow(0.0)["run"](tmp_path / "used")
    finally:
        child.kill()
        child.wait()
    assert len(slow(0.0)["run"](tmp_path / "used")) == 2  # the lock went with it


def test_a_torn_tail_is_dropped(skewed, begun):
    whole = infimum.fit(skewed, "meanfield")
    path = begun / "evaluations.bin"
    for more, tail in enumerate((b"\0", path.read_bytes()[:50], os.urandom(3000))):
        kept = path.read_bytes()
        path.write_bytes(kept + tail)
        with pytest.raises(CutOffError):
            infimum.fit(skewed, "meanfield", checkpoint=begun, callback=stopping(6 + more))
        assert path.read_bytes()[: len(kept)] == kept
    assert bits(infimum.fit(skewed, "meanfield", checkpoint=begun)) == bits(whole)


@pytest.mark.parametrize("left", [(), ("evaluations.bin",), ("checkpoint.json.part",)])
def test_killed_before_it_began(skewed, tmp_path, left):
    for name in left:
        (tmp_path / name).touch()
    infimum.fit(skewed, "meanfield", checkpoint=tmp_path, draws=200)
    assert set(held(tmp_path)) == {"evaluations.bin", "checkpoint.json"}


# ---- refused -------------------------------------------------------------------------------------


def refused(match, folder, target, *arguments, **options):
    before = held(folder)
    with pytest.raises(CheckpointError, match=match) as caught:
        infimum.fit(target, *arguments, checkpoint=folder, **options)
    assert str(folder) in str(caught.value)
    assert held(folder) == before


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
    monkeypatch.setattr(infimum, "__version__", "9.9")
    refused("its infimum is .*, that of this call is 9.9", begun, skewed, "meanfield")
    monkeypatch.undo()
    monkeypatch.setattr(journal, "FORMAT", 2)
    refused("format version 1, this infimum reads 2", begun, skewed, "meanfield")


def test_what_is_no_checkpoint_is_left_alone(skewed, tmp_path):
    (tmp_path / "thesis.tex").write_text("all of it")
    refused("is not empty, and holds no checkpoint", tmp_path, skewed, "meanfield")
    file = tmp_path / "thesis.tex"
    with pytest.raises(CheckpointError, match="is a file, expected a folder"):
        infimum.fit(skewed, "meanfield", checkpoint=file)
    with pytest.raises(TypeError, match="checkpoint is 3, expected the path of a folder"):
        infimum.fit(skewed, "meanfield", checkpoint=3)
    with pytest.raises(ValueError, match="budget is -1"):
        infimum.fit(skewed, budget=-1, checkpoint=tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_full_disk_does_not_end_a_fit(skewed, tmp_path, keeping_all, monkeypatch):
    whole = infimum.fit(skewed, "meanfield")
    written = journal._write_state
    calls = iter(range(3))

    def full(*arguments):
        if next(calls, None) is None:
            raise OSError(28, "No space left on device")
        written(*arguments)

    monkeypatch.setattr(journal, "_write_state", full)
    monkeypatch.setattr(journal, "EVERY", 0.0)
    with pytest.warns(UserWarning, match="can't be written any more .*No space left"):
        assert bits(infimum.fit(skewed, "meanfield", checkpoint=tmp_path)) == bits(whole)
    monkeypatch.undo()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert bits(infimum.fit(skewed, "meanfield", checkpoint=tmp_path)) == bits(whole)
