"""One posterior in several languages: the same ELBO, and what the way into foreign code costs."""

from __future__ import annotations

import gc
import importlib.metadata
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import infimum
from benchmarks.database import load_data
from benchmarks.methods import forget
from benchmarks.posteriors import Posterior
from benchmarks.table import Report, Table, number
from infimum.base.program import double_precision

FAMILIES = ("meanfield", "fullrank")

N = 64
"""Points at which densities are compared, and points in the batch whose gradients are timed."""

SAME = 1e-6
"""Nats by which two ELBOs may differ."""

MOST = 10.0
"""Microseconds a gradient that the bridge may add to the foreign code's own time."""

NONE = 0.2
"""Microseconds a gradient that count as none."""

TURNS, ROUNDS, IDLE_ROUNDS = 20, 50, 5
"""Turns of every code; measurements of each way in a turn, and those before them that are thrown
away."""

LOOP = 8
"""Batches of a compiled loop."""

JAX, EMPTY = "JAX", "JAX's own empty callback"

WAYS = {"host": "on the host", "call": "in one compiled call", "loop": "in a compiled loop"}
"""Ways to a target's gradient: `Target.value_and_gradient`, and its program in compiled code."""

QUIETEST, ALL = "quietest turn", "all turns"
"""What else the machine does slows everything down, and a callback most. So targets are held
against the turn in which a code's ways together took least."""

Ways = dict[str, Callable[[], Any]]
"""What is timed, by name."""

ROUNDED = 1e-8
"""Relative difference allowed between the code itself and its target: PyMC's own function holds
some constants in single precision."""


def measure(
    folder: Path, posteriors: Sequence[Posterior], seeds: Sequence[int], report: Report
) -> None:
    """Fit every posterior from both languages, time the bridge; add tables and verdicts."""
    packages = ("pymc", "pytensor", "torch", "bridgestan")
    report.say(", ".join(f"{name} {importlib.metadata.version(name)}" for name in packages))
    _rehearse()
    for posterior in posteriors:
        for family in FAMILIES:
            for seed in seeds:
                with report.surviving(f"{posterior.name} {family}"):
                    report.records.append(_compare(folder, posterior, family, seed))
                    report.progress(_in_short(report.records[-1]))
    fits = list(report.records)
    report.show(_same(fits))
    report.show(_seconds(fits))
    _same_verdicts(fits, report)
    _measure_bridge(report)
    report.close()


# The same posterior from NumPyro and from PyMC ---------------------------------------------------


def _rehearse() -> None:
    """Let imports happen before anything is timed."""
    import pymc as pm

    with pm.Model() as model:
        pm.Normal("x", shape=2)
    _ = infimum.fit(infimum.from_pymc(model), "fullrank", progress=False).verdict


def _compare(folder: Path, posterior: Posterior, family: str, seed: int) -> dict[str, Any]:
    from benchmarks.models_pymc import twin

    arguments = posterior.arguments(load_data(folder, posterior.name))
    numpyro, by_numpyro, seconds = _fit(
        lambda: infimum.from_numpyro(posterior.model, *arguments), family, seed
    )
    pymc, by_pymc, pymc_seconds = _fit(
        lambda: infimum.from_pymc(twin(posterior.model, *arguments)), family, seed
    )
    rng = np.random.default_rng(seed)
    eps = rng.standard_normal((N, numpyro.dim))
    z, other = (np.asarray(fit.q.push(eps)) for fit in (by_numpyro, by_pymc))
    anywhere = rng.uniform(-2, 2, (N, numpyro.dim))
    log_p = numpyro.values(anywhere)
    return {
        "posterior": posterior.name,
        "family": family,
        "seed": seed,
        "names_agree": numpyro.names == pymc.names,
        "backend": pymc.model.backend,
        "numpyro": by_numpyro.elbo.value,
        "pymc": by_pymc.elbo.value,
        "difference": by_pymc.elbo.value - by_numpyro.elbo.value,
        "draws": float(np.max(np.abs(other - z) / z.std(axis=0))),
        "log_p": float(np.max(np.abs(pymc.values(z) - numpyro.values(z)))),
        "log_p_anywhere": float(np.max(np.abs(pymc.values(anywhere) / log_p - 1))),
        "n_gradients": [by_numpyro.work.n_gradients, by_pymc.work.n_gradients],
        "numpyro_seconds": seconds,
        "pymc_seconds": pymc_seconds,
    }


