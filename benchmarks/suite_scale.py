"""Time and memory against rows, dimensions, devices and processes; and fits that are killed.

The data are a logistic regression of 50 columns in a file on disk, read as a memory-map. Every
measurement runs in a process of its own, whose peak memory is the largest it ever held. The optimum
that a fit is held against is bounded by its own KL: ELBO ≤ optimum ≤ log Z.
"""

from __future__ import annotations

import os
import socket
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import infimum
from benchmarks.apart import answer, apart, begun, peak_megabytes
from benchmarks.posteriors import Posterior
from benchmarks.table import Report, Table, number
from infimum.base.program import double_precision

COLUMNS = 50
ROWS = (10_000, 100_000, 1_000_000, 10_000_000)
"""Of the file: 4 GB at ten million."""

DIMS = (
    (10, ("meanfield", "fullrank", "sparse", "flow")),
    (100, ("meanfield", "fullrank", "sparse", "lowrank")),
    (1_000, ("meanfield", "fullrank", "sparse", "lowrank")),
    (10_000, ("meanfield", "sparse", "lowrank")),
    (100_000, ("meanfield", "sparse", "lowrank")),
)
"""Dimensions, and the families that can serve a chain of so many coordinates."""

CHUNK = 250_000
"""Rows written at a time."""

MOST_MEMORY = 1500.0
"""MB that a fit of ten million rows may take."""

FLAT = 1.15
"""Times that memory may be of what it was with a tenth of the rows."""

NEAR = 0.1
"""Nats by which the ELBO may be below the optimum."""

SAME = 1e-9
"""Relative difference of answers of one process and of four."""

FASTER = 1.6
"""Times that two processes must be faster than one, each on a core of its own."""

POINTS = 64
"""Of a pass that devices and processes are timed on; and PASS_ROWS rows."""

PASS_ROWS = 1_000_000

KILLS = 20
"""Fits that are killed at a random moment."""

KILLED_ROWS = 100_000
"""Of these fits: a pass takes long enough to be killed in."""


def measure(
    folder: Path | None, posteriors: Sequence[Posterior], seeds: Sequence[int], report: Report
) -> None:
    """Every part in order, on one file of rows."""
    with tempfile.TemporaryDirectory() as made:
        write(Path(made), max(ROWS))
        rows(made, report)
        processes(made, report)
        devices(made, report)
        killed(made, report)
    dims(report)
    report.close()


# ---- the model -----------------------------------------------------------------------------------


def write(folder: Path, n: int) -> None:
    """N rows of the regression, the first of them the same for every n."""
    weights = np.random.default_rng(0).standard_normal(COLUMNS) / np.sqrt(COLUMNS)
    x = np.lib.format.open_memmap(folder / "x.npy", "w+", np.float64, (n, COLUMNS))
    y = np.lib.format.open_memmap(folder / "y.npy", "w+", np.float64, (n,))
    for part, start in enumerate(range(0, n, CHUNK)):
        rng = np.random.default_rng([1, part])
        stop = min(n, start + CHUNK)
        block = rng.standard_normal((CHUNK, COLUMNS))
        x[start:stop] = block[: stop - start]
        chance = 1 / (1 + np.exp(-block @ weights - 0.5))
        y[start:stop] = (rng.random(CHUNK) < chance)[: stop - start]
    x.flush()
    y.flush()


def log_prior(p: Any) -> Any:
    """Standard normal weights."""
    return -0.5 * (p["w"] ** 2).sum() - 0.5 * p["b"] ** 2


def log_likelihood(p: Any, rows: Any) -> Any:
    """Of the outcomes."""
    eta = rows["x"] @ p["w"] + p["b"]
    return jnp.sum(rows["y"] * eta - jnp.logaddexp(0.0, eta))


def target(folder: str, n: int, part: slice | None = None, way: str = "auto") -> infimum.Rows:
    """The posterior given the first n rows, or of them a part."""
    data = {k: np.load(Path(folder) / f"{k}.npy", mmap_mode="r")[:n] for k in ("x", "y")}
    if part is not None:
        data = {k: v[part] for k, v in data.items()}
    example = {"w": np.zeros(COLUMNS), "b": 0.0}
    return infimum.Rows(log_prior, log_likelihood, data, example, way=way)


# ---- rows ----------------------------------------------------------------------------------------


def rows(folder: str, report: Report) -> None:
    """Full-rank fits against N."""
    found = []
    for n in ROWS:
        with report.surviving(f"{n:,} rows"):
            record = apart("suite_scale", "fitted", folder, n)
            report.progress(str(record))
            found.append(record)
    report.records += found
    head = ("rows", "way", "seconds", "of them reading once", "passes", "peak MB", "ELBO", "KL")
    cells = [
        (
            f"{r['n']:,}",
            r["way"],
            number(r["seconds"], 1),
            number(r["reading"], 1),
            str(r["passes"]),
            number(r["megabytes"]),
            number(r["elbo"], 4),
            number(r["kl"], 6),
            r["verdict"],
        )
        for r in found
    ]
    report.show(Table("Rows, full-rank of 50 columns", (*head, "verdict"), tuple(cells)))
    most, before = found[-1], found[-2]
    size = most["megabytes"]
    report.verdict(
        size <= MOST_MEMORY and size <= FLAT * before["megabytes"],
        f"{most['n']:,} rows: at most {MOST_MEMORY:.0f} MB, and flat from {before['n']:,}",
        f"{size:.0f} MB, {before['megabytes']:.0f} before",
    )
    report.verdict(
        all(r["kl"] <= NEAR for r in found),
        f"ELBO within {NEAR} nats of the optimum, which is below log Z",
        f"KL at most {max(r['kl'] for r in found):.6f}",
    )


