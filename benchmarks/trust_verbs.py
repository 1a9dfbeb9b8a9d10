"""Parts of `suite_trust`: what corrections and expectations claim, held against what is true."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

import infimum
from benchmarks.methods import forget
from benchmarks.table import Report, Table
from benchmarks.truth import NEAR, Truth, within
from benchmarks.truths import LAWS, synthetic

CORRECTED = (
    "Student's t of 3, d = 5",
    "log-gamma",
    "log-normal",
    "banana",
    "funnel, d = 10",
    "hierarchy of 20 groups",
    "heavy component, d = 2",
    "modes of .7 and .3, d = 2",
    "round t of 6, d = 70",
)
"""Targets whose full-rank fits are corrected: tails, a bend, a neck, modes, many dimensions."""

WAYS = ("importance", "annealing", "mcmc", "correct")
"""`infimum.corrections`, and the verb that chooses one."""

DRAWS, LARGEST_ANNEALED = 4000, 10
"""Draws of a correction, and the largest d of annealing, which takes minutes above it."""

GOOD = 0.2
"""Part of itself by which a probability may be off that is called "good": what that promises."""

TAILS = (0.5, 0.1, 0.02, 0.002, 1e-5)
"""Probabilities of events, of which fits are asked."""

ERRORS = 3.0
"""Standard errors by which the probability of an event may be off."""

RIGHT = 0.995
"""Share of claims that must be true."""

REFUSED = 0.05
"""Share of events, of 0.02 or more and right, that may be called "unreliable"."""


def corrections(seeds: Sequence[int], report: Report) -> None:
    """Rows that corrections call "good" or "reweight": whether their means and sds are right."""
    records = []
    for name in CORRECTED:
        truth = synthetic(name)
        for seed in seeds:
            with report.surviving(f"corrections of {name} seed {seed}"):
                records += list(_corrected(truth, seed))
        forget()
    report.records += records
    report.show(_corrections_table(records))
    right = sum(record["right"] for record in records)
    claimed = sum(record["claimed"] for record in records)
    report.verdict(
        bool(right >= RIGHT * claimed),
        f"rows that corrections don't call unreliable: right, {RIGHT:.1%}",
        f"{right:,} of {claimed:,}",
    )


def _corrected(truth: Truth, seed: int) -> Iterator[dict[str, Any]]:
    """A record of each way that suits the fit."""
    fit = infimum.fit(truth.target, "fullrank", seed=seed, progress=False)
    for way in WAYS:
        if way == "annealing" and truth.target.dim > LARGEST_ANNEALED:
            continue
        verb = infimum.correct if way == "correct" else getattr(infimum.corrections, way)
        try:
            made = verb(fit, n=DRAWS, seed=seed)
        except infimum.UnsuitableError:
            continue
        table = made.summary().loc[list(truth.names)]
        usable = (table["verdict"] != "unreliable").to_numpy()
        off = truth.off(table["mean"].to_numpy(), table["sd"].to_numpy())
        right = np.array([within(errors) for errors in off])
        near = np.array([within(errors, NEAR) for errors in off])
        yield {
            "part": "corrections",
            "target": truth.name,
            "way": way,
            "seed": seed,
            "fit": fit.verdict,
            "verdict": made.verdict,
            "rows": len(usable),
            "claimed": int(usable.sum()),
            "right": int((usable & right).sum()),
            "near": int(near.sum()),
            "refused": int((near & ~usable).sum()),
            "worst_mean": float(off[usable, 0].max(initial=0.0)),
            "worst_sd": float(off[usable, 1].max(initial=0.0)),
        }


def _corrections_table(records: Sequence[dict[str, Any]]) -> Table:
    columns = ("target", "way", "fit", "correction", "rows claimed", "right", "near", "refused")
    columns += ("mean off, most (sds)", "sd off, most (rel.)")
    rows = [
        (
            *(str(r[key]) for key in ("target", "way", "fit", "verdict")),
            f"{r['claimed']} of {r['rows']}",
            *(str(r[key]) for key in ("right", "near", "refused")),
            *(f"{r[key]:.2f}" for key in ("worst_mean", "worst_sd")),
        )
        for r in records
    ]
    return Table("What corrections claim", columns, tuple(rows), n_left=4)


def events(seeds: Sequence[int], report: Report) -> None:
    """Probabilities of tail events: whether those that are not refused are right."""
    records = []
    for name, law in LAWS.items():
        truth = synthetic(name)
        for family in ("meanfield", "fullrank"):
            for seed in seeds:
                with report.surviving(f"events of {name} {family} seed {seed}"):
                    records += list(_events(truth, law, family, seed))
        forget()
    report.records += records
    report.show(_events_table(records))
    claimed = [r for r in records if r["verdict"] != "unreliable"]
    right = sum(r["right"] for r in claimed)
    report.verdict(
        bool(right >= RIGHT * len(claimed)),
        f"events that are not called unreliable: within {ERRORS:.0f} standard errors, {RIGHT:.1%}",
        f"{right:,} of {len(claimed):,}",
    )
    common = [r for r in records if r["true"] >= 0.02 and r["near"]]
    refused = sum(r["verdict"] == "unreliable" for r in common)
    report.verdict(
        bool(refused <= REFUSED * len(common)),
        f"events of 0.02 or more that are near: refused, at most {REFUSED:.0%}",
        f"{refused:,} of {len(common):,}",
    )


def _events(truth: Truth, law: Any, family: str, seed: int) -> Iterator[dict[str, Any]]:
    fit = infimum.fit(truth.target, family, seed=seed, progress=False)
    for probability in TAILS:
        limit = law.isf(probability)
        said = fit.expect(lambda z, limit=limit: np.asarray(z)[:, 0] > limit)
        value, se = (
            (said.mean, np.sqrt(probability / fit.n_draws))
            if said.verdict == "good"
            else (said.weighted_mean, said.mcse)
        )
        off = abs(float(value) - probability)
        yield {
            "part": "events",
            "target": truth.name,
            "family": family,
            "seed": seed,
            "true": probability,
            "said": float(value),
            "se": float(se),
            "verdict": str(said.verdict),
            "right": bool(
                off <= max(ERRORS * float(se), GOOD * probability * (said.verdict == "good"))
            ),
            "near": bool(off <= NEAR * GOOD * probability),
        }


def _events_table(records: Sequence[dict[str, Any]]) -> Table:
    rows = []
    for probability in TAILS:
        group = [r for r in records if r["true"] == probability]
        claimed = [r for r in group if r["verdict"] != "unreliable"]
        rows.append(
            (
                f"{probability:g}",
                f"{len(group)}",
                f"{len(claimed)}",
                f"{sum(r['right'] for r in claimed)}",
                f"{sum(r['near'] for r in group)}",
                f"{sum(r['near'] and r['verdict'] == 'unreliable' for r in group)}",
            )
        )
    columns = ("probability", "asked", "not refused", "right", "near", "near, and refused")
    return Table("Events", columns, tuple(rows), n_left=1)