def _fit(
    build: Callable[[], infimum.Target], family: str, seed: int
) -> tuple[infimum.Target, infimum.Fit, dict[str, float]]:
    """A target, its fit, and the seconds of each part; nothing is compiled beforehand."""
    forget()
    began = time.perf_counter()
    target = build()
    built = time.perf_counter()
    fit = infimum.fit(target, family, seed=seed, progress=False)
    whole = time.perf_counter() - built
    compiling = fit.work.compile_seconds
    return target, fit, {"build": built - began, "compile": compiling, "run": whole - compiling}


def _in_short(record: dict[str, Any]) -> str:
    return (
        f"{record['posterior']} {record['family']} seed {record['seed']}: "
        f"{record['numpyro']:.9f} and {record['pymc']:.9f}, {record['difference']:.1e} apart"
    )


def _same(records: Sequence[dict[str, Any]]) -> Table:
    columns = ("posterior", "family", "ELBO, NumPyro", "ELBO, PyMC", "difference")
    columns += ("draws of q (sds)", "log p̂ at draws (nats)", "log p̂ elsewhere (rel.)", "backend")
    rows = [
        (
            record["posterior"],
            record["family"],
            f"{record['numpyro']:.6f}",
            f"{record['pymc']:.6f}",
            *(f"{record[key]:.1e}" for key in ("difference", "draws", "log_p", "log_p_anywhere")),
            record["backend"],
        )
        for record in records
    ]
    return Table("The same model twice: largest differences", columns, tuple(rows), n_left=2)


def _seconds(records: Sequence[dict[str, Any]]) -> Table:
    parts = ("build", "compile", "run")
    languages = {"NumPyro": "numpyro_seconds", "PyMC": "pymc_seconds"}
    columns = ("posterior", "family", *(f"{name}, {part}" for name in languages for part in parts))
    rows = [
        (
            record["posterior"],
            record["family"],
            *(number(record[key][part], 2) for key in languages.values() for part in parts),
        )
        for record in records
    ]
    return Table("Seconds", columns, tuple(rows), n_left=2)


def _same_verdicts(records: Sequence[dict[str, Any]], report: Report) -> None:
    for record in records:
        if not abs(record["difference"]) <= SAME:
            report.say(f"MISS  {_in_short(record)}")
    for family in FAMILIES:
        found = [abs(r["difference"]) for r in records if r["family"] == family]
        count = sum(difference <= SAME for difference in found)
        claim = f"{family}, |difference of the ELBOs| <= {SAME:.0e} nats on every posterior"
        told = f"{count} of {len(found)} fits, largest {max(found, default=np.nan):.1e}"
        report.verdict(count == len(found), claim, told)
    for claim, fine in (
        ("every PyMC model goes through its JAX backend", [r["backend"] == "jax" for r in records]),
        ("both name the same quantities", [r["names_agree"] for r in records]),
    ):
        report.verdict(all(fine), claim, f"{sum(fine)} of {len(fine)} fits")


# The bridge into foreign code --------------------------------------------------------------------


@dataclass(frozen=True)
class Code:
    """Eight schools in one language, as a target and as its own users would call it.

    Attributes
    ----------
    direct
        Value and gradient at each of the N points.
    log_p
        log p̂ of z from what `direct` returns.
    native
        Value and gradient at one point, traceable, where the code is JAX itself.
    """

    name: str
    target: infimum.Target
    direct: Callable[[], Any]
    log_p: Callable[[Any], Any]
    native: Callable[[Any], Any] | None = None


