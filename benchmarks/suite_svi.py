"""NumPyro's SVI on minibatches beside a fit of the same rows, with several times its seconds.

Both have a million rows of the regression of `suite_scale` in memory. SVI has three step sizes, of
which the best counts, and is looked at now and then: the ELBO of its Gaussian is over all rows, and
the seconds of looking do not count, nor does its compilation.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import infimum
from benchmarks.apart import apart
from benchmarks.posteriors import Posterior
from benchmarks.suite_scale import COLUMNS, NEAR, PASS_ROWS, target, write
from benchmarks.table import Report, Table, number

RATES = (0.001, 0.003, 0.01)
"""Step sizes of SVI, of which the best counts."""

BATCH = 1_000
"""Rows of a minibatch of SVI."""

TIMES = 10
"""Seconds that SVI gets for one of the fit."""

LOOKS = 10
"""How often SVI is looked at in that time."""

STEPS = 500
"""Of SVI in one compiled loop."""

DRAWS = 64
"""Pairs of opposite draws by which the ELBO of SVI's Gaussian is known."""


def measure(
    folder: Path | None, posteriors: Sequence[Posterior], seeds: Sequence[int], report: Report
) -> None:
    """A fit, SVI with each step size, and a table of how far behind it is."""
    with tempfile.TemporaryDirectory() as made:
        write(Path(made), PASS_ROWS)
        with report.surviving("SVI"):
            _beside(made, report)
    report.close()


def _beside(folder: str, report: Report) -> None:
    ours = apart("suite_scale", "fitted", folder, PASS_ROWS)
    report.progress(str(ours))
    theirs = []
    for rate in RATES:
        theirs.append(apart("suite_svi", "descended", folder, rate, ours["seconds"]))
        report.progress(f"SVI {rate:g}: {theirs[-1]['path'][-1]}")
    report.records += [ours, *theirs]
    cells = [("infimum, full-rank", number(ours["seconds"], 1), "", "0")]
    for r in theirs:
        for seconds, steps, elbo in r["path"]:
            behind = number(ours["elbo"] - elbo, 2)
            cells.append((f"SVI, {r['rate']:g}", number(seconds, 1), f"{steps:,}", behind))
    head = ("method", "seconds", "steps", "nats below infimum's ELBO")
    title = f"{PASS_ROWS:,} rows: AutoMultivariateNormal, minibatches of {BATCH:,}, Adam"
    report.show(Table(title, head, tuple(cells)))
    best = min(ours["elbo"] - elbo for r in theirs for *_, elbo in r["path"])
    report.verdict(
        best > NEAR,
        f"SVI is not within {NEAR} nats in {TIMES} times the seconds",
        f"{best:.2f} nats below at best",
    )


def descended(folder: str, rate: float, seconds: float) -> dict[str, Any]:
    """SVI for `TIMES` these seconds: (seconds, steps, ELBO) on the way."""
    import numpyro
    import numpyro.distributions as dist
    from numpyro import infer

    made = target(folder, PASS_ROWS, way="blocks")
    data = {k: jnp.asarray(np.load(Path(folder) / f"{k}.npy")[:PASS_ROWS]) for k in ("x", "y")}

    def model(x: Any, y: Any) -> None:
        w = numpyro.sample("w", dist.Normal(0.0, 1.0).expand([COLUMNS]).to_event(1))
        b = numpyro.sample("b", dist.Normal(0.0, 1.0))
        with numpyro.plate("rows", PASS_ROWS, subsample_size=BATCH):
            some = numpyro.subsample(x, event_dim=1)
            seen = numpyro.subsample(y, event_dim=0)
            numpyro.sample("y", dist.Bernoulli(logits=some @ w + b), obs=seen)

    guide = infer.autoguide.AutoMultivariateNormal(model)
    run = infer.SVI(model, guide, numpyro.optim.Adam(rate), infer.Trace_ELBO())
    state = run.init(jax.random.key(0), **data)
    many = jax.jit(
        lambda state: jax.lax.fori_loop(0, STEPS, lambda _, s: run.update(s, **data)[0], state)
    )
    state = jax.block_until_ready(many(state))  # compiles
    spent, steps, path = 0.0, STEPS, []
    for look in range(1, LOOKS + 1):
        while spent < TIMES * seconds * look / LOOKS:
            begun = time.perf_counter()
            state = jax.block_until_ready(many(state))
            spent += time.perf_counter() - begun
            steps += STEPS
        path.append((spent, steps, _elbo(made, guide, run.get_params(state))))
    return {"rate": rate, "path": path}


def _elbo(made: infimum.Rows, guide: Any, found: Any) -> float:
    """Of SVI's Gaussian over all rows: the mean of log p̂ − log q."""
    factor = np.asarray(found["auto_scale_tril"], np.float64)
    half = np.random.default_rng(0).standard_normal((DRAWS, len(factor)))
    eps = np.concatenate([half, -half])
    latent = np.asarray(found["auto_loc"], np.float64) + eps @ factor.T
    sites = jax.vmap(guide._unpack_latent)(jnp.asarray(latent))  # in the order of its trace
    z = np.concatenate([np.asarray(sites["b"])[:, None], np.asarray(sites["w"])], axis=1)
    log_q = -0.5 * (eps**2).sum(axis=1) - 0.5 * len(factor) * np.log(2 * np.pi)
    log_q -= np.log(np.diag(factor)).sum()
    return float((made.values(z) - log_q).mean())
