"""Run Gaussian score matching (Modi et al. 2023) as its authors' package does it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from gsmvi.gsm import GSM, gsm_update
from gsmvi.initializers import lbfgs_init

import infimum
from benchmarks.measure import Gaussian
from benchmarks.methods import Point, Run

BATCH = 8
ITERATIONS = 5_000
"""The package's default; it has no other end."""

DENSE, EVERY = 250, 25
"""Its q is judged at each of the first iterations, later at every 25th."""

RADIUS = 1.0
"""The L-BFGS start begins uniformly in [-RADIUS, RADIUS]^d, as infimum's ascents do."""


class _Recorder:
    """A monitor of the package: called with the current q before every iteration."""

    checkpoint = 1

    def __init__(self) -> None:
        self.moments: list[tuple[float, Any, Any]] = []

    def __call__(self, i: int, params: Any, lp: Any, key: Any, nevals: int = 1) -> None:
        self.moments.append((time.perf_counter(), *params))


class _Density:
    """log p̂ and its gradient at one point for L-BFGS, which asks for both, one after the other."""

    def __init__(self, value_and_gradient: Callable[..., Any]) -> None:
        self.value_and_gradient = value_and_gradient
        self.n_gradients = 0
        self.at: bytes = b""

    def value(self, x: np.ndarray) -> float:
        if x.tobytes() != self.at:
            self.known = tuple(np.asarray(part) for part in self.value_and_gradient(x))
            self.at = x.tobytes()
            self.n_gradients += 1
        return float(self.known[0])

    def gradient(self, x: np.ndarray) -> np.ndarray:
        self.value(x)
        return self.known[1]


def run(model: Callable[..., Any], args: tuple[Any, ...], seed: int) -> Run:
    """L-BFGS start, then 5,000 iterations of 8 draws; needs double precision switched on.

    The density is ``log_p`` of the target that infimum builds, which is quicker to build than
    NumPyro's own; building it counts as set-up.
    """
    began, cpu = time.perf_counter(), time.process_time()
    target = infimum.from_numpyro(model, *args)
    d = target.dim
    built = time.perf_counter()
    one = _compiled(jax.value_and_grad(target.log_p), (d,))
    scores = _compiled(jax.vmap(jax.grad(target.log_p)), (BATCH, d))
    rows, square = jnp.zeros((BATCH, d)), jnp.eye(d)
    jax.block_until_ready(gsm_update(rows, rows, rows[0], square))
    compiled = time.perf_counter()

    density = _Density(one)
    x0 = np.random.default_rng(seed).uniform(-RADIUS, RADIUS, d)
    mean, cov, _ = lbfgs_init(x0, density.value, density.gradient)
    recorder = _Recorder()
    recorder(0, (mean, cov), None, None)
    failure = ""
    try:
        GSM(d, density.value, scores).fit(
            jax.random.PRNGKey(seed),
            mean=mean,
            cov=cov,
            batch_size=BATCH,
            niter=ITERATIONS,
            verbose=False,
            monitor=recorder,
        )
    except Exception as error:  # whatever numpy raises where it diverges
        failure = f"; ended by {type(error).__name__}: {error}"
    ended, cpu = time.perf_counter(), time.process_time() - cpu
    path = []
    moments = recorder.moments[1:] or recorder.moments
    for i, (clock, mean, cov) in enumerate(moments):
        if i > DENSE and i % EVERY and i < len(moments) - 1:
            continue
        n = density.n_gradients + i * BATCH
        q = Gaussian.from_covariance(np.asarray(mean), np.asarray(cov))
        path.append(Point(q, n, n, clock - began))
    return Run("GSM", path, built - began, compiled - built, ended - compiled, cpu, failure)


def _compiled(function: Callable[..., Any], shape: tuple[int, ...]) -> Callable[..., Any]:
    return jax.jit(function).lower(jax.ShapeDtypeStruct(shape, jnp.float64)).compile()