def _measure_bridge(report: Report) -> None:
    """Time eight schools in every language."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))  # the density in each language
    z = np.random.default_rng(0).standard_normal((N, 10))
    ways: dict[str, Ways] = {EMPTY: _empty(z)}
    with tempfile.TemporaryDirectory() as folder, double_precision():
        for make in (_jax, _numpy_batched, _numpy, _torch, _stan, _pytensor):
            with report.surviving(make.__name__.strip("_")):
                code = make(z, Path(folder))
                ways[code.name] = _ways(code, z)
        times = _times(ways)
    found = [_summary(name, times[name]) for name in (*list(ways)[1:], EMPTY)]
    report.records += found
    for turns in (QUIETEST, ALL):
        report.show(_bridge_table(found, turns))
    for way, where in WAYS.items():
        added = {r["code"]: r[QUIETEST]["added"][way][1] for r in found if r["code"] != EMPTY}
        foreign = {code: us for code, us in added.items() if code != JAX}
        told = ", ".join(f"{code} {us:+.1f}" for code, us in foreign.items())
        claim = f"the bridge adds at most {MOST:g} µs a gradient, {where}"
        report.verdict(all(us <= MOST for us in foreign.values()), claim, told)
        if JAX in added:
            claim = f"a JAX density costs no more as a target (within {NONE} µs), {where}"
            report.verdict(added[JAX] <= NONE, claim, f"{added[JAX]:+.2f}")


def _ways(code: Code, z: np.ndarray) -> Ways:
    """The code itself and each way through its target; for JAX code, its own compiled forms too."""
    log_p, _ = code.target.value_and_gradient(z)
    np.testing.assert_allclose(np.asarray(code.log_p(code.direct())), log_p, rtol=ROUNDED)
    ways = {"direct": code.direct, "host": lambda: code.target.value_and_gradient(z)}
    ways |= _compiled(code.target.program.function(), z)
    if code.native:
        ways |= {f"native {way}": run for way, run in _compiled(code.native, z).items()}
    return ways


def _empty(z: np.ndarray) -> Ways:
    """What JAX itself takes to call a Python function that has nothing to do."""
    answer = np.zeros((N, z.shape[1] + 1))

    def one(x: Any) -> Any:
        shape = jax.ShapeDtypeStruct(answer.shape[1:], jnp.float64)
        return jax.pure_callback(lambda _: answer, shape, x, vmap_method="broadcast_all")

    with double_precision():
        return _compiled(one, z)


def _compiled(one: Callable[[Any], Any], z: np.ndarray) -> Ways:
    """A call of one batch; and a loop inside the compiler, as stochastic solvers have it."""
    call, loop = jax.jit(jax.vmap(one)), jax.jit(lambda zs: jax.lax.map(jax.vmap(one), zs))
    batch, batches = jnp.asarray(z), jnp.asarray(np.stack([z] * LOOP))
    return {
        "call": lambda: jax.block_until_ready(call(batch)),
        "loop": lambda: jax.block_until_ready(loop(batches)),
    }


def _times(codes: dict[str, Ways]) -> dict[str, dict[str, np.ndarray]]:
    """Microseconds a gradient of each way in each turn and round.

    Every round shuffles the ways of one code; codes take turns, so that all meet the same weather.
    """
    rng = np.random.default_rng(0)
    turns: dict[str, list[np.ndarray]] = {name: [] for name in codes}
    with _no_collection():
        for _ in range(TURNS):
            for name, ways in codes.items():
                turns[name].append(_turn(list(ways.values()), rng))
    times = {}
    for name, ways in codes.items():
        per_call = np.array([N * LOOP if way.endswith("loop") else N for way in ways])
        times[name] = dict(zip(ways, np.moveaxis(turns[name] / per_call * 1e6, 2, 0), strict=True))
    return times


def _turn(ways: list[Callable[[], Any]], rng: np.random.Generator) -> np.ndarray:
    """Seconds of every round and way."""
    seconds = np.empty((IDLE_ROUNDS + ROUNDS, len(ways)))
    for row in seconds:
        for i in rng.permutation(len(ways)):
            began = time.perf_counter()
            ways[i]()
            row[i] = time.perf_counter() - began
    return seconds[IDLE_ROUNDS:]


@contextmanager
def _no_collection() -> Iterator[None]:
    """As `timeit` has it: no garbage is collected meanwhile."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _summary(name: str, times: dict[str, np.ndarray]) -> dict[str, Any]:
    """Quartiles of microseconds a gradient: of the code itself, and of what each way adds."""
    quietest = np.argmin(np.median(sum(times.values()), axis=1))
    record: dict[str, Any] = {"code": name}
    for turns, chosen in ((QUIETEST, [quietest]), (ALL, range(TURNS))):
        us = {way: np.ravel(time[chosen]) for way, time in times.items()}
        added = {}
        for way in [way for way in WAYS if way in us]:
            base = us.get(f"native {way}", us.get("direct", 0.0))
            added[way] = _quartiles(us[way] - base)
        record[turns] = {way: _quartiles(x) for way, x in us.items()} | {"added": added}
    return record


def _quartiles(times: np.ndarray) -> list[float]:
    return [float(q) for q in np.percentile(times, (25, 50, 75))]


def _bridge_table(found: Sequence[dict[str, Any]], turns: str) -> Table:
    columns = ("code", "itself", *(text for way in WAYS.values() for text in (way, "adds")))
    rows = []
    for record in found:
        times = record[turns]
        cells = [record["code"], _middle(times.get("direct"))]
        for way in WAYS:
            cells += [_middle(times.get(way)), _spread(times["added"].get(way))]
        rows.append(tuple(cells))
    title = f"Microseconds a gradient, batches of {N}: medians; quartiles of what is added; {turns}"
    return Table(title, columns, tuple(rows))


