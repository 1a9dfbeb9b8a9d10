"""The journal: killed or interrupted at any moment, a fit goes on to the same answer."""

import json
import signal
import subprocess
import sys
import textwrap
import time
import warnings

import numpy as np
import optax
import pytest
from checkpoints import CutOffError, bits, contents, counted, stopping
from local_models import grouped, groups

import infimum
from infimum import CheckpointError, solvers
from infimum.fitting import way
from infimum.fitting.forecast import TIMED_POINTS
from infimum.target.journal import journal

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
    before = contents(tmp_path)
    assert bits(infimum.fit(skewed, family, checkpoint=tmp_path, **options)) == bits(whole)
    assert contents(tmp_path) == before


def test_a_climb_goes_the_same_way(skewed, tmp_path, keeping_all, monkeypatch):
    names = iter(["lowrank", "fullrank"])

    def once(rungs, fit, target=None):
        name = next(names, None)
        return [(rung, 1.0) for rung in rungs if rung.name == name]

    monkeypatch.setattr(way, "rank_by_promise", once)
    fitted = []

    def after_the_choice(progress):
        fitted.append(progress.family)
        if "lowrank" in fitted and len(fitted) > fitted.index("lowrank") + 3:
            raise CutOffError

    with pytest.raises(CutOffError):
        infimum.climb(skewed, tol=0, checkpoint=tmp_path, callback=after_the_choice)
    climbed = infimum.climb(skewed, tol=0, checkpoint=tmp_path)  # chooses "fullrank" only now
    assert [fit.family.name for fit in climbed] == ["meanfield", "lowrank", "fullrank"]
    again = infimum.climb(skewed, tol=0, checkpoint=tmp_path)
    assert [bits(fit) for fit in again] == [bits(fit) for fit in climbed]
    assert (again.skipped, again.ended) == (climbed.skipped, climbed.ended)


def test_what_is_known_is_not_asked_again(tmp_path, keeping_all):
    target, points = counted()
    whole = infimum.fit(target, "fullrank", draws=200)
    every = len(points)
    points.clear()
    with pytest.raises(CutOffError):
        infimum.fit(target, "fullrank", draws=200, checkpoint=tmp_path, callback=stopping(6))
    first = len(points)
    points.clear()
    assert bits(infimum.fit(target, "fullrank", draws=200, checkpoint=tmp_path)) == bits(whole)
    again = 1 + 2 + TIMED_POINTS  # one as a proof, the others for the forecast
    assert first + len(points) == every + again
    points.clear()
    assert bits(infimum.fit(target, "fullrank", draws=200, checkpoint=tmp_path)) == bits(whole)
    assert len(points) == again


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
    target, points = counted()
    chosen = {"solver": solvers.StochasticGradient(optax.adam(0.01), max_steps=1), "draws": 200}
    whole = infimum.fit(target, "meanfield", **chosen)
    every = len(points)
    interrupted, tried = counted(5000)
    with pytest.raises(KeyboardInterrupt):  # in the loop, and in the checks after it
        infimum.fit(interrupted, "meanfield", checkpoint=tmp_path, **chosen)
    assert 5000 < len(tried) < every
    points.clear()
    done = infimum.fit(target, "meanfield", checkpoint=tmp_path, **chosen)
    assert 0 < len(points) < every - 3000
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
    target, points = counted()
    whole = infimum.fit(target, "fullrank", draws=200)
    every = len(points)
    calls = []

    def interrupt(progress):
        calls.append(progress)
        if len(calls) == 8:
            signal.raise_signal(signal.SIGINT)

    stopped = infimum.fit(target, "fullrank", draws=200, checkpoint=tmp_path, callback=interrupt)
    assert stopped.reason.name == "INTERRUPTED"
    points.clear()
    assert bits(infimum.fit(target, "fullrank", draws=200, checkpoint=tmp_path)) == bits(whole)
    assert len(points) < every


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
    before = contents(tmp_path)
    again = infimum.climb(skewed, ["meanfield", "fullrank"], **options)  # fast enough now
    assert [bits(fit) for fit in again] == [bits(fit) for fit in spent]
    assert (again.skipped, again.ended) == (spent.skipped, spent.ended)
    assert contents(tmp_path) == before


def test_local_variables_of_rows_go_on_too(tmp_path, keeping_all):
    def fit(**options):
        target = grouped(groups(41), way="blocks")
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
    rng, kept = np.random.default_rng(), tmp_path / "killed" / "evaluations.bin"
    sizes = []
    for _ in range(3):
        child = started(tmp_path / "killed", 0.001)
        time.sleep(rng.uniform(0.3, 1.5))
        child.kill()
        child.wait()
        sizes.append(kept.stat().st_size if kept.exists() else 0)
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


def test_a_full_disk_does_not_end_a_fit(skewed, tmp_path, keeping_all, monkeypatch):
    whole = infimum.fit(skewed, "meanfield")
    written = journal.write_state
    calls = iter(range(3))

    def full(*arguments):
        if next(calls, None) is None:
            raise OSError(28, "No space left on device")
        written(*arguments)

    monkeypatch.setattr(journal, "write_state", full)
    monkeypatch.setattr(journal, "SECONDS_BETWEEN_SAVES", 0.0)
    with pytest.warns(UserWarning, match="can't be written any more .*No space left"):
        assert bits(infimum.fit(skewed, "meanfield", checkpoint=tmp_path)) == bits(whole)
    monkeypatch.undo()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert bits(infimum.fit(skewed, "meanfield", checkpoint=tmp_path)) == bits(whole)
