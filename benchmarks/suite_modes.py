"""Several modes, and shapes that are not Gaussian: every mode found, and nothing wrong called good.

Every target's log Z is known and not zero. A fit passes with log Z within 0.05 nats, every mode
found and its weight within 10 %; or with a verdict that is not "good".
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import infimum
from benchmarks.posteriors import Posterior
from benchmarks.table import Report, Table, number

LOG_Z = 2.0
"""Of the mixtures; the other targets have another one, none of them zero."""

NEAR = 0.05
"""Nats by which log Z may be off."""

WEIGHT = 0.1
"""Part by which the weight of a mode may be off."""

DRAWS = 40_000
"""Draws of q, unweighted, whose share near each mode is its weight. A share of 1/40 has then a
standard error of 3 %."""

SIGMAS = 4.0
"""Standard errors that counting these draws may add."""


@dataclass(frozen=True)
class Case:
    """A target with its log Z, and its modes' means and weights if it has several.

    Attributes
    ----------
    means, weights
        Shapes (K, d) and (K,); draws belong to the nearest mean.
    """

    target: infimum.Target
    log_z: float
    means: np.ndarray = field(default_factory=lambda: np.zeros((0, 0)))
    weights: np.ndarray = field(default_factory=lambda: np.zeros(0))


def mixture(means: np.ndarray, sds: np.ndarray, weights: np.ndarray) -> Case:
    """Round Gaussians."""
    d, weights = means.shape[1], weights / weights.sum()
    height = np.log(weights) - d * np.log(sds) - 0.5 * d * np.log(2 * np.pi)

    def log_density(z: Any) -> Any:
        parts = height - 0.5 * jnp.sum((z - means) ** 2, axis=1) / sds**2
        return LOG_Z + jax.scipy.special.logsumexp(parts)

    nearest = _nearest(means, sds, weights)
    return Case(infimum.Target(log_density, np.zeros(d)), LOG_Z, means, nearest)


def _nearest(means: np.ndarray, sds: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Mass nearest to each mean, where modes overlap: by draws of the mixture itself."""
    rng = np.random.default_rng(7)
    chosen = rng.choice(len(weights), size=1_000_000, p=weights)
    z = means[chosen] + sds[chosen, None] * rng.standard_normal((len(chosen), means.shape[1]))
    return np.asarray(_shares(z, means))


def _shares(z: np.ndarray, means: np.ndarray) -> np.ndarray:
    squares = (means**2).sum(axis=1) - 2 * z @ means.T
    return np.bincount(np.argmin(squares, axis=1), minlength=len(means)) / len(z)


def forty(seed: int) -> Case:
    """Forty modes, uniform in [-40, 40]², of sds 1 to 2."""
    rng = np.random.default_rng(100 + seed)
    return mixture(rng.uniform(-40, 40, (40, 2)), rng.uniform(1, 2, 40), np.ones(40))


def four(apart: float) -> Callable[[int], Case]:
    """Four modes of equal weight in 20 dimensions, about so many sds apart."""

    def case(seed: int) -> Case:
        means = np.random.default_rng(200 + seed).standard_normal((4, 20))
        means *= apart / np.sqrt(2) / np.linalg.norm(means, axis=1)[:, None]
        return mixture(means, np.ones(4), np.ones(4))

    return case


def two(seed: int) -> Case:
    """N(-3, 1) with weight 0.95 and N(12, 1) with 0.05, in 10 dimensions."""
    means = np.zeros((2, 10))
    means[:, seed % 10] = -3.0, 12.0
    return mixture(means, np.ones(2), np.array([0.95, 0.05]))


def rings(seed: int) -> Case:
    """Rings of radii 1 and 3.5 and width 0.15."""
    r = np.linspace(0, 6, 400_001)
    radial = np.exp(-0.5 * ((r - 1) / 0.15) ** 2) + np.exp(-0.5 * ((r - 3.5) / 0.15) ** 2)

    def log_density(z: Any) -> Any:
        radius = jnp.sqrt(jnp.sum(z**2) + 1e-12)
        parts = jnp.array([radius - 1, radius - 3.5]) / 0.15
        return 1 + jax.scipy.special.logsumexp(-0.5 * parts**2)

    log_z = 1 + float(np.log(np.trapezoid(2 * np.pi * r * radial, r)))
    return Case(infimum.Target(log_density, np.zeros(2)), log_z)


def banana(seed: int) -> Case:
    """Rosenbrock's, -(1 - x)²/4 - 5 (y - x²)² + 2."""

    def log_density(z: Any) -> Any:
        return -0.25 * (1 - z[0]) ** 2 - 5 * (z[1] - z[0] ** 2) ** 2 + 2

    log_z = 2 + float(np.log(2 * np.pi / np.sqrt(5)))
    return Case(infimum.Target(log_density, np.zeros(2)), log_z)