def _middle(quartiles: list[float] | None) -> str:
    return number(None if quartiles is None else quartiles[1], 1)


def _spread(quartiles: list[float] | None) -> str:
    if quartiles is None:
        return "–"
    low, middle, high = quartiles
    return f"{middle:+.1f} ({low:.1f}, {high:.1f})"


# Eight schools in each language ------------------------------------------------------------------


def _jax(z: np.ndarray, folder: Path) -> Code:
    from languages import CONSTANT, EFFECT, ERROR

    def log_density(p: Any) -> Any:
        residual = (EFFECT - p["mu"] - p["tau"] * p["t"]) / ERROR
        prior = (p["mu"] / 5) ** 2 + 2 * jnp.log1p((p["tau"] / 5) ** 2) + jnp.sum(p["t"] ** 2)
        return CONSTANT - 0.5 * (jnp.sum(residual**2) + prior)

    def log_p(x: Any) -> Any:
        return log_density({"mu": x[0], "t": x[1:9], "tau": jnp.exp(x[9])}) + x[9]

    example = {"mu": 0.0, "tau": 0.0, "t": np.zeros(8)}
    target = infimum.Target(log_density, example, {"tau": "positive"})
    native = jax.value_and_grad(log_p)
    batch = jax.jit(jax.vmap(native))

    def direct() -> Any:
        return [np.asarray(x) for x in batch(z)]

    return Code(JAX, target, direct, lambda answer: answer[0], native)


def _numpy_batched(z: np.ndarray, folder: Path) -> Code:
    import languages

    target = languages.of_batched_numpy(folder)
    direct = languages.value_and_gradient
    return Code("NumPy, batched", target, lambda: direct(z), lambda answer: answer[0])


def _numpy(z: np.ndarray, folder: Path) -> Code:
    import languages

    target = languages.of_numpy(folder)
    direct = languages.value_and_gradient
    return Code("NumPy, one by one", target, lambda: [direct(row) for row in z], _first)


def _torch(z: np.ndarray, folder: Path) -> Code:
    """Parameters are tensors already; the bijection, which PyTorch does not see, is overhead."""
    import torch
    from languages import CONSTANT, EFFECT, ERROR

    effect, error = torch.tensor(EFFECT), torch.tensor(ERROR)

    def log_density(p: Any) -> Any:
        residual = (effect - p["mu"] - p["tau"] * p["t"]) / error
        prior = (p["mu"] / 5) ** 2 + 2 * torch.log1p((p["tau"] / 5) ** 2) + (p["t"] ** 2).sum()
        return CONSTANT - 0.5 * ((residual**2).sum() + prior)

    example = {"mu": torch.zeros(()), "tau": torch.zeros(()), "t": torch.zeros(8)}
    target = infimum.from_torch(log_density, example, {"tau": "positive"})
    batch = torch.func.vmap(torch.func.grad_and_value(log_density))
    tensors = {"mu": z[:, 0], "t": z[:, 1:9], "tau": np.exp(z[:, 9])}
    params = {name: torch.tensor(value) for name, value in tensors.items()}
    return Code("PyTorch", target, lambda: batch(params), lambda answer: answer[1] + z[:, 9])


def _stan(z: np.ndarray, folder: Path) -> Code:
    import bridgestan
    from languages import EFFECT, ERROR
    from stan.library import compiled

    data = {"J": len(EFFECT), "effect": EFFECT, "standard_error": ERROR}
    model = bridgestan.StanModel(str(compiled("eight_schools", folder)), data)
    rows = np.ascontiguousarray(z[:, [0, 9, *range(1, 9)]])  # mu, tau, t, as declared

    def direct() -> Any:
        return [model.log_density_gradient(row, propto=False, jacobian=True) for row in rows]

    return Code("Stan", infimum.from_stan(model), direct, _first)


def _pytensor(z: np.ndarray, folder: Path) -> Code:
    """PyMC's own function of value and gradient, as its samplers have it."""
    import languages

    function = languages.pymc_model().logp_dlogp_function(ravel_inputs=True)
    function.set_extra_values({})
    rows = np.ascontiguousarray(z[:, [0, 9, *range(1, 9)]])  # mu, tau, t, as declared
    target = languages.of_pytensor(folder)
    return Code("PyMC by PyTensor", target, lambda: [function(row) for row in rows], _first)


def _first(answer: Any) -> list[float]:
    return [float(value) for value, _ in answer]
