"""Sparse Gaussians at scale: seconds, memory, and how right their sds are.

Each fit runs in a process of its own, whose peak memory is measured. Random-intercept logistic
regression is held against exact conditional quadrature: given the hubs the groups are independent,
so a group's posterior is an integral over its own intercept, mixed over draws of the hubs.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

import infimum
from benchmarks.apart import apart, peak_megabytes
from benchmarks.posteriors import Posterior
from benchmarks.table import Report, Table, number
from infimum.families._distribution import Gaussian

MOST = {"intercepts 30,000": (45.0, 2.0), "intercepts 300,000": (600.0, 8.0)}
"""Seconds and GB that a fit may take."""

SD_ERROR = 0.02
"""Part by which the sd of an intercept may be off."""

PER_GROUP = 8
"""Observations a group."""

CHECKED = 200
"""Groups whose intercepts are held against quadrature."""

SAME = 1e-6
"""Nats of KL by which sparse and full-rank may differ where log p̂ is quadratic."""

TOLERANCE = 1e-3
"""Nats that the draws of both may cost where it is not; they may be four times that apart: each has
draws of its own, and this is the mean of what they cost."""


def intercepts(groups: int) -> tuple[infimum.Target, dict[str, np.ndarray]]:
    """Random-intercept logistic regression, centred."""
    rng = np.random.default_rng(0)
    group = np.repeat(np.arange(groups), PER_GROUP)
    x = rng.standard_normal(len(group))
    theta = 0.5 + 0.8 * rng.standard_normal(groups)
    chance = 1 / (1 + np.exp(-(theta[group] + 0.7 * x)))
    y = (rng.random(len(group)) < chance).astype(float)
    data = {"group": jnp.asarray(group), "x": jnp.asarray(x), "y": jnp.asarray(y)}

    def log_density(p: Any) -> Any:
        eta = p["theta"][data["group"]] + p["beta"] * data["x"]
        likelihood = jnp.sum(data["y"] * eta - jnp.logaddexp(0.0, eta))
        spread = (p["theta"] - p["mu"]) * jnp.exp(-p["log_tau"])
        prior = -0.5 * jnp.sum(spread**2) - groups * p["log_tau"]
        hyper = (p["mu"] / 5) ** 2 + (p["beta"] / 5) ** 2 + p["log_tau"] ** 2
        return likelihood + prior - 0.5 * hyper

    example = {"beta": 0.0, "log_tau": 0.0, "mu": 0.0, "theta": np.zeros(groups)}
    return infimum.Target(log_density, example), {"x": x, "y": y}


def crossed(users: int, items: int, n: int) -> tuple[infimum.Target, dict[str, np.ndarray]]:
    """Logistic regression with two crossed sets of random effects."""
    rng = np.random.default_rng(0)
    user, item = rng.integers(users, size=n), rng.integers(items, size=n)
    eta = 0.7 * rng.standard_normal(users)[user] + 0.5 * rng.standard_normal(items)[item] + 0.3
    y = (rng.random(n) < 1 / (1 + np.exp(-eta))).astype(float)
    data = {"user": jnp.asarray(user), "item": jnp.asarray(item), "y": jnp.asarray(y)}

    def log_density(p: Any) -> Any:
        eta = p["a"][data["user"]] + p["b"][data["item"]] + p["mu"]
        total = jnp.sum(data["y"] * eta - jnp.logaddexp(0.0, eta))
        for effects, scale in ((p["a"], p["log_a"]), (p["b"], p["log_b"])):
            total -= 0.5 * jnp.sum((effects * jnp.exp(-scale)) ** 2) + len(effects) * scale
        return total - 0.5 * (p["mu"] ** 2 + p["log_a"] ** 2 + p["log_b"] ** 2)

    example = {"a": np.zeros(users), "b": np.zeros(items), "log_a": 0.0, "log_b": 0.0, "mu": 0.0}
    return infimum.Target(log_density, example), {}


def smooth(steps: int) -> tuple[infimum.Target, dict[str, np.ndarray]]:
    """A Gaussian random walk seen through Gaussian noise: its posterior is Gaussian."""
    rng = np.random.default_rng(0)
    y = jnp.asarray(np.cumsum(0.3 * rng.standard_normal(steps)) + rng.standard_normal(steps))

    def log_density(p: Any) -> Any:
        total = jnp.sum((y - p["x"]) ** 2) + jnp.sum((jnp.diff(p["x"]) / 0.3) ** 2)
        return -0.5 * (total + p["x"][0] ** 2)

    return infimum.Target(log_density, {"x": np.zeros(steps)}), {}


def walk(steps: int) -> tuple[infimum.Target, dict[str, np.ndarray]]:
    """Counts whose log rate is a random walk."""
    rng = np.random.default_rng(0)
    path = np.cumsum(0.02 * rng.standard_normal(steps))
    y = jnp.asarray(rng.poisson(np.exp(1 + path - path.mean())).astype(float))

    def log_density(p: Any) -> Any:
        steps_taken = jnp.diff(p["x"]) * jnp.exp(-p["log_s"])
        total = jnp.sum(y * p["x"] - jnp.exp(p["x"])) - 0.5 * jnp.sum(steps_taken**2)
        return total - (steps - 1) * p["log_s"] - 0.5 * (p["x"][0] ** 2 + (p["log_s"] + 3) ** 2)

    return infimum.Target(log_density, {"log_s": 0.0, "x": np.zeros(steps)}), {}


LARGE: dict[str, Callable[[], Any]] = {
    "intercepts 30,000": lambda: intercepts(30_000),
    "walk 20,000": lambda: walk(20_000),
    "crossed 19,950 × 50": lambda: crossed(19_950, 50, 60_000),
    "intercepts 300,000": lambda: intercepts(300_000),
}

SMALL: dict[str, Callable[[], Any]] = {
    "Gaussian walk 500": lambda: smooth(500),
    "intercepts 40": lambda: intercepts(40),
    "crossed 40 × 10": lambda: crossed(40, 10, 400),
    "walk 100": lambda: walk(100),
}


def measure(
    folder: Path, posteriors: Sequence[Posterior], seeds: Sequence[int], report: Report
) -> None:
    """Fit every model at every seed; add tables and verdicts. Neither folder nor posteriors."""
    for seed in seeds:
        for name in SMALL:
            with report.surviving(name):
                report.records.append(_beside_fullrank(name, seed))
        for name in LARGE:
            with report.surviving(name):
                report.progress(name)
                report.records.append(apart("suite_sparse", "one", name, seed))
    _small_table(report)
    _large_table(report)
    report.close()


# Small models: the same optimum as full-rank ----------------------------------------------------


def _beside_fullrank(name: str, seed: int) -> dict[str, Any]:
    target, _ = SMALL[name]()
    sparse, full = (
        infimum.fit(target, family, seed=seed, tolerance=TOLERANCE, progress=False)
        for family in ("sparse", "fullrank")
    )
    return {
        "kind": "small",
        "name": name,
        "seed": seed,
        "dim": target.dim,
        "apart": _divergence(sparse.q, full.q),
        "sd_ratio": float(np.abs(np.sqrt(sparse.q.variance() / full.q.variance()) - 1).max()),
        "reasons": [sparse.reason.name, full.reason.name],
    }


def _divergence(q: Gaussian, other: Gaussian) -> float:
    """KL[q ‖ other] in nats, from factors of the two."""
    eye = np.eye(q.dim)
    pulled = np.asarray(other.pull_back(np.asarray(q.mean) + np.asarray(q.spread(eye))))
    offset = np.asarray(other.pull_back(np.asarray(q.mean)))
    squares = np.sum((pulled - offset) ** 2) - q.dim + np.sum(offset**2)
    return float(0.5 * squares + other.log_det() - q.log_det())


def _small_table(report: Report) -> None:
    rows = [record for record in report.records if record["kind"] == "small"]
    cells = tuple(
        (
            row["name"],
            number(row["dim"]),
            f"{row['apart']:.2g}",
            f"{row['sd_ratio']:.4f}",
            ", ".join(row["reasons"]),
        )
        for row in rows
    )
    head = ("model", "d", "KL from full-rank", "largest sd difference", "ended")
    report.show(Table(f"Beside full-rank, with tolerance {TOLERANCE}", head, cells))
    for row in rows:
        most = SAME if row["name"].startswith("Gaussian") else 4 * TOLERANCE
        claim = f"{row['name']}: at most {most:g} nats from full-rank"
        report.verdict(row["apart"] <= most, claim, f"{row['apart']:.2g}")


# Large models, each in a process of its own -----------------------------------------------------


def one(name: str, seed: int) -> dict[str, Any]:
    """Fit one large model, and say what it took."""
    target, data = LARGE[name]()
    clock, cpu = time.perf_counter(), time.process_time()
    fit = infimum.fit(target, "sparse", seed=seed, progress=False)
    seconds, cpu = time.perf_counter() - clock, time.process_time() - cpu
    memory = peak_megabytes() / 1024
    return {
        "kind": "large",
        "name": name,
        "seed": seed,
        "dim": target.dim,
        "seconds": seconds,
        "cpu": cpu,
        "memory": memory,
        "elbo": fit.elbo.value,
        "se": fit.elbo.se,
        "reason": fit.reason.name,
        "gradients": fit.work.n_gradients,
        "sd_error": _sd_error(fit, data) if data else None,
    }


def _sd_error(fit: infimum.Fit, data: dict[str, np.ndarray]) -> float:
    """Largest relative error of an intercept's sd, over `CHECKED` groups, against quadrature.

    Hubs are drawn from q; given them, each group is integrated on a grid. Moments are mixed over
    the hubs by total variance.
    """
    groups = CHECKED
    x, y = (data[k][: groups * PER_GROUP].reshape(groups, PER_GROUP) for k in ("x", "y"))
    rng = np.random.default_rng(0)
    z = np.asarray(fit.q.push(rng.standard_normal((64, fit.q.dim))))
    means, squares = [], []
    for beta, log_tau, mu in z[:, :3]:
        grid = mu + np.exp(log_tau) * np.linspace(-7, 7, 401)
        eta = grid[None, :, None] + beta * x[:, None, :]
        log_p = (y[:, None, :] * eta - np.logaddexp(0.0, eta)).sum(axis=2)
        log_p -= 0.5 * ((grid - mu) / np.exp(log_tau)) ** 2
        weight = np.exp(log_p - log_p.max(axis=1, keepdims=True))
        weight /= weight.sum(axis=1, keepdims=True)
        means.append(weight @ grid)
        squares.append(weight @ grid**2)
    exact = np.sqrt(np.mean(squares, axis=0) - np.mean(means, axis=0) ** 2)
    own = np.sqrt(fit.q.variance()[3 : 3 + groups])
    return float(np.abs(own / exact - 1).max())


def _large_table(report: Report) -> None:
    rows = [record for record in report.records if record["kind"] == "large"]
    cells = tuple(
        (
            row["name"],
            number(row["dim"]),
            number(row["seconds"], 1),
            number(row["cpu"], 1),
            number(row["memory"], 2),
            f"{row['elbo']:,.2f} ± {row['se']:.2f}",
            number(row["gradients"]),
            "–" if row["sd_error"] is None else f"{row['sd_error']:.2%}",
            row["reason"],
        )
        for row in rows
    )
    head = ("model", "d", "seconds", "CPU s", "GB", "ELBO", "gradients", "sd error", "ended")
    report.show(Table("Large models", head, cells))
    for row in rows:
        if row["name"] in MOST:
            seconds, memory = MOST[row["name"]]
            within = row["seconds"] <= seconds and row["memory"] <= memory
            claim = f"{row['name']} within {seconds:.0f} s and {memory:.0f} GB"
            report.verdict(within, claim, f"{row['seconds']:.1f} s, {row['memory']:.2f} GB")
        if row["sd_error"] is not None:
            claim = (
                f"{row['name']}: sds of {CHECKED} intercepts within {SD_ERROR:.0%} of quadrature"
            )
            report.verdict(row["sd_error"] <= SD_ERROR, claim, f"{row['sd_error']:.2%} at worst")
