"""What a fit will take is told before it begins, where it is much."""

import re
import time

import numpy as np

import infimum
from infimum import families
from infimum.fitting.forecast import forecast


def told(target, family, **options):
    notes = []
    infimum.fit(target, family, callback=lambda p: notes.append(p.note) or len(notes) > 1)
    return [note for note in notes if note]


def test_a_quick_fit_says_nothing():
    target = infimum.Target(lambda z: -0.5 * (z**2).sum(), np.zeros(2))
    assert told(target, "meanfield") == []


def test_a_slow_density_is_timed_once():
    calls = []

    def slow(z):
        calls.append(1)
        time.sleep(0.1)
        return -0.5 * z @ z, -z

    target = infimum.from_numpy(slow, 10)
    calls.clear()
    _, note = forecast(target, families.named("fullrank"), 4, 4096, None)
    assert len(calls) == 2
    # 60 × 5 × 12 gradients and 3072 values of 0.1 s
    assert re.fullmatch("this will take about 1[1-9] minutes", note)


def test_memory_is_told_above_half(monkeypatch):
    target = infimum.Target(lambda z: -0.5 * (z**2).sum(), np.zeros(1000))
    family = families.named("fullrank")
    monkeypatch.setattr("infimum.base.memory.total", lambda: int(1.5 * family.n_bytes(1000)))
    _, note = forecast(target, family, 1, 512, None)
    assert "of memory" in note


def test_passes_are_counted_from_one_block():
    rows = np.random.default_rng(0).standard_normal(3000)
    target = infimum.Rows(
        lambda p: -0.5 * p["m"] ** 2,
        lambda p, rows: -0.5 * ((rows - p["m"]) ** 2).sum(),
        rows,
        {"m": 0.0},
        way="blocks",
    )
    before = target.large.n_passes
    assert forecast(target, families.named("fullrank"), 4, 512, None).note is None
    assert target.large.n_passes == before
    assert target.large.seconds(320, gradient=True) > 0
