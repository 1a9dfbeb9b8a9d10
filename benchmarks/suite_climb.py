"""The climb on fifteen posteriors: how near it ends, after how long, beside NumPyro's NUTS."""

from __future__ import annotations

import itertools
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

import infimum
from benchmarks.apart import apart
from benchmarks.chains import bulk_ess, quantities
from benchmarks.database import load_data, load_reference
from benchmarks.methods import forget
from benchmarks.posteriors import POSTERIORS, Posterior
from benchmarks.table import Report, Table, number, ratio

SAMPLE = 10_000
"""Draws of a fit that are compared with the reference, and that its ESS is scaled to."""

CHAINS, WARM_UP, KEPT = 4, 1_000, 1_000
"""Of NUTS: chains, and iterations of each."""

KL, KL_FUNNEL, FUNNEL = 0.05, 0.15, "eight_schools_centered"
"""Nats that may be left; on the funnel more."""

MEAN, SD = 0.05, 0.05
"""Reference sds by which a mean, and part by which an sd, may be off."""

ERRORS = 3.0
"""Standard errors of reference and sample together that an error may be larger by: one quantity of
the hundred here is expected above 2.6."""

PATIENCE = 300.0
"""Seconds after which NUTS is given up. It is then counted as if it had ended there, and every draw
were an effective one."""

FASTER = 5.0
"""Times the effective draws a second of NUTS."""


def measure(
    folder: Path, posteriors: Sequence[Posterior], seeds: Sequence[int], report: Report
) -> None:
    """Climb on every posterior and seed, run NUTS once on each; add tables and verdicts."""
    target = infimum.Target(lambda z: -0.5 * (z**2).sum(), np.zeros(2))
    _ = infimum.fit(target, progress=False).verdict  # imports happen before anything is timed
    sampled = {}
    for posterior in posteriors:
        with report.surviving(posterior.name):
            report.records += _climbs(folder, posterior, seeds, report)
            sampled[posterior.name] = _nuts(folder, posterior, report)
    groups = [[r for r in report.records if r["posterior"] == p.name] for p in posteriors]
    groups = [group for group in groups if group]
    report.show(_nearness(groups))
    report.show(_speed(groups, sampled))
    _verdicts(groups, sampled, report)
    report.close()


def _climbs(
    folder: Path, posterior: Posterior, seeds: Sequence[int], report: Report
) -> list[dict[str, Any]]:
    """A record for each seed. Every one pays for compilation."""
    data = load_data(folder, posterior.name)
    reference = load_reference(folder, posterior.name)
    records = []
    for seed in seeds:
        forget()
        began, cpu = time.perf_counter(), time.process_time()
        target = infimum.from_numpyro(posterior.model, *posterior.arguments(data))
        fit = infimum.fit(target, seed=seed, progress=False)
        sample = fit.sample(SAMPLE)
        seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
        record = {
            "posterior": posterior.name,
            "seed": seed,
            "dim": target.dim,
            "family": fit.family.name,
            "verdict": fit.verdict,
            "kl": fit.kl,
            "khat": fit.khat,
            "ess": fit.ess / fit.n_draws * SAMPLE,
            "seconds": seconds,
            "cpu_seconds": cpu,
            "route": str(fit.route),
            "falls": _falls(fit),
            **_off(posterior.quantities(sample, data), reference),
        }
        records.append(record)
        report.progress(
            f"{posterior.name} seed {seed}: {fit.verdict}, KL {fit.kl}, mean {record['mean']:.3f}, "
            f"sd {record['sd']:.3f} beyond errors, {seconds:.1f} s; {fit.route}"
        )
    return records


