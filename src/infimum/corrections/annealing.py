"""Annealing: particles drawn from q's proposal r and moved, step by step, to p*, with log Z.

Between r and p̂ stand r^(1-β) p̂^β. The next β is the one at which the particles' weights keep half
their effective number; then they are resampled, and moved by Hamiltonian Monte Carlo in q's
coordinates. The product of the mean weights is an unbiased estimate of Z (Neal 2001; Del Moral,
Doucet & Jasra 2006). Several populations that know nothing of each other say how good it is. By
BlackJAX.
"""

from __future__ import annotations

import time
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from infimum.base.errors import coded
from infimum.base.extras import required
from infimum.base.program import Structure, differentiable, double_precision, settled
from infimum.base.seeds import CORRECT_STREAM, Seed, generator
from infimum.checks.weights import Estimate
from infimum.corrections._coordinates import Start, coordinates
from infimum.corrections._corrected import Corrected
from infimum.fitting.fit import Fit
from infimum.target.target import Target

POPULATIONS = 8
"""Independent populations. With t of seven degrees of freedom the truth is beyond three standard
errors in 2 of 100 runs; with four populations in 6."""

KEPT, MOVES, LEAPS = 0.998, 4, 30
"""Part of the particles that must stay effective when β grows; moves for each β; leapfrog steps of
one. From the full-rank fit of Neal's funnel (d = 10) log Z was off by at most 0.07 nats at seeds
0-3; with (0.995, 4, 10) by 0.16, with (0.9, 4, 20) by 0.4, which no spread of populations told."""

ACCEPTANCE = 0.5
"""Mean acceptance that the common step size is led to; those of single particles lie around it."""

FIRST_STEP, LONGEST_STEP, SHORTEST_STEP = 0.3, 1.5, 1e-3
"""Step sizes in sds of q: to begin with, and their limits."""

RANGE = 3.0
"""Steps of single particles are up to exp(±3) of the common size: funnels need all sizes."""

MOST_STEPS = 200
"""Values of β after which the way is taken to lead nowhere."""

RELIABLE = 0.5
"""Spread of log Z among populations, in nats, above which none of them is to be believed."""

NOTHING = -1e100
"""log p̂ where p̂ = 0, so that β = 0 times it is 0."""

LEAST_INSIDE = 0.01
"""Share of the first draws that must have a density."""


