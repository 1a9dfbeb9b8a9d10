"""Gaussians in very many dimensions: how near, how long, and how much memory.

Every fit runs in a process of its own, whose peak memory is the largest it ever held, JAX and the
data included. The first two targets are Gaussians of known log Z with a covariance, or a precision,
that is a diagonal plus rank 20; the third is a probit regression with fewer rows than columns,
whose log Z nobody knows.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import infimum
from benchmarks.apart import apart, peak_megabytes
from benchmarks.posteriors import Posterior
from benchmarks.table import Report, Table, number

LOG_Z = 3.0
RANK = 20
STRENGTH = 0.1
"""sd of a loading: at d = 100,000 the widest directions have 30 times the sd of the others."""

ROWS = 100
"""Rows of the probit regression: 80 MB of data at d = 100,000."""

NEAR = 0.05
"""Nats of KL that a fit may leave where p* is a member."""

MOST_MEMORY = 1000.0
"""MB that a fit with rank 20 may take at d = 100,000."""

SLOWEST = 3600
"""Seconds after which a fit is given up."""

CASES = (
    ("factors", 2_000, "lowrank"),
    ("factors", 20_000, "lowrank"),
    ("factors", 100_000, "lowrank"),
    ("factors", 100_000, "meanfield"),
    ("regression", 20_000, "lowrank"),
    ("probit", 20_000, "lowrank"),
)
"""(target, d, family)."""


def factors(dim: int, precise: bool) -> Callable[[Any], Any]:
    """N(m, S(I + B Bᵀ)S), or with the inverse of that middle; log Z = `LOG_Z`."""
    rng = np.random.default_rng(0)
    scale = np.exp(rng.normal(size=dim))
    loadings = STRENGTH * rng.standard_normal((dim, RANK))
    mean = scale * rng.standard_normal(dim)
    core = np.eye(RANK) + loadings.T @ loadings
    half = 0.5 * np.linalg.slogdet(core)[1]
    if not precise:
        loadings = np.linalg.solve(np.linalg.cholesky(core), loadings.T).T
    constant = LOG_Z - 0.5 * dim * np.log(2 * np.pi) - np.log(scale).sum()
    constant += half if precise else -half
    sign = -0.5 if precise else 0.5

    def log_density(z: Any) -> Any:
        x = (z - mean) / scale
        return constant - 0.5 * x @ x + sign * jnp.sum((x @ loadings) ** 2)

    return log_density


def probit(dim: int) -> Callable[[Any], Any]:
    """Signs of `ROWS` random projections of standard normal coefficients, seen through noise."""
    rng = np.random.default_rng(0)
    columns = rng.standard_normal((ROWS, dim)) / np.sqrt(dim)
    seen = 3 * columns @ rng.standard_normal(dim) + rng.standard_normal(ROWS)
    signed = 3 * np.sign(seen)[:, None] * columns

    def log_density(z: Any) -> Any:
        prior = -0.5 * z @ z - 0.5 * dim * np.log(2 * np.pi)
        return prior + jnp.sum(jax.scipy.stats.norm.logcdf(signed @ z))

    return log_density


def measure(
    folder: Path | None, posteriors: Sequence[Posterior], seeds: Sequence[int], report: Report
) -> None:
    """Fit every case with every seed, each in a process of its own."""
    for target, dim, family in CASES:
        for seed in seeds:
            with report.surviving(f"{target} {dim} {family}"):
                record = apart(
                    "suite_lowrank", "fitted", target, dim, family, seed, seconds=SLOWEST
                )
                report.records.append(record)
                report.progress(str(record))
    report.show(_table(report.records))
    for record in report.records:
        _verdicts(record, report)
    report.close()


def fitted(target: str, dim: int, family: str, seed: int) -> dict[str, Any]:
    """One fit in this process."""
    density = probit(dim) if target == "probit" else factors(dim, target == "regression")
    begun, busy = time.perf_counter(), time.process_time()
    made = infimum.Target(density, np.zeros(dim))
    fit = infimum.fit(made, family, seed=seed, starts=1, progress=False)
    seconds, cpu = time.perf_counter() - begun, time.process_time() - busy
    verdict = fit.verdict
    return {
        "target": target,
        "dim": dim,
        "family": family,
        "seed": seed,
        "rank": getattr(fit.family, "rank", None),
        "elbo": fit.elbo.value,
        "elbo_se": fit.elbo.se,
        "kl": fit.kl.value,
        "verdict": verdict,
        "reason": fit.reason.name,
        "gradients": fit.work.n_gradients,
        "seconds": seconds,
        "cpu_seconds": cpu,
        "megabytes": peak_megabytes(),
    }


def _table(records: Sequence[dict[str, Any]]) -> Table:
    head = ("target", "d", "family", "seed", "rank", "ELBO", "se", "KL", "verdict", "stopped")
    head += ("gradients", "seconds", "CPU seconds", "peak MB")
    rows = [
        (
            r["target"],
            f"{r['dim']:,}",
            r["family"],
            str(r["seed"]),
            str(r["rank"] or "–"),
            number(r["elbo"], 3),
            number(r["elbo_se"], 3),
            number(r["kl"], 4),
            r["verdict"],
            r["reason"].lower(),
            number(r["gradients"]),
            number(r["seconds"], 1),
            number(r["cpu_seconds"], 1),
            number(r["megabytes"]),
        )
        for r in records
    ]
    return Table(f"Large dimensions; log Z of factors and regression is {LOG_Z}", head, tuple(rows))


def _verdicts(record: dict[str, Any], report: Report) -> None:
    name = f"{record['target']}, d = {record['dim']:,}, {record['family']}"
    if record["family"] == "lowrank" and record["target"] != "probit":
        left = LOG_Z - record["elbo"]
        report.verdict(left <= NEAR, f"{name}: at most {NEAR} nats left", f"{left:.4f}")
    if record["dim"] == 100_000:
        size = record["megabytes"]
        claim = f"{name}: at most {MOST_MEMORY:.0f} MB"
        report.verdict(size <= MOST_MEMORY, claim, f"{size:.0f} MB")