def _off(draws: Mapping[str, np.ndarray], reference: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Largest errors of means and sds, beyond what the draws on both sides explain."""
    means, sds = [], []
    for name, known in reference.items():
        sd = known.std(ddof=1)
        mean_error, sd_error = (
            np.hypot(*errors) for errors in zip(_errors(known), _errors(draws[name]), strict=True)
        )
        means.append(abs(draws[name].mean() - known.mean()) / sd - ERRORS * mean_error)
        sds.append(abs(draws[name].std(ddof=1) / sd - 1) - ERRORS * sd_error)
    return {"mean": max(0.0, float(np.max(means))), "sd": max(0.0, float(np.max(sds)))}


def _errors(x: np.ndarray) -> tuple[float, float]:
    """Standard errors of the mean in sds, and of the sd relative to it, of independent draws."""
    standard = (x - x.mean()) / x.std(ddof=1)
    kurtosis = float(np.mean(standard**4))
    return len(x) ** -0.5, np.sqrt(max(kurtosis - 1, 0.0) / (4 * len(x)))


def _falls(fit: infimum.Fit) -> float:
    """Largest fall of the ELBO from a rung to the next, in standard errors."""
    rungs = fit.route.rungs if fit.route else ()
    pairs = itertools.pairwise(rungs)
    return max(
        ((a.elbo.value - b.elbo.value) / max(a.elbo.se, b.elbo.se, 1e-12) for a, b in pairs),
        default=-np.inf,
    )


def _nuts(folder: Path, posterior: Posterior, report: Report) -> dict[str, float]:
    """What `nuts` says, in a process of its own; or at most so much if it takes too long."""
    found: dict[str, float]
    try:
        found = apart("suite_climb", "nuts", str(folder), posterior.name, seconds=PATIENCE)
    except subprocess.TimeoutExpired:
        report.progress(f"{posterior.name} NUTS: given up after {PATIENCE:.0f} s")
        every = float(CHAINS * KEPT)
        return {"seconds": PATIENCE, "cpu_seconds": PATIENCE, "ess": every, "least_ess": np.nan}
    told = f"{found['seconds']:.1f} s, ESS {found['ess']:.0f}"
    report.progress(f"{posterior.name} NUTS: {told}")
    return found


def nuts(folder: str, name: str) -> dict[str, float]:
    """NUTS on one posterior: its seconds, compilation included, and bulk ESS.

    The ESS is the median over the model's quantities. Imports are not in the seconds.
    """
    from numpyro.infer import MCMC, NUTS

    posterior = POSTERIORS[name]
    arguments = posterior.arguments(load_data(Path(folder), name))
    began, cpu = time.perf_counter(), time.process_time()
    with jax.enable_x64(True):
        sampler = MCMC(
            NUTS(posterior.model),
            num_warmup=WARM_UP,
            num_samples=KEPT,
            num_chains=CHAINS,
            chain_method="sequential",
            progress_bar=False,
        )
        sampler.run(jax.random.key(0), *arguments)
        columns = quantities(sampler.get_samples(group_by_chain=True))
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    ess = bulk_ess(columns)
    return {
        "seconds": seconds,
        "cpu_seconds": cpu,
        "ess": float(np.median(ess)),
        "least_ess": float(ess.min()),
    }


# Tables -------------------------------------------------------------------------------------------


def _allowed(name: str) -> float:
    return KL_FUNNEL if FUNNEL in name else KL


def _met(record: dict[str, Any]) -> bool:
    near = record["kl"].value <= _allowed(record["posterior"])
    right = record["mean"] <= MEAN and record["sd"] <= SD
    return bool(record["verdict"] == "good" and near and right)


def _nearness(groups: Sequence[list[dict[str, Any]]]) -> Table:
    rows = []
    for group in groups:
        worst = max(group, key=lambda r: np.nan_to_num(r["kl"].value, nan=np.inf))
        rows.append(
            (
                group[0]["posterior"],
                str(group[0]["dim"]),
                ", ".join(sorted({r["family"] for r in group})),
                ", ".join(sorted({r["verdict"] for r in group})),
                str(worst["kl"]),
                number(max(r["mean"] for r in group), 3),
                number(max(r["sd"] for r in group), 3),
                number(max(r["khat"] for r in group), 2),
                f"{sum(map(_met, group))}/{len(group)}",
            )
        )
    columns = ("posterior", "d", "family", "verdict", "largest KL", "mean, beyond errors (sds)")
    columns += ("sd, beyond errors (rel.)", "largest k̂", "met")
    return Table("How near the climb ends", columns, tuple(rows))


def _speed(
    groups: Sequence[list[dict[str, Any]]], sampled: Mapping[str, dict[str, float]]
) -> Table:
    rows = []
    for group in groups:
        nuts = sampled[group[0]["posterior"]]
        seconds = float(np.median([r["seconds"] for r in group]))
        cpu = float(np.median([r["cpu_seconds"] for r in group]))
        rows.append(
            (
                group[0]["posterior"],
                number(seconds, 1),
                ("> " if nuts["seconds"] >= PATIENCE else "") + number(nuts["seconds"], 1),
                ratio(nuts["seconds"] / seconds),
                ratio(nuts["cpu_seconds"] / cpu),
                number(float(np.median([r["ess"] for r in group]))),
                number(nuts["ess"]),
                number(nuts["least_ess"]),
                ratio(_rate(group) / (nuts["ess"] / nuts["seconds"])),
            )
        )
    columns = ("posterior", "climb s", "NUTS s", "NUTS / climb", "the same, CPU s")
    columns += ("climb ESS", "NUTS ESS", "its least", "ESS a second, climb / NUTS")
    return Table("Seconds, compilation included (medians over seeds)", columns, tuple(rows))


def _rate(group: Sequence[dict[str, Any]]) -> float:
    return float(np.median([r["ess"] / r["seconds"] for r in group]))


def _verdicts(
    groups: Sequence[list[dict[str, Any]]],
    sampled: Mapping[str, dict[str, float]],
    report: Report,
) -> None:
    records = [record for group in groups for record in group]
    for record in records:
        if not _met(record):
            report.say(
                f"MISS  {record['posterior']} seed {record['seed']}: {record['verdict']}, KL "
                f"{record['kl']}, mean {record['mean']:.3f}, sd {record['sd']:.3f}; "
                f"{record['route']}"
            )
    whole = sum(all(map(_met, group)) for group in groups)
    claim = (
        f"good, KL <= {KL} ({KL_FUNNEL}: {FUNNEL}), means within {MEAN} sds, sds within {SD:.0%}"
    )
    report.verdict(whole == len(groups), claim, f"{whole} of {len(groups)} posteriors, every seed")
    lied = [
        r for r in records if r["verdict"] == "good" and not (r["mean"] <= 0.1 and r["sd"] <= 0.1)
    ]
    report.verdict(not lied, "nothing called good is wrong by more than 0.1", f"{len(lied)} fits")
    falls = max(r["falls"] for r in records)
    report.verdict(
        falls <= 2, "the ELBO falls by at most 2 se from rung to rung", f"{falls:.1f} se"
    )
    faster = [
        sampled[group[0]["posterior"]]["seconds"] / np.median([r["seconds"] for r in group])
        for group in groups
    ]
    middle = float(np.median(faster))
    report.verdict(middle > 1, "wall time shorter than NUTS's in the median", f"{middle:.2f} times")
    rates = [
        _rate(group) * sampled[name]["seconds"] / sampled[name]["ess"]
        for group in groups
        for name in [group[0]["posterior"]]
    ]
    claim = f"effective draws a second at least {FASTER:g} times those of NUTS in the median"
    least, middle = min(rates), float(np.median(rates))
    report.verdict(middle >= FASTER, claim, f"{middle:.1f} times; least {least:.1f}")
