"""infimum beside NumPyro's SVI and GSM: the same posteriors, in the same run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpyro
import numpyro.distributions as dist

import infimum
from benchmarks import method_gsm, method_infimum, method_svi
from benchmarks.database import load_data
from benchmarks.measure import NEAR, Judge, choose, gap, mean
from benchmarks.methods import Run, forget
from benchmarks.posteriors import Posterior
from benchmarks.suite_posteriordb import REFERENCE
from benchmarks.table import Report, Table, number, ratio

SAME = 0.01
"""Nats below SVI's final ELBO at which infimum is said to have reached it."""

FULLRANK, MEANFIELD = "infimum fullrank", "infimum meanfield"
GSM, SVI, SVI_MEANFIELD = "GSM", "NumPyro AutoMultivariateNormal", "NumPyro AutoNormal"
RIVALS = {FULLRANK: (GSM, SVI), MEANFIELD: (SVI_MEANFIELD,)}
"""Methods of each family; the best ELBO known is that of the best of them."""

Record = dict[str, Any]


def measure(
    folder: Path, posteriors: Sequence[Posterior], seeds: Sequence[int], report: Report
) -> None:
    """Run every method on every posterior and seed; add tables and verdicts to the report."""
    numpyro.enable_x64()
    _rehearse()
    for posterior in posteriors:
        for seed in seeds:
            with report.surviving(f"{posterior.name}, seed {seed}"):
                for record in _compare(folder, posterior, seed):
                    report.records.append(record)
                    report.progress(_in_short(record))
    pairs = _pairs(report.records)
    for family, rivals in RIVALS.items():
        report.show(_methods(report.records, family, rivals))
    report.show(_against_gsm(pairs))
    report.show(_against_svi(pairs, FULLRANK, SVI))
    report.show(_against_svi(pairs, MEANFIELD, SVI_MEANFIELD))
    _verdicts(pairs, report)
    report.close()


def _rehearse() -> None:
    """Let imports and first uses happen before anything is timed."""

    def model() -> None:
        numpyro.sample("x", dist.Normal(1.0, 2.0))
        numpyro.sample("y", dist.HalfNormal(1.0))

    target = infimum.from_numpyro(model)
    for _, method in _methods_on(model, (), target, 0):
        method()


def _methods_on(
    model: Callable[..., Any], args: tuple[Any, ...], target: infimum.Target, seed: int
) -> list[tuple[str, Callable[[], Run]]]:
    def ours(family: str) -> Callable[[], Run]:
        return lambda: method_infimum.from_model(model, args, family, seed=seed)[1]

    def svi(guide: str) -> Callable[[], Run]:
        return lambda: method_svi.run(model, args, target, guide, seed)

    return [
        (FULLRANK, ours("fullrank")),
        (MEANFIELD, ours("meanfield")),
        (GSM, lambda: method_gsm.run(model, args, seed)),
        (SVI, svi("AutoMultivariateNormal")),
        (SVI_MEANFIELD, svi("AutoNormal")),
    ]


def _compare(folder: Path, posterior: Posterior, seed: int) -> list[Record]:
    """Run every method, each compiling for itself; judge them afterwards."""
    args = posterior.arguments(load_data(folder, posterior.name))
    target = infimum.from_numpyro(posterior.model, *args)
    runs = {}
    for name, method in _methods_on(posterior.model, args, target, seed):
        forget()
        runs[name] = method()
    forget()
    again = {}
    for name, family in ((FULLRANK, "fullrank"), (MEANFIELD, "meanfield")):
        infimum.fit(target, family, seed=seed + 1, progress=False)
        again[name] = method_infimum.fit(target, family, seed=seed)[1].run_seconds

    judge = Judge(target)
    records = {}
    for ours, rivals in RIVALS.items():
        names = (ours, *rivals)
        family = ours.removeprefix("infimum ")
        longer = infimum.fit(target, family, progress=False, **REFERENCE)
        weights = {name: judge.log_w(runs[name].end.q) for name in names}
        candidates = [*weights.values(), judge.log_w(longer.q)]
        best = candidates[choose(candidates)]
        for name in names:
            records[name] = _record(posterior.name, seed, runs[name], judge, weights[name], best)
            records[name]["warm_run_seconds"] = again.get(name)
        for name in rivals:
            if name != GSM:
                records[name] |= _same_elbo(runs[ours], weights[name], judge)
    return list(records.values())


def _record(
    posterior: str, seed: int, run: Run, judge: Judge, log_w: np.ndarray, best: np.ndarray
) -> Record:
    near = judge.first_within([point.q for point in run.path], best, NEAR)
    at = None if near is None else run.path[near]
    return {
        "posterior": posterior,
        "seed": seed,
        "method": run.method,
        "best": mean(best),
        "elbo": mean(log_w),
        "gap": gap(log_w, best),
        "to_near": np.inf if at is None else at.n_gradients,
        "to_near_all": np.inf if at is None else at.n_all,
        "seconds_to_near": np.inf if at is None else at.seconds,
        "to_end": run.end.n_gradients,
        "to_end_all": run.end.n_all,
        "setup_seconds": run.setup_seconds,
        "compile_seconds": run.compile_seconds,
        "run_seconds": run.run_seconds,
        "total_seconds": run.total_seconds,
        "cpu_seconds": run.cpu_seconds,
        "failure": run.failure,
    }