def funnel(seed: int) -> Case:
    """Neal's, in 10 dimensions: x ~ N(0, 3²), the others N(0, exp(x))."""

    def log_density(z: Any) -> Any:
        return 1 - z[0] ** 2 / 18 - 0.5 * jnp.sum(z[1:] ** 2) * jnp.exp(-z[0]) - 4.5 * z[0]

    log_z = 1 + 5 * float(np.log(2 * np.pi)) + float(np.log(3))
    return Case(infimum.Target(log_density, np.zeros(10)), log_z)


def gaussian(seed: int) -> Case:
    """One mode in 50 dimensions, of condition 1e4."""
    rng = np.random.default_rng(seed)
    basis = np.linalg.qr(rng.standard_normal((50, 50)))[0]
    values = np.geomspace(1, 1e4, 50)
    precision = (basis * values) @ basis.T
    constant = LOG_Z + 0.5 * float(np.log(values).sum()) - 25 * float(np.log(2 * np.pi))
    target = infimum.Target(lambda z: constant - 0.5 * z @ (precision @ z), np.zeros(50))
    return Case(target, LOG_Z)


CASES: dict[str, Callable[[int], Case]] = {
    "40 modes, d = 2": forty,
    "4 modes 6 sds apart, d = 20": four(6.0),
    "4 modes 20 sds apart, d = 20": four(20.0),
    ".95 and .05, d = 10": two,
    "two rings": rings,
    "banana": banana,
    "funnel, d = 10": funnel,
    "one mode, d = 50": gaussian,
}


def measure(
    folder: Path | None, posteriors: Sequence[Posterior], seeds: Sequence[int], report: Report
) -> None:
    """Fit every case with every seed, as full-rank and as a mixture."""
    for name, make in CASES.items():
        for seed in seeds:
            for family in ("fullrank", "mixture"):
                with report.surviving(f"{name} {family} seed {seed}"):
                    report.records.append(_record(name, make(seed), family, seed))
                    report.progress(_in_short(report.records[-1]))
    for family in ("fullrank", "mixture"):
        report.show(_table(family, [r for r in report.records if r["family"] == family]))
    _verdicts(report)
    report.close()


def _record(name: str, case: Case, family: str, seed: int) -> dict[str, Any]:
    fit = infimum.fit(case.target, family, seed=seed, progress=False)
    error = fit.log_evidence.value - case.log_z
    off = _off(fit, case)
    return {
        "case": name,
        "family": family,
        "seed": seed,
        "verdict": fit.verdict,
        "error": error,
        "se": fit.log_evidence.se,
        "gap": case.log_z - fit.elbo.value,
        "off": off,
        "components": len(fit.q.weights) if family == "mixture" else 1,
        "right": bool(abs(error) <= NEAR and not off > WEIGHT),
        "reason": fit.reason.name,
        "n_gradients": fit.work.n_gradients,
        "seconds": fit.work.compile_seconds + fit.work.run_seconds,
    }


def _off(fit: infimum.Fit, case: Case) -> float:
    """Largest relative error of a mode's weight under q, beyond what counting draws adds."""
    if not len(case.weights):
        return float("nan")
    shares = _shares(np.asarray(fit.sample(DRAWS)), case.means)
    noise = SIGMAS * np.sqrt(case.weights * (1 - case.weights) / DRAWS)
    beyond = np.maximum(np.abs(shares - case.weights) - noise, 0.0)
    return float(np.max(beyond / case.weights))


def _in_short(record: dict[str, Any]) -> str:
    return (
        f"{record['case']} {record['family']} seed {record['seed']}: log Z off by "
        f"{record['error']:.4f}, weights by {record['off']:.3f}, {record['verdict']}"
    )


def _table(family: str, records: Sequence[dict[str, Any]]) -> Table:
    rows = []
    for name in CASES:
        group = [record for record in records if record["case"] == name]
        if group:
            rows.append(
                (
                    name,
                    f"{sum(r['right'] for r in group)}/{len(group)}",
                    f"{sum(r['verdict'] == 'good' for r in group)}/{len(group)}",
                    number(max(abs(r["error"]) for r in group), 4),
                    number(max(r["off"] for r in group), 3),
                    number(max(r["gap"] for r in group), 3),
                    number(float(np.median([r["components"] for r in group]))),
                    number(float(np.median([r["n_gradients"] for r in group]))),
                    number(float(np.median([r["seconds"] for r in group])), 1),
                )
            )
    columns = ("target", "right", 'called "good"', "log Z off, most", "weights off, most")
    columns += ("log Z - ELBO, most", "components", "gradients", "seconds")
    return Table(f"{family}, worst and median over seeds", columns, tuple(rows))


def _verdicts(report: Report) -> None:
    wrong = [r for r in report.records if r["verdict"] == "good" and not r["right"]]
    for record in wrong:
        report.say(f"WRONG  {_in_short(record)}")
    fits = len(report.records)
    report.verdict(not wrong, "nothing wrong is called good", f"{len(wrong)} of {fits} fits")
    mixtures = [r for r in report.records if r["family"] == "mixture"]
    right = sum(r["right"] for r in mixtures)
    claim = f"mixtures: log Z within {NEAR} nats, weights of modes within {WEIGHT:.0%}"
    report.verdict(right == len(mixtures), claim, f"{right} of {len(mixtures)} fits")