def fitted(folder: str, n: int) -> dict[str, Any]:
    """One fit in this process."""
    begun = time.perf_counter()
    made = target(folder, n)
    fit = infimum.fit(made, "fullrank", progress=False)
    seconds = time.perf_counter() - begun
    megabytes = peak_megabytes()
    reading = time.perf_counter()
    for block in made._posterior.blocks.read(8192):
        block["x"].sum()
    return {
        "part": "rows",
        "n": n,
        "way": made.way,
        "seconds": seconds,
        "reading": time.perf_counter() - reading,
        "passes": 1 if made.large is None else made.large.n_passes,
        "megabytes": megabytes,
        "elbo": fit.elbo.value,
        "kl": fit.kl.value,
        "verdict": fit.verdict,
    }


# ---- processes and devices -----------------------------------------------------------------------


def processes(folder: str, report: Report) -> None:
    """A pass by one, two and four processes, each of the first two on a core of its own."""
    found = []
    for count in (1, 2, 4):
        with report.surviving(f"{count} processes"):
            found.append(_together(folder, count))
            report.progress(str({k: v for k, v in found[-1].items() if k != "answer"}))
    report.records += [{k: v for k, v in r.items() if k != "answer"} for r in found]
    alone = np.array(found[0]["answer"])
    cells = []
    for r in found:
        off = float(np.max(np.abs(np.array(r["answer"]) / alone - 1)))
        r["off"] = off
        ratio = found[0]["seconds"] / r["seconds"]
        cells.append((str(r["count"]), number(r["seconds"], 2), number(ratio, 2), f"{off:.1e}"))
    head = ("processes", "seconds of a pass", "times as fast", "largest relative difference")
    report.show(Table(f"{PASS_ROWS:,} rows, {POINTS} gradients", head, tuple(cells)))
    worst = max(r["off"] for r in found)
    report.verdict(worst <= SAME, f"the same answer to {SAME:g}", f"{worst:.1e}")
    ratio = found[0]["seconds"] / found[1]["seconds"]
    report.verdict(ratio >= FASTER, f"two processes {FASTER} times as fast as one", f"{ratio:.2f}")


def _together(folder: str, count: int) -> dict[str, Any]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    runs = [begun("suite_scale", "passed", folder, rank, count, port) for rank in range(count)]
    told: list[dict[str, Any]] = [answer(run) for run in runs]
    return told[0]