def _same_elbo(ours: Run, theirs: np.ndarray, judge: Judge) -> Record:
    """Gradients after which infimum had reached the ELBO at which SVI ended."""
    path = [point.q for point in ours.path]
    ended = np.isfinite(theirs).all()  # where SVI has no ELBO at its end any q is as good
    at = judge.first_within(path, theirs, SAME) if ended else 0
    return {
        "same": np.inf if at is None else ours.path[at].n_gradients,
        "same_all": np.inf if at is None else ours.path[at].n_all,
    }


def _in_short(record: Record) -> str:
    return (
        f"{record['posterior']} seed {record['seed']} {record['method']}: "
        f"gap {record['gap']}, {record['to_near']} / {record['to_end']} gradients, "
        f"{record['seconds_to_near']:.2f} / {record['total_seconds']:.2f} s"
    )


# Tables -------------------------------------------------------------------------------------------

Pair = dict[str, Record]


def _pairs(records: Sequence[Record]) -> list[Pair]:
    """The records of each posterior and seed, by method."""
    pairs: dict[tuple[str, int], Pair] = {}
    for record in records:
        key = record["posterior"], record["seed"]
        pairs.setdefault(key, {})[record["method"]] = record
    return list(pairs.values())


def _methods(records: Sequence[Record], ours: str, rivals: Sequence[str]) -> Table:
    columns = ("posterior", "method", "ELBO at its end", "gap to the best", "gradients to 0.1 nats")
    columns += ("all starts", "to its end", "all starts", "s to 0.1 nats")
    columns += ("set-up s", "compile s", "run s", "total s", "CPU s")
    rows = tuple(
        (
            record["posterior"],
            record["method"],
            str(record["elbo"]),
            str(record["gap"]),
            *(number(record[key]) for key in ("to_near", "to_near_all", "to_end", "to_end_all")),
            number(record["seconds_to_near"], 2),
            *(number(record[f"{part}_seconds"], 2) for part in _SECONDS),
        )
        for record in records
        if record["method"] in (ours, *rivals)
    )
    return Table(f"{ours} and its peers", columns, rows, n_left=2)


_SECONDS = ("setup", "compile", "run", "total", "cpu")


def _against_gsm(pairs: Sequence[Pair]) -> Table:
    columns = ("posterior", "gradients to 0.1 nats: infimum", "all starts", "GSM", "ratio")
    columns += ("s to 0.1 nats: infimum", "GSM", "ratio", "total s: infimum", "GSM", "ratio")
    rows = tuple(
        (
            pair[GSM]["posterior"],
            number(pair[FULLRANK]["to_near"]),
            number(pair[FULLRANK]["to_near_all"]),
            number(pair[GSM]["to_near"]),
            ratio(_quotient(pair[FULLRANK]["to_near"], pair[GSM]["to_near"])),
            number(pair[FULLRANK]["seconds_to_near"], 2),
            number(pair[GSM]["seconds_to_near"], 2),
            ratio(_quotient(pair[FULLRANK]["seconds_to_near"], pair[GSM]["seconds_to_near"])),
            number(pair[FULLRANK]["total_seconds"], 2),
            number(pair[GSM]["total_seconds"], 2),
            ratio(_quotient(pair[FULLRANK]["total_seconds"], pair[GSM]["total_seconds"])),
        )
        for pair in pairs
    )
    return Table("Full-rank against GSM; ratios are infimum / GSM", columns, rows)


def _against_svi(pairs: Sequence[Pair], ours: str, theirs: str) -> Table:
    columns = ("posterior", "gap of SVI", "infimum's gradients to SVI's ELBO", "all starts")
    columns += ("times fewer", "all starts", "run s: infimum", "again", "SVI", "times shorter")
    columns += ("total s: infimum", "SVI", "times shorter")
    rows = []
    for pair in pairs:
        mine, other = pair[ours], pair[theirs]
        rows.append(
            (
                other["posterior"],
                str(other["gap"]),
                number(other["same"]),
                number(other["same_all"]),
                ratio(_quotient(other["to_end"], other["same"])),
                ratio(_quotient(other["to_end"], other["same_all"])),
                number(mine["run_seconds"], 2),
                number(mine["warm_run_seconds"], 2),
                number(other["run_seconds"], 2),
                ratio(_quotient(other["run_seconds"], mine["run_seconds"])),
                number(mine["total_seconds"], 2),
                number(other["total_seconds"], 2),
                ratio(_quotient(other["total_seconds"], mine["total_seconds"])),
            )
        )
    title = f"{ours} against {theirs}, {method_svi.STEPS:,} steps; ratios are SVI / infimum"
    return Table(title, columns, tuple(rows))


# Verdicts -----------------------------------------------------------------------------------------


