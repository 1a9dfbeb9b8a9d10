"""infimum on fifteen posteriors: how near it gets, how often, and after how much work."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

import infimum
from benchmarks import method_infimum
from benchmarks.database import load_data, load_reference
from benchmarks.measure import NEAR, Errors, Judge, choose, errors, gap, mean
from benchmarks.methods import Run, forget
from benchmarks.posteriors import Posterior
from benchmarks.table import Report, Table, number

FAMILIES = ("meanfield", "fullrank")

SAMPLE = 10_000
"""Draws whose means and sds are compared with those of the reference draws."""

REFERENCE: dict[str, Any] = {"tolerance": 0.001, "starts": 8, "max_steps": 1000, "seed": 1_000_003}
"""Options of the longer fit that helps to find the best ELBO of a family."""

MOST_CALLS = 200
FEW_TO_NEAR, FEW_TO_END = 250, 500
"""Targets: batched calls of every fit; median gradients of full-rank fits."""


def measure(
    folder: Path, posteriors: Sequence[Posterior], seeds: Sequence[int], report: Report
) -> None:
    """Fit every posterior with every family and seed; add tables and verdicts to the report."""
    _rehearse()
    for posterior in posteriors:
        for family in FAMILIES:
            with report.surviving(f"{posterior.name} {family}"):
                report.records += _fits(folder, posterior, family, seeds, report)
    groups = _grouped(report.records)
    report.show(_nearness(groups, len(seeds)))
    report.show(_errors(groups))
    report.show(_work(groups))
    _medians(groups, report)
    _verdicts(groups, report)
    report.close()


def _rehearse() -> None:
    """Let imports happen before anything is timed."""
    target = infimum.Target(lambda z: -0.5 * (z**2).sum(), np.zeros(2))
    _ = infimum.fit(target, "fullrank", progress=False).verdict


def _fits(
    folder: Path, posterior: Posterior, family: str, seeds: Sequence[int], report: Report
) -> list[dict[str, Any]]:
    """A record for each seed. The first one pays for compilation."""
    data = load_data(folder, posterior.name)
    reference_draws = load_reference(folder, posterior.name)
    target = infimum.from_numpyro(posterior.model, *posterior.arguments(data))
    forget()
    done = [(seed, *method_infimum.fit(target, family, seed=seed)) for seed in seeds]
    longer = infimum.fit(target, family, progress=False, **REFERENCE)

    judge = Judge(target)
    weights = [judge.log_w(result.q) for _, result, _, _ in done]
    candidates = [*weights, judge.log_w(longer.q)]
    best = candidates[choose(candidates)]
    records = []
    for (seed, result, run, n_values), log_w in zip(done, weights, strict=True):
        records.append(
            {
                "posterior": posterior.name,
                "family": family,
                "dim": target.dim,
                "seed": seed,
                "best": mean(best),
                "elbo": mean(log_w),
                "gap": gap(log_w, best),
                **_costs(result, run, n_values, judge, best),
                **_accuracy(result, posterior, data, reference_draws),
                "reference": f"{mean(candidates[-1])}, {longer.reason.name}",
            }
        )
        report.progress(_in_short(records[-1]))
    return records


def _costs(
    result: infimum.Fit, run: Run, n_values: int, judge: Judge, best: np.ndarray
) -> dict[str, Any]:
    near = judge.first_within([point.q for point in run.path], best, NEAR)
    at = None if near is None else run.path[near]
    return {
        "to_near": np.inf if at is None else at.n_gradients,
        "to_near_all": np.inf if at is None else at.n_all,
        "to_end": run.end.n_gradients,
        "to_end_all": run.end.n_all,
        "booked_all": result.work.n_gradients,
        "n_values": n_values,
        "n_calls": result.work.n_calls,
        "compile_seconds": result.work.compile_seconds,
        "run_seconds": result.work.run_seconds,
        "reason": result.reason.name,
        "starts": [f"{s.kind} {s.reason.name} {s.elbo:.3f} {s.n_gradients}" for s in result.starts],
    }


def _accuracy(
    result: infimum.Fit, posterior: Posterior, data: Any, reference: Any
) -> dict[str, Any]:
    plain = errors(posterior.quantities(result.sample(SAMPLE), data), reference)
    weighted = None
    if result.verdict != "unreliable":
        sample = result.sample(SAMPLE, weighted=True)
        weighted = errors(posterior.quantities(sample, data), reference)
    return {
        "verdict": result.verdict,
        "khat": result.khat,
        "ess": result.ess,
        "plain": plain,
        "weighted": weighted,
    }


def _in_short(record: dict[str, Any]) -> str:
    return (
        f"{record['posterior']} {record['family']} seed {record['seed']}: "
        f"gap {record['gap']}, {record['to_near']} / {record['to_end']} gradients, "
        f"{record['n_calls']} calls, {record['reason']}, {record['verdict']}"
    )


# Tables -------------------------------------------------------------------------------------------

Group = list[dict[str, Any]]


def _grouped(records: Sequence[dict[str, Any]]) -> list[Group]:
    """The records of each posterior and family: one a seed."""
    groups: dict[tuple[str, str], Group] = {}
    for record in records:
        groups.setdefault((record["posterior"], record["family"]), []).append(record)
    return list(groups.values())


def _nearness(groups: Sequence[Group], n_seeds: int) -> Table:
    rows = []
    for group in groups:
        worst = _worst(group)
        met = sum(record["gap"].value <= NEAR for record in group)
        rows.append(
            (
                group[0]["posterior"],
                group[0]["family"],
                str(group[0]["best"]),
                str(worst["elbo"]),
                str(worst["gap"]),
                f"{met}/{n_seeds}",
                _counted(record["reason"] for record in group),
            )
        )
    columns = ("posterior", "family", "best ELBO known", "ELBO of the worst seed")
    columns += ("its gap to the best", f"within {NEAR}", "stopped")
    return Table("How near (nats)", columns, tuple(rows), n_left=2)


def _errors(groups: Sequence[Group]) -> Table:
    rows = []
    for group in groups:
        weighted = [record["weighted"] for record in group if record["weighted"]]
        rows.append(
            (
                group[0]["posterior"],
                group[0]["family"],
                *_largest([record["plain"] for record in group]),
                *_largest(weighted),
                _counted(record["verdict"] for record in group),
                number(max(record["khat"] for record in group), 2),
            )
        )
    columns = ("posterior", "family", "mean (sds)", "sd (rel.)", "mean, reweighted")
    columns += ("sd, reweighted", "verdict", "k̂")
    return Table("Largest error over quantities and seeds", columns, tuple(rows), n_left=2)


def _work(groups: Sequence[Group]) -> Table:
    rows = []
    for group in groups:
        rows.append(
            (
                group[0]["posterior"],
                group[0]["family"],
                str(group[0]["dim"]),
                *(number(_median(group, key)) for key in _COUNTS),
                number(max(record["n_calls"] for record in group)),
                number(group[0]["compile_seconds"], 2),
                number(group[0]["run_seconds"], 2),
                number(_median(group[1:] or group, "run_seconds"), 2),
            )
        )
    columns = ("posterior", "family", "d", f"gradients to {NEAR} nats", "to its end")
    columns += (f"all starts: to {NEAR} nats", "to the end", "densities besides")
    columns += ("calls, most", "compile s", "first run s", "later run s")
    return Table("Work (medians over seeds)", columns, tuple(rows), n_left=2)


_COUNTS = ("to_near", "to_end", "to_near_all", "to_end_all", "n_values")


def _medians(groups: Sequence[Group], report: Report) -> None:
    columns = ("family", f"gradients to {NEAR} nats", "to its end", f"all starts: to {NEAR} nats")
    columns += ("to the end", "densities besides", "calls", "compile s", "first run s")
    columns += ("mean error", "sd error", "mean error, reweighted", "sd error, reweighted")
    rows = []
    for family in FAMILIES:
        chosen = [group for group in groups if group[0]["family"] == family]
        calls = [_median(group, "n_calls") for group in chosen]
        rows.append(
            (
                family,
                *(number(_median_of(chosen, key)) for key in _COUNTS),
                number(float(np.median(calls))),
                number(float(np.median([group[0]["compile_seconds"] for group in chosen])), 2),
                number(float(np.median([group[0]["run_seconds"] for group in chosen])), 2),
                *_median_errors([record["plain"] for group in chosen for record in group]),
                *_median_errors(
                    [r["weighted"] for group in chosen for r in group if r["weighted"]]
                ),
            )
        )
    report.show(
        Table(f"Medians over {len(groups) // len(FAMILIES)} posteriors", columns, tuple(rows))
    )


def _verdicts(groups: Sequence[Group], report: Report) -> None:
    for group in groups:
        for record in group:
            if not record["gap"].value <= NEAR:
                report.say(f"MISS  {_in_short(record)}; starts: {'; '.join(record['starts'])}")
    for family in reversed(FAMILIES):
        records = [r for group in groups for r in group if r["family"] == family]
        met = sum(record["gap"].value <= NEAR for record in records)
        claim = f"{family} within {NEAR} nats of the best known, every posterior and seed"
        report.verdict(met == len(records), claim, f"{met} of {len(records)} fits")
    fullrank = [group for group in groups if group[0]["family"] == "fullrank"]
    for key, limit, what in (
        ("to_near", FEW_TO_NEAR, f"to within {NEAR} nats"),
        ("to_end", FEW_TO_END, "to its end"),
    ):
        median = _median_of(fullrank, key)
        claim = f"full-rank, median gradients of the winning start {what} <= {limit}"
        report.verdict(median <= limit, claim, number(median))
    record = max((r for group in groups for r in group), key=lambda record: record["n_calls"])
    calls = record["n_calls"]
    where = f"{record['posterior']}, {record['family']}, seed {record['seed']}"
    claim = f"no fit above {MOST_CALLS} batched calls"
    report.verdict(calls <= MOST_CALLS, claim, f"most {calls} ({where})")


def _worst(group: Group) -> dict[str, Any]:
    return max(group, key=lambda record: np.nan_to_num(record["gap"].value, nan=np.inf))


def _median(group: Group, key: str) -> float:
    return float(np.median([record[key] for record in group]))


def _median_of(groups: Sequence[Group], key: str) -> float:
    """Median over posteriors of the medians over seeds."""
    return float(np.median([_median(group, key) for group in groups]))


def _largest(found: Sequence[Errors]) -> tuple[str, str]:
    if not found:
        return "–", "–"
    return f"{max(e.mean for e in found):.3f}", f"{max(e.sd for e in found):.3f}"


def _median_errors(found: Sequence[Errors]) -> tuple[str, str]:
    if not found:
        return "–", "–"
    return f"{np.median([e.mean for e in found]):.3f}", f"{np.median([e.sd for e in found]):.3f}"


def _counted(words: Any) -> str:
    counts = Counter(words)
    if len(counts) == 1:
        return next(iter(counts))
    return ", ".join(f"{n} {word}" for word, n in counts.most_common())