def annealing(
    fit: Fit, n: int = 4096, *, populations: int = POPULATIONS, seed: Seed = 0
) -> Corrected:
    """Draws of p* and log Z by tempered sequential Monte Carlo from q.

    Parameters
    ----------
    n
        Particles in all populations together.
    populations
        Independent populations; their spread is the standard error of everything.

    Returns
    -------
    `told` has the number of temperatures and the spread of log Z over populations.

    Raises
    ------
    ValueError
        If the target has no gradient or is not at hand; if there are fewer than 16 particles to a
        population, or fewer than 4 populations.
    """
    if not isinstance(populations, int | np.integer) or populations < 4:
        raise ValueError(coded("E302", f"populations is {populations!r}, expected at least 4"))
    if not isinstance(n, int | np.integer) or n < 16 * populations:
        raise ValueError(
            coded(
                "E302",
                f"n is {n!r}, expected at least 16 particles for each population, "
                f"{16 * populations}",
            )
        )
    target = fit.at_hand()
    if not target.differentiable:
        raise ValueError(
            coded(
                "E110",
                "annealing needs a gradient, and the target has none: give it one, or use "
                "importance",
            )
        )
    required("blackjax", "mcmc")
    begun = time.perf_counter()
    map_, each = coordinates(fit), int(n) // int(populations)
    start = Start(map_, fit.proposal.others)
    rng = generator(seed, CORRECT_STREAM, 7)
    begin = [_inside(target, start, each, rng) for _ in range(populations)]
    eps, log_z, steps = _annealed(target, start, np.stack([eps for eps, _ in begin]), seed)
    log_z += np.log([share for _, share in begin])
    points = map_.points(eps.reshape(-1, eps.shape[-1]))
    spread = float(np.std(log_z, ddof=1))
    top = log_z.max()
    shares = np.exp(log_z - top)
    shares /= shares.sum()
    value = float(top + np.log(np.mean(np.exp(log_z - top))))
    se = float(np.std(shares, ddof=1) * np.sqrt(populations))
    chosen = _balanced(shares, each, generator(seed, CORRECT_STREAM, 6))
    arrived = steps < MOST_STEPS and np.isfinite(log_z).all() and np.isfinite(points).all()
    told = f"{populations} populations agree on log Z to {spread:.2g} nats, over {steps} steps."

    def noise(values: np.ndarray) -> np.ndarray:
        """Of a weighted mean of independent populations."""
        counts = np.bincount(chosen // each, minlength=populations)
        starts = np.repeat(np.arange(populations), counts)
        sums = np.zeros((populations, values.shape[1]))
        np.add.at(sums, starts, values - values.mean(axis=0))
        factor = populations / (populations - 1)
        return np.asarray(np.sqrt(factor * (sums**2).sum(axis=0)) / len(values))

    return Corrected(
        fit=fit,
        method="annealing",
        z=points[chosen],
        noise=noise,
        log_evidence=Estimate(value, se),
        trusted=bool(arrived and spread <= RELIABLE),
        why=told if arrived else "the particles did not arrive at p*.",
        told={"steps": float(steps), "spread": spread},
        seconds=time.perf_counter() - begun,
    )


def _balanced(shares: np.ndarray, each: int, rng: np.random.Generator) -> np.ndarray:
    """Particles of all populations, each population in proportion to its estimate of Z."""
    total = shares * each * len(shares)
    counts = np.floor(total).astype(int)
    left = total - counts
    more = len(shares) * each - counts.sum()
    if more:
        counts += rng.multinomial(more, left / left.sum())
    parts = [
        k * each + (np.arange(each) if count == each else rng.choice(each, size=count))
        for k, count in enumerate(counts)
    ]
    return np.concatenate(parts)


def _inside(
    target: Target, start: Start, n: int, rng: np.random.Generator
) -> tuple[np.ndarray, float]:
    """N draws of the start with a positive density, and the share of these among all.

    Raises
    ------
    ValueError
        If nearly none has.
    """
    kept, found, tried = [], 0, 0
    while found < n:
        eps = start.draws(rng, n)
        fine = target.values(start.map_.points(eps)) > -np.inf
        kept.append(eps[fine])
        found, tried = found + int(fine.sum()), tried + n
        if found < LEAST_INSIDE * tried:
            raise ValueError(
                coded(
                    "E805",
                    f"p̂ is zero or undefined at all but {found} of {tried} draws: there is no way "
                    "from q to p*. Give parameters the supports they live on, or fit a larger "
                    "family",
                )
            )
    return np.concatenate(kept)[:n], found / tried


def _annealed(
    target: Target, start: Start, eps: np.ndarray, seed: Seed
) -> tuple[np.ndarray, np.ndarray, int]:
    """Particles at β = 1 of equal weight, log Z of each population, and how many steps it took."""
    program = target.program
    key = jax.random.key(int(generator(seed, CORRECT_STREAM, 5).integers(2**32)))
    populations, each, _ = eps.shape
    log_z, sizes = np.zeros(populations), np.full(populations, FIRST_STEP)
    with double_precision():
        weights = jnp.full((populations, each), 1 / each)
        state = settled((jnp.asarray(eps), weights, jnp.zeros(populations)))
        for step in range(1, MOST_STEPS):
            keys = jax.random.split(jax.random.fold_in(key, step), populations)
            arrived = bool((np.asarray(state[2]) >= 1).all())
            state, gained, accepted = _advanced(
                program.structure, program.constants, start, state, jnp.asarray(sizes), keys
            )
            target.resume()
            log_z += np.asarray(gained)
            turn = np.exp(2 * (np.nan_to_num(np.asarray(accepted)) - ACCEPTANCE))
            sizes = np.clip(sizes * turn, SHORTEST_STEP, LONGEST_STEP)
            if arrived or not np.isfinite(log_z).all():
                break
    return np.asarray(state[0]), log_z, step if arrived else MOST_STEPS


@eqx.filter_jit
def _advanced(
    structure: Structure, constants: Any, start: Start, state: Any, sizes: Any, keys: Any
) -> Any:
    """One step of every population: resampled, moved at β, weighted for the next β."""
    import blackjax
    from blackjax.smc.adaptive_tempered import build_kernel
    from blackjax.smc.resampling import systematic
    from blackjax.smc.tempered import TemperedSMCState

    log_p = differentiable(structure, constants)

    def before(eps: Any) -> Any:
        z, log_det = start.map_.push(eps)
        return start.log_prob(eps, z, log_det) + jnp.where(log_p(z) > -jnp.inf, 0.0, NOTHING)

    def ratio(eps: Any) -> Any:
        z, log_det = start.map_.push(eps)
        return jnp.maximum(log_p(z), NOTHING) + log_det - start.log_prob(eps, z, log_det)

    moving = blackjax.hmc.build_kernel()
    mass = jnp.ones(state[0].shape[-1])

    def move(key: Any, at: Any, density: Any, step_size: Any) -> Any:
        return moving(key, at, density, step_size, mass, LEAPS)

    kernel = build_kernel(before, ratio, move, blackjax.hmc.init, systematic, KEPT)

    def advance(key: Any, state: Any, size: Any) -> Any:
        draw, key = jax.random.split(key)
        turn = jax.random.uniform(draw, (len(state[1]),), minval=-RANGE, maxval=RANGE)
        sizes = {"step_size": size * jnp.exp(turn)}
        new, info = kernel(key, TemperedSMCState(*state), MOVES, sizes)
        accepted = jnp.mean(info.update_info.acceptance_rate)
        return settled((tuple(new), info.log_likelihood_increment, accepted))

    return jax.vmap(advance)(keys, state, sizes)