def _verdicts(pairs: Sequence[Pair], report: Report) -> None:
    for method in (FULLRANK, MEANFIELD, GSM, SVI, SVI_MEANFIELD):
        total = _median([pair[method]["total_seconds"] for pair in pairs])
        arrived = sum(pair[method]["gap"].value <= NEAR for pair in pairs)
        ever = sum(np.isfinite(pair[method]["to_near"]) for pair in pairs)
        report.say(
            f"{method}: within {NEAR} nats of the best known at its end on {arrived} of "
            f"{len(pairs)}, on its way on {ever}; median gradients to there "
            f"{number(_median([pair[method]['to_near'] for pair in pairs]))}, median seconds "
            f"{number(_median([pair[method]['seconds_to_near'] for pair in pairs]), 2)}; "
            f"median total seconds {number(total, 2)}"
        )
    for pair in pairs:
        for record in pair.values():
            if record["failure"] or not record["gap"].value <= NEAR:
                report.say(f"MISS  {_in_short(record)}{record['failure']}")
    _judge_gsm(pairs, report)
    _judge_svi(pairs, report, FULLRANK, SVI)
    _tell_svi(pairs, report, MEANFIELD, SVI_MEANFIELD)


def _judge_gsm(pairs: Sequence[Pair], report: Report) -> None:
    def ratios(key: str, mine: str | None = None) -> list[float]:
        return [_quotient(pair[FULLRANK][mine or key], pair[GSM][key]) for pair in pairs]

    found, everything = ratios("to_near"), ratios("to_near", "to_near_all")
    claim = f"against GSM, median ratio of gradients to within {NEAR} nats <= 1"
    measured = f"{ratio(_median(found))} (winning start; at most 1 on {_count(found)}); "
    measured += f"{ratio(_median(everything))} (all starts; {_count(everything)}); "
    both = [x for x in found if np.isfinite(x) and x > 0]
    measured += f"{ratio(_median(both))} (winning start, the {len(both)} where both arrive)"
    report.verdict(_median(found) <= 1, claim, measured)

    found, cpu = ratios("total_seconds"), ratios("cpu_seconds")
    claim = "against GSM, median ratio of total wall time < 1"
    measured = f"{ratio(_median(found))} (at most 1 on {_count(found)}); "
    measured += f"{ratio(_median(cpu))} by CPU time"
    report.verdict(_median(found) < 1, claim, measured)
    found = ratios("seconds_to_near")
    claim = f"against GSM, median ratio of wall time to within {NEAR} nats < 1"
    measured = f"{ratio(_median(found))} (at most 1 on {_count(found)})"
    report.verdict(_median(found) < 1, claim, measured)


def _judge_svi(pairs: Sequence[Pair], report: Report, ours: str, theirs: str) -> None:
    name = theirs.removeprefix("NumPyro ")
    for limit, what, median, words in _svi_ratios(pairs, ours, theirs):
        claim = f"against {name}, median times {what} >= {limit}"
        report.verdict(median >= limit, claim, words)


def _tell_svi(pairs: Sequence[Pair], report: Report, ours: str, theirs: str) -> None:
    for _, what, _, words in _svi_ratios(pairs, ours, theirs):
        report.say(f"      mean-field against AutoNormal, median times {what}: {words}")


def _svi_ratios(
    pairs: Sequence[Pair], ours: str, theirs: str
) -> list[tuple[float, str, float, str]]:
    """Target, what is compared, the median of SVI / infimum, and it in words."""

    def median(key: str, mine: Callable[[Pair], float]) -> float:
        return _median([_quotient(pair[theirs][key], mine(pair)) for pair in pairs])

    fewer = median("to_end", lambda pair: pair[theirs]["same"])
    all_fewer = median("to_end", lambda pair: pair[theirs]["same_all"])
    run = median("run_seconds", lambda pair: pair[ours]["run_seconds"])
    warm = median("run_seconds", lambda pair: pair[ours]["warm_run_seconds"])
    total = median("total_seconds", lambda pair: pair[ours]["total_seconds"])
    cpu = median("cpu_seconds", lambda pair: pair[ours]["cpu_seconds"])
    words = f"{ratio(fewer)} (winning start); {ratio(all_fewer)} (all starts)"
    return [
        (20, "fewer gradients to the same ELBO", fewer, words),
        (10, "shorter run time", run, f"{ratio(run)}; {ratio(warm)} by a second fit"),
        (3, "shorter total wall time", total, f"{ratio(total)}; {ratio(cpu)} by CPU time"),
    ]


def _count(ratios: Sequence[float]) -> str:
    """How many ratios are at most one."""
    return f"{sum(x <= 1 for x in ratios)} of {len(ratios)}"


def _quotient(a: float, b: float) -> float:
    """a / b where either may be infinite; NaN where both are."""
    if np.isinf(a) and np.isinf(b):
        return float("nan")
    return float(np.divide(a, b))


def _median(values: Sequence[float]) -> float:
    """Median of those that can be compared."""
    known = [value for value in values if not np.isnan(value)]
    return float(np.median(known)) if known else float("nan")
