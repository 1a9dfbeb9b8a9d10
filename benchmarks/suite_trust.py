"""What fits claim against what is true: verdicts, evidence, and corrected answers.

Targets are those of `truths`, whose moments and log Z are known, and fifteen posteriors with
reference draws. A verdict is a claim about every quantity, and is counted as one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import infimum
from benchmarks import trust_corrections, trust_verbs
from benchmarks.methods import forget
from benchmarks.posteriors import POSTERIORS, Posterior
from benchmarks.table import Report, Table, number
from benchmarks.truth import MEAN, NEAR, SD, Truth, reference, within
from benchmarks.truths import CASES, synthetic

FAMILIES = ("meanfield", "fullrank", "auto")
"""The smallest family, the one that most would choose, and what is fitted when nothing is said."""


class Claim(NamedTuple):
    """Something that fits say of quantities, and what must follow from it.

    Attributes
    ----------
    words
        For the report.
    made, kept
        Whether it is made of a quantity, and whether it is true then.
    least
        Share of the quantities of which it must be true.
    """

    words: str
    made: Callable[[dict[str, Any]], bool]
    kept: Callable[[dict[str, Any]], bool]
    least: float


CLAIMS = (
    Claim(
        f'called "good": q within {MEAN} sds and {SD:.0%}',
        lambda row: row["verdict"] == "good",
        lambda row: within(row["q"]),
        0.99,
    ),
    Claim(
        f'called "reweight": the weighted answer within {MEAN} sds and {SD:.0%}',
        lambda row: row["verdict"] == "reweight",
        lambda row: within(row["weighted"]),
        0.97,
    ),
    Claim(
        'q within half of these bounds: not called "unreliable"',
        lambda row: within(row["q"], NEAR),
        lambda row: row["verdict"] != "unreliable",
        0.8,
    ),
)
"""Two that fits make, and one against refusing what is right."""


def measure(
    folder: Path, posteriors: Sequence[Posterior], seeds: Sequence[int], report: Report
) -> None:
    """Every part in order; each is a function of the same arguments, and can be run alone.

    Where not all posteriors are asked for, synthetic targets are left out.
    """
    claims(folder, posteriors, seeds, report)
    if len(posteriors) == len(POSTERIORS):
        trust_corrections.evidence(seeds, report)
        trust_corrections.tempered(seeds, report)
        trust_corrections.gaussians(seeds, report)
        trust_verbs.corrections(seeds, report)
        trust_verbs.events(seeds, report)
    trust_corrections.responses(folder, posteriors, seeds, report)
    report.close()


def claims(
    folder: Path, posteriors: Sequence[Posterior], seeds: Sequence[int], report: Report
) -> None:
    """Fit every target with every family and seed, and count what the fits say of quantities."""
    names = CASES if len(posteriors) == len(POSTERIORS) else ()
    truths = [(name, partial(synthetic, name)) for name in names]
    truths += [(p.name, partial(reference, folder, p)) for p in posteriors]
    count(truths, seeds, report)


def count(
    truths: Sequence[tuple[str, Callable[[], Truth]]], seeds: Sequence[int], report: Report
) -> None:
    """The claims about these targets, each given by its name and by what makes it."""
    records = []
    for name, make in truths:
        for record in _fitted(name, make, seeds, report):
            report.progress(_in_short(record))
            records.append(record)
        forget()
    report.records += records
    report.show(_table(records))
    rows = [row for record in records for row in record["quantities"]]
    for row in rows:
        _denounce(row, report)
    report.show(_shares(rows))
    for claim in CLAIMS:
        held = [claim.kept(row) for row in rows if claim.made(row)]
        share = np.mean(held) if held else 1.0
        measured = f"{sum(held):,} of {len(held):,} quantities, {_percent(held)}"
        report.verdict(bool(share >= claim.least), f"{claim.words}, {claim.least:.0%}", measured)


# Fits ---------------------------------------------------------------------------------------------


def _fitted(
    name: str, make: Callable[[], Truth], seeds: Sequence[int], report: Report
) -> Iterator[dict[str, Any]]:
    """A record of each fit that raised no error."""
    with report.surviving(name):
        truth = make()
        for family in FAMILIES:
            for seed in seeds:
                with report.surviving(f"{name} {family} seed {seed}"):
                    yield _record(truth, family, seed)


def _record(truth: Truth, family: str, seed: int) -> dict[str, Any]:
    began = time.perf_counter()
    fit = infimum.fit(truth.target, family, seed=seed, progress=False)
    verdict = fit.verdict
    seconds = time.perf_counter() - began
    made = {"target": truth.name, "family": family, "seed": seed, "hidden": truth.hidden}
    return {
        "part": "claims",
        **made,
        "improper": truth.improper,
        "dim": truth.target.dim,
        "chosen": fit.family.name,
        "verdict": verdict,
        "kl": fit.kl.value,
        "khat": fit.khat,
        "seconds": seconds,
        "quantities": [{**made, **row} for row in _judged(truth, fit)],
    }


def _judged(truth: Truth, fit: infimum.Fit) -> list[dict[str, Any]]:
    """For each quantity its verdict, and the errors of q and of the weighted answer."""
    table = fit.summary().loc[list(truth.names)]
    plain = truth.off(table["mean"].to_numpy(), table["sd"].to_numpy())
    other = truth.off(table["weighted_mean"].to_numpy(), table["weighted_sd"].to_numpy())
    rows = zip(truth.names, table["verdict"], plain, other, strict=True)
    return [
        {"quantity": name, "verdict": str(verdict), "q": q.tolist(), "weighted": weighted.tolist()}
        for name, verdict, q, weighted in rows
    ]


# Tables -------------------------------------------------------------------------------------------


def _table(records: Sequence[dict[str, Any]]) -> Table:
    """A row for each target and family, over seeds."""
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for record in records:
        groups.setdefault((record["target"], record["family"]), []).append(record)
    rows = []
    for (target, family), group in groups.items():
        quantities = [row for record in group for row in record["quantities"]]
        rows.append(
            (
                target,
                family if family != "auto" else f"auto: {_joined(group, 'chosen')}",
                _joined(group, "verdict"),
                f"{len(quantities):,}",
                *(_kept(claim, quantities) for claim in CLAIMS),
                *(_error(max(row["q"][i] for row in quantities)) for i in (0, 1)),
                number(float(np.median([record["seconds"] for record in group])), 1),
            )
        )
    columns = ("target", "family", "verdict", "quantities", "good: right", "reweight: right")
    columns += ("q near: not refused", "q's mean off, most (sds)", "q's sd off, most (rel.)", "s")
    return Table("What fits claim, and what is true", columns, tuple(rows), n_left=3)


def _shares(rows: Sequence[dict[str, Any]]) -> Table:
    """For each claim its share of quantities, and the mean over targets of their shares."""
    kinds = {
        "all targets": list(rows),
        "without the hidden mode": [row for row in rows if not row["hidden"]],
        "the hidden mode alone": [row for row in rows if row["hidden"]],
    }
    cells = []
    for claim in CLAIMS:
        for kind, chosen in kinds.items():
            counted = [row for row in chosen if claim.made(row)]
            held: dict[str, list[bool]] = {}
            for row in counted:
                held.setdefault(row["target"], []).append(claim.kept(row))
            every = [kept for each in held.values() for kept in each]
            means = [float(np.mean(each)) for each in held.values()]
            asked = f"{claim.least:.0%}"
            shares = (_percent(every), f"{len(held)}", _percent(means))
            cells.append((claim.words, kind, f"{len(every):,}", asked, *shares))
    columns = ("claim", "of", "quantities", "wanted", "share of quantities", "targets")
    return Table("Shares", (*columns, "mean of the targets' shares"), tuple(cells), n_left=2)


def _denounce(row: dict[str, Any], report: Report) -> None:
    """A line for a claim of a fit that is not true."""
    for claim, answer in zip(CLAIMS, ("q", "weighted"), strict=False):
        if claim.made(row) and not claim.kept(row):
            mean, sd = row[answer]
            report.say(
                f"WRONG  {row['target']} {row['family']} seed {row['seed']}, {row['quantity']} "
                f'called "{row["verdict"]}": mean off by {mean:.3f} sds, sd by {sd:.1%}'
            )


def _kept(claim: Claim, rows: Sequence[dict[str, Any]]) -> str:
    held = [claim.kept(row) for row in rows if claim.made(row)]
    return f"{sum(held)}/{len(held)}" if held else "–"


def _error(value: float) -> str:
    return number(value, 2) if np.isfinite(value) else "∞"


def _joined(group: Sequence[dict[str, Any]], key: str) -> str:
    return ", ".join(sorted({record[key] for record in group}))


def _percent(shares: Sequence[float]) -> str:
    return f"{np.mean(shares):.1%}" if len(shares) else "–"


def _in_short(record: dict[str, Any]) -> str:
    verdicts = [row["verdict"] for row in record["quantities"]]
    counts = ", ".join(f"{verdicts.count(kind)} {kind}" for kind in sorted(set(verdicts)))
    return (
        f"{record['target']} {record['family']} seed {record['seed']}: {record['verdict']} "
        f"({counts}), {_kept(CLAIMS[0], record['quantities'])} good are right, "
        f"{_kept(CLAIMS[1], record['quantities'])} reweighted are, {record['seconds']:.1f} s"
    )