def passed(folder: str, rank: int, count: int, port: int) -> dict[str, Any]:
    """One pass by this process and its peers."""
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[rank % len(cores)]})
    if count > 1:
        jax.distributed.initialize(f"127.0.0.1:{port}", count, rank)
    own = slice(rank * PASS_ROWS // count, (rank + 1) * PASS_ROWS // count)
    made = target(folder, PASS_ROWS, own, way="blocks")
    z = 0.1 * np.random.default_rng(0).standard_normal((POINTS, COLUMNS + 1))
    made.value_and_gradient(z)  # compiles, and brings the file into memory
    taken = []
    for _ in range(3):
        begun = time.perf_counter()
        log_p, gradient = made.value_and_gradient(z)
        taken.append(time.perf_counter() - begun)
    answer = [*log_p.tolist(), *gradient[0].tolist()]
    return {"part": "processes", "count": count, "seconds": min(taken), "answer": answer}


def devices(folder: str, report: Report) -> None:
    """The same pass over one and several devices that the processor is split into."""
    found = []
    for count in (1, 2, 4):
        flags = f"--xla_force_host_platform_device_count={count}"
        os.environ["XLA_FLAGS"] = flags
        with report.surviving(f"{count} devices"):
            found.append(apart("suite_scale", "shared", folder))
            report.progress(str({k: v for k, v in found[-1].items() if k != "answer"}))
    os.environ.pop("XLA_FLAGS")
    alone = np.array(found[0]["answer"])
    cells = [
        (
            str(r["count"]),
            number(r["seconds"], 2),
            f"{np.max(np.abs(np.array(r['answer']) / alone - 1)):.1e}",
        )
        for r in found
    ]
    head = ("devices", "seconds of a pass", "largest relative difference")
    report.show(Table("One processor split into devices", head, tuple(cells)))


def shared(folder: str) -> dict[str, Any]:
    """One pass over the devices of this process."""
    made = target(folder, PASS_ROWS, way="blocks")
    z = 0.1 * np.random.default_rng(0).standard_normal((POINTS, COLUMNS + 1))
    made.value_and_gradient(z)
    begun = time.perf_counter()
    log_p, gradient = made.value_and_gradient(z)
    seconds = time.perf_counter() - begun
    answer = [*log_p.tolist(), *gradient[0].tolist()]
    count = len(jax.local_devices())
    return {"part": "devices", "count": count, "seconds": seconds, "answer": answer}


# ---- killed --------------------------------------------------------------------------------------


def killed(folder: str, report: Report) -> None:
    """Fits killed at random moments, gone on with, and held against one in one go."""
    with report.surviving("killed"):
        whole = apart("suite_scale", "survivor", folder, None)
        with tempfile.TemporaryDirectory() as kept:  # how long there is to be killed in
            started = time.perf_counter()
            apart("suite_scale", "survivor", folder, kept)
            seconds = time.perf_counter() - started
        rng, equal, reached = np.random.default_rng(0), 0, []
        for kill in range(KILLS):
            with tempfile.TemporaryDirectory() as kept:
                child = begun("suite_scale", "survivor", folder, kept)
                time.sleep(rng.uniform(0.0, seconds))
                child.kill()
                child.communicate()
                held = Path(kept) / "evaluations.bin"
                reached.append(held.stat().st_size if held.exists() else 0)
                equal += apart("suite_scale", "survivor", folder, kept) == whole
            report.progress(f"killed {kill}: {reached[-1]:,} bytes kept, {equal} equal so far")
        report.records.append({"part": "killed", "bytes": reached, "equal": equal})
        told = f"{equal} of {KILLS}, with {min(reached):,} to {max(reached):,} bytes kept"
        report.verdict(equal == KILLS, "killed fits end as one in one go, bit for bit", told)


def survivor(folder: str, kept: str | None) -> list[str]:
    """A fit by passes, bit for bit."""
    made = target(folder, KILLED_ROWS, way="blocks")
    fit = infimum.fit(made, "fullrank", starts=1, draws=500, progress=False, checkpoint=kept)
    return [float(x).hex() for x in (fit.elbo.value, fit.log_evidence.value, *fit.q.mean)]


# ---- dimensions ----------------------------------------------------------------------------------


def dims(report: Report) -> None:
    """Families against d, on a chain with a skewed density at each link."""
    found = []
    for dim, names in DIMS:
        for family in names:
            with report.surviving(f"{family} {dim}"):
                record = apart("suite_scale", "chained", dim, family, seconds=1200)
                report.progress(str(record))
                found.append(record)
    report.records += found
    cells = [
        (
            f"{r['dim']:,}",
            r["family"],
            number(r["seconds"], 1),
            number(r["megabytes"]),
            f"{r['gradients']:,}",
            number(r["elbo"], 2),
            r["verdict"],
        )
        for r in found
    ]
    head = ("d", "family", "seconds", "peak MB", "gradients", "ELBO", "verdict")
    report.show(Table("Dimensions: a chain of log-gamma links", head, tuple(cells), n_left=2))


def chained(dim: int, family: str) -> dict[str, Any]:
    """One fit in this process."""

    def log_density(z: Any) -> Any:
        step = z[1:] - 0.8 * z[:-1]
        return (2.0 * step - jnp.exp(step)).sum() + 2.0 * z[0] - jnp.exp(z[0])

    begun = time.perf_counter()
    with double_precision():
        made = infimum.Target(log_density, np.zeros(dim))
    fit = infimum.fit(made, family, starts=1, progress=False)
    return {
        "part": "dims",
        "dim": dim,
        "family": family,
        "seconds": time.perf_counter() - begun,
        "megabytes": peak_megabytes(),
        "gradients": fit.work.n_gradients,
        "elbo": fit.elbo.value,
        "verdict": fit.verdict,
    }


# ---- picture -------------------------------------------------------------------------------------


def draw(records: Sequence[dict[str, Any]], path: Path) -> None:
    """Seconds and memory against rows, and against dimensions family by family."""
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(2, 2, figsize=(10, 7), layout="constrained")
    wide = [r for r in records if r["part"] == "rows"]
    deep = [r for r in records if r["part"] == "dims"]
    for row, (key, label) in enumerate((("seconds", "seconds"), ("megabytes", "peak MB"))):
        axes[row, 0].plot([r["n"] for r in wide], [r[key] for r in wide], "o-", color="black")
        axes[row, 0].set(xlabel="rows", ylabel=label, xscale="log", yscale="log")
        for family, marker in zip(sorted({r["family"] for r in deep}), "os^vD", strict=False):
            own = [r for r in deep if r["family"] == family]
            x, y = [r["dim"] for r in own], [r[key] for r in own]
            axes[row, 1].plot(x, y, marker=marker, label=family)
        axes[row, 1].set(xlabel="dimensions", ylabel=label, xscale="log", yscale="log")
    axes[0, 1].legend(frameon=False)
    figure.savefig(path, dpi=120)
