"""The warm-up that NumPyro's NUTS needs, by itself and when a fit says where to start.

By itself it starts where it does by default, and adapts its step size and a diagonal mass matrix.
With a fit it starts at `Fit.inits`, keeps `Fit.inverse_mass_matrix`, and adapts its step size
alone.

A warm-up is enough if `CHAINS` chains of `KEPT` draws after it reach at least `PART` of the least
bulk ESS that NUTS by itself reaches after `LONG` steps, and have an R-hat of at most `MIXED`; the
warm-up that is needed is the shortest of `TRIED` that is enough. Every one is tried once, with the
same random numbers, so that luck is a part of the answer.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

import infimum
from benchmarks.apart import apart
from benchmarks.chains import bulk_ess, quantities, r_hat
from benchmarks.database import load_data
from benchmarks.posteriors import POSTERIORS, Posterior
from benchmarks.table import Report, Table, number

CHAINS, KEPT = 4, 500
"""Chains, and draws of each after the warm-up."""

TRIED = (6, 12, 25, 50, 100, 200, 400, 800)
"""Warm-up steps, from the fewest: twice as many each time tells a ratio to within two. Below 20
NumPyro adapts the step size in one go; from there on it begins anew at the ends of its windows,
the last time with a tenth of the steps left, which of 25 are too few for anyone."""

LONG = 1_000
"""Warm-up steps of NUTS by itself that others are held against: the number that is customary."""

PART = 0.9
"""Of its least ESS: two runs that differ in nothing but their random numbers differ by about as
much as is left."""

MIXED = 1.02
"""Largest R-hat. Where all chains are draws of one distribution, 500 draws of each seldom give more
than 1.01."""

PATIENCE = 1_200.0
"""Seconds after which a posterior is given up: fit, compilations and all chains together."""

SHORTER, MOST = 0.25, 12 / 15
"""Part of the usual warm-up that is claimed to be enough, and of how many posteriors."""

Chains = Callable[[int], dict[str, float]]
"""From warm-up steps to what came of them."""


def measure(
    folder: Path, posteriors: Sequence[Posterior], seeds: Sequence[int], report: Report
) -> None:
    """Find the warm-up needed on every posterior and seed; add a table and verdicts."""
    for posterior in posteriors:
        for seed in seeds:
            with report.surviving(f"{posterior.name} seed {seed}"):
                _measured(folder, posterior.name, seed, report)
    report.show(_table(report.records))
    for cost in ("steps", "gradients"):
        parts = [
            [_part(r, cost) for r in report.records if r["posterior"] == p.name] for p in posteriors
        ]
        met = sum(bool(seeds) and max(seeds) <= SHORTER for seeds in parts)
        claim = f"warm-up {cost} at most {SHORTER:g} of the usual on {MOST:.0%} of the posteriors"
        report.verdict(met >= MOST * len(parts), claim, f"{met} of {len(parts)}, every seed")
    report.close()


def _measured(folder: Path, name: str, seed: int, report: Report) -> None:
    """One record, made in a process of its own."""
    try:
        record = apart("suite_warmup", "needs", str(folder), name, seed, seconds=PATIENCE)
    except subprocess.TimeoutExpired:
        report.say(f"MISS  {name} seed {seed}: given up after {PATIENCE:.0f} s")
        return
    report.records.append(record)
    usual, begun = record["usual"], record["begun"]
    report.progress(
        f"{name} seed {seed}: ESS {record['long']['ess']:.0f} after {LONG}; usual {_steps(usual)} "
        f"(ESS {usual['ess']:.0f}, R-hat {usual['r_hat']:.3f}), from the fit {_steps(begun)} "
        f"(ESS {begun['ess']:.0f}, R-hat {begun['r_hat']:.3f})"
    )


def needs(folder: str, name: str, seed: int) -> dict[str, Any]:
    """What warm-up one posterior needs both ways, and what the fit took.

    Returns
    -------
    Of "long" (NUTS by itself after `LONG` steps), "usual" and "begun" (the shortest that is enough
    by itself and with a fit, else the longest tried): warm-up steps, gradients of all chains'
    warm-ups together, least ESS, largest R-hat, and whether it is enough.
    """
    posterior = POSTERIORS[name]
    arguments = posterior.arguments(load_data(Path(folder), name))
    began = time.perf_counter()
    target = infimum.from_numpyro(posterior.model, *arguments)
    fit = infimum.fit(target, seed=seed, progress=False)
    seconds = time.perf_counter() - began
    start, mass = fit.inits(CHAINS, seed=seed), fit.inverse_mass_matrix()
    with jax.enable_x64(True):
        by_itself = _nuts(posterior, arguments, seed)
        options = {"inverse_mass_matrix": mass, "adapt_mass_matrix": False, "dense_mass": True}
        sites = _by_site(posterior, arguments, start)
        with_fit = _nuts(posterior, arguments, seed, sites, **options)
        long = by_itself(LONG)
        return {
            "posterior": name,
            "seed": seed,
            "dim": target.dim,
            "family": fit.family.name,
            "verdict": fit.verdict,
            "fit_seconds": seconds,
            "fit_gradients": fit.work.n_gradients,
            "long": long,
            "usual": _shortest(by_itself, PART * long["ess"]),
            "begun": _shortest(with_fit, PART * long["ess"]),
        }


def _shortest(chains: Chains, ess: float) -> dict[str, Any]:
    """The shortest warm-up that is enough, else the longest."""
    for steps in TRIED:
        found = chains(steps)
        enough = bool(found["ess"] >= ess and found["r_hat"] <= MIXED)
        if enough:
            break
    return {**found, "enough": enough}


def _by_site(posterior: Posterior, arguments: Any, start: infimum.Inits) -> dict[str, Any]:
    """Starting points as NumPyro takes them: unconstrained values by site.

    Raises
    ------
    RuntimeError
        If NumPyro's vector, in which the sites stand in the order of their names, is not the fit's:
        its mass matrix would belong to other coordinates.
    """
    from numpyro.infer.util import unconstrain_fn

    free = jax.vmap(lambda p: unconstrain_fn(posterior.model, arguments, {}, p))(start.constrained)
    vectors = np.concatenate([np.reshape(free[k], (len(start), -1)) for k in sorted(free)], axis=1)
    if not np.allclose(vectors, start.unconstrained, rtol=1e-6, atol=1e-6):
        raise RuntimeError(f"NumPyro's coordinates of {posterior.name} are not infimum's")
    return dict(free)


def _nuts(
    posterior: Posterior, arguments: Any, seed: int, start: Any = None, **options: Any
) -> Chains:
    """NumPyro's NUTS, chain after chain, to be run after so many warm-up steps.

    The loop is that of `MCMC`, in one program: `MCMC` compiles warm-up and draws apart where the
    steps of both are to be told, and each anew for every chain.
    """
    from numpyro.infer import NUTS

    def chains(warm_up: int) -> dict[str, float]:
        kernel = NUTS(posterior.model, **options)
        keys = jax.random.split(jax.random.key(seed), CHAINS)
        points = [
            None if start is None else {k: x[i] for k, x in start.items()} for i in range(CHAINS)
        ]
        states = [
            kernel.init(key, warm_up, point, arguments, {})
            for key, point in zip(keys, points, strict=True)
        ]

        def step(state: Any, _: None) -> Any:
            state = kernel.sample(state, arguments, {})
            return state, (state.z, state.num_steps)

        def chain(state: Any) -> Any:
            return jax.lax.scan(step, state, None, warm_up + KEPT)[1]

        together = jax.tree_util.tree_map(lambda *x: jax.numpy.stack(x), *states)
        path, leapfrogs = jax.jit(lambda states: jax.lax.map(chain, states))(together)
        z = {name: x[:, warm_up:] for name, x in path.items()}
        constrain = kernel.postprocess_fn(arguments, {})
        columns = quantities(jax.jit(jax.vmap(jax.vmap(constrain)))(z))
        return {
            "steps": warm_up,
            "gradients": int(leapfrogs[:, :warm_up].sum()),
            "ess": float(bulk_ess(columns).min()),
            "r_hat": float(r_hat(columns).max()),
        }

    return chains


# Table --------------------------------------------------------------------------------------------


def _part(record: dict[str, Any], cost: str) -> float:
    """Cost with the fit over that without; at most so much where none without was enough."""
    return record["begun"][cost] / record["usual"][cost] if record["begun"]["enough"] else np.inf


def _steps(found: dict[str, Any]) -> str:
    return ("" if found["enough"] else "> ") + number(found["steps"])


def _gradients(found: dict[str, Any]) -> str:
    return ("" if found["enough"] else "> ") + number(found["gradients"])


def _ratio(record: dict[str, Any], cost: str) -> str:
    bound = record["begun"]["enough"] and not record["usual"]["enough"]
    part = _part(record, cost)
    return ("< " if bound else "") + ("∞" if np.isinf(part) else f"{part:.3g}")


def _table(records: Sequence[dict[str, Any]]) -> Table:
    rows = tuple(
        (
            record["posterior"],
            str(record["dim"]),
            record["family"],
            record["verdict"],
            number(record["fit_seconds"], 1),
            number(record["fit_gradients"]),
            number(record["long"]["ess"]),
            number(record["long"]["r_hat"], 3),
            _steps(record["usual"]),
            _steps(record["begun"]),
            _ratio(record, "steps"),
            _gradients(record["usual"]),
            _gradients(record["begun"]),
            _ratio(record, "gradients"),
        )
        for record in records
    )
    columns = ("posterior", "d", "family", "verdict", "fit s", "its gradients")
    columns += (f"least ESS after {LONG:,}", "R-hat", "steps, usual", "from the fit", "ratio")
    columns += ("gradients, usual", "from the fit", "ratio")
    return Table("Warm-up needed, by itself and from a fit", columns, rows)
