"""Annealing: particles that move from q to p* step by step, with an estimate of log Z.

Between a start r and p̂ stand the densities r^(1-β) p̂^β. The next β is the one at which the weights
of the particles keep nearly all of their effective number. Then the particles are resampled, and
moved by Hamiltonian Monte Carlo in q's coordinates. The product of the mean weights is an unbiased
estimate of Z (Neal 2001; Del Moral, Doucet & Jasra 2006). Several independent populations show how
precise it is. The moves are BlackJAX's.
"""

from __future__ import annotations

import functools
import time
from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from infimum.base.errors import coded_error
from infimum.base.extras import required
from infimum.base.program import Structure, differentiable, double_precision, settled
from infimum.base.seeds import CORRECT_STREAM, Seed, generator
from infimum.checks.weights import Estimate
from infimum.corrections._coordinates import Coordinates, coordinates
from infimum.corrections._corrected import Corrected
from infimum.corrections._together import find_scales, moved_together
from infimum.families._distribution import LARGEST_DENSE, Distribution
from infimum.fitting.fit import Fit
from infimum.gaussian.stack import LOG_2PI
from infimum.gaussian.student_t import log_decay, log_height, random_radii
from infimum.objective.draws import fresh_draws
from infimum.target.target import Target

POPULATIONS = 8
"""Independent populations. By a t distribution with seven degrees of freedom the truth is beyond
three standard errors in 2 of 100 runs; with four populations in 6."""

EFFECTIVE_SHARE, MOVES, LEAPS = 0.998, 4, 30
"""Share of the particles that must stay effective when β grows; moves at each β; leapfrog steps of
a move. From the full-rank fit of Neal's funnel (d = 10) log Z was off by at most 0.07 nats at seeds
0-3. With (0.995, 4, 10) it was off by 0.16, with (0.9, 4, 20) by 0.4, and the populations agreed in
spite of it."""

WIDE_SCALE, FREEDOM = 2.0, 3.0
"""Scale in sds of q, and degrees of freedom, of the t among the first particles. With the proposal
of the weights in its place log Z of a funnel came out 0.05 nats lower on average."""

ACCEPTANCE = 0.5
"""Mean acceptance that the common step size is adapted to; single particles differ from it."""

FIRST_STEP, LONGEST_STEP, SHORTEST_STEP = 0.3, 1.5, 1e-3
"""Step sizes in sds of q: the first one, and the limits."""

LOG_STEP_RANGE = 3.0
"""Step sizes of single particles are up to exp(±3) times the common one: funnels need all sizes."""

MOST_STEPS = 200
"""Values of β after which the particles are taken not to arrive."""

TURNS = 10
"""Turns of moves of scales: the neck of Neal's funnel then had 0.015 to 0.021 of the particles at
three seeds, where 0.02 is right, and 0.0015 to 0.006 without them."""

MOST_SPREAD = 0.5
"""Largest spread of log Z among populations that can be believed, in nats."""

LOG_ZERO = -1e100
"""Stands for log p̂ where p̂ = 0, so that its product with β = 0 is 0."""

LEAST_INSIDE = 0.01
"""Least share of the first draws at which p̂ must be positive."""


class Start(eqx.Module):
    """Where annealing begins: a mixture of N(0, I) in q's coordinates, a wide t, and other optima.

    The t has draws where q has none, in all coordinates together, as in the mouth of a funnel.

    Attributes
    ----------
    map_
        The coordinates of q.
    others
        Other known optima, as distributions of z.
    """

    map_: Coordinates
    others: tuple[Distribution, ...]

    @property
    def log_shares(self) -> np.ndarray:
        """Log of each part's share: equal for N(0, I) and the t, half of that for each optimum."""
        shares = np.array([1.0, 1.0, *[0.5] * len(self.others)])
        return np.log(shares / shares.sum())

    def draws(self, rng: np.random.Generator, n: int) -> Float[np.ndarray, "n d"]:
        """n draws ε in random order, of each part its share to within one."""
        shares = np.exp(self.log_shares)
        part = np.searchsorted(np.cumsum(shares), (np.arange(n) + rng.random()) / n)
        eps = rng.standard_normal((n, self.map_.dim))
        wide = part == 1
        eps[wide] *= WIDE_SCALE * random_radii(rng, FREEDOM, (int(wide.sum()), 1))
        for k, other in enumerate(self.others):
            rows = part == 2 + k
            if rows.any():
                chunks = fresh_draws(other, int(rows.sum()), int(rng.integers(2**31)))
                eps[rows] = np.concatenate([self.map_.pull_back(z) for z, _ in chunks])
        return rng.permutation(eps)

    def log_prob(
        self, eps: Float[Array, " d"], z: Float[Array, " d"], log_det: Any
    ) -> Float[Array, ""]:
        """Log density in ε at one point, by JAX; `z` and `log_det` are those of `map_` there."""
        d, square = eps.shape[-1], jnp.sum(eps**2)
        parts = [
            -0.5 * square - 0.5 * d * LOG_2PI,
            log_height(d, FREEDOM, scale=WIDE_SCALE) + log_decay(square, d, FREEDOM, WIDE_SCALE),
            *(other.log_prob(z) + log_det for other in self.others),
        ]
        return jax.scipy.special.logsumexp(jnp.stack(parts) + self.log_shares)


@dataclass(frozen=True)
class Arrivals:
    """Independent populations of particles at the end of the way from q to p*.

    Attributes
    ----------
    z
        Particles of equal weight within their population, one population after another, shape
        (populations · each, d).
    log_z
        Each population's estimate of log Z, in nats, shape (populations,).
    steps
        How many values of β it took; `MOST_STEPS` if they did not arrive.
    """

    z: Float[np.ndarray, "n d"]
    log_z: Float[np.ndarray, " populations"]
    steps: int

    @property
    def arrived(self) -> bool:
        """Whether all particles reached β = 1 at finite points."""
        finite = np.isfinite(self.log_z).all() and np.isfinite(self.z).all()
        return bool(self.steps < MOST_STEPS and finite)

    @property
    def spread(self) -> float:
        """Standard deviation of log Z among the populations."""
        return float(np.std(self.log_z, ddof=1))

    @property
    def shares(self) -> Float[np.ndarray, " populations"]:
        """Estimates of Z, normalised to sum to one: how much each population counts."""
        shares = np.exp(self.log_z - self.log_z.max())
        return np.asarray(shares / shares.sum())

    @property
    def log_evidence(self) -> Estimate:
        """log Z by all populations, with a standard error from their spread."""
        top = self.log_z.max()
        value = float(top + np.log(np.mean(np.exp(self.log_z - top))))
        return Estimate(value, float(np.std(self.shares, ddof=1) * np.sqrt(len(self.log_z))))


def annealing(
    fit: Fit, n: int = 4096, *, populations: int = POPULATIONS, seed: Seed = 0
) -> Corrected:
    """Draw from p*, and estimate log Z, by tempered sequential Monte Carlo from q.

    Requires: a target with a gradient, and a q that is not much narrower than p*.

    Parameters
    ----------
    n
        Number of particles in all populations together.
    populations
        Number of independent populations; their spread is the standard error of everything.

    Returns
    -------
    Draws; `numbers` holds the number of temperatures as "steps", and the spread of log Z among the
    populations as "spread".

    Raises
    ------
    ValueError
        If the target has no gradient, or the fit has no target because it was loaded from disk; if
        there are fewer than 4 populations, or fewer than 16 particles in each.
    """
    _check_counts(n, populations)
    target = fit.at_hand()
    if not target.differentiable:
        raise coded_error(
            ValueError,
            "E110",
            "annealing needs a gradient, and the target has none: give it one, or use importance",
        )
    required("blackjax", "mcmc")
    begun = time.perf_counter()
    start = Start(coordinates(fit), fit.proposal.others)
    each = int(n) // int(populations)
    arrivals = _anneal(target, start, int(populations), each, seed)
    chosen = _balanced(arrivals.shares, each, generator(seed, CORRECT_STREAM, 6))
    spread, steps, arrived = arrivals.spread, arrivals.steps, arrivals.arrived
    why = f"{populations} populations agree on log Z to {spread:.2g} nats, over {steps} steps."
    return Corrected(
        fit=fit,
        method="annealing",
        z=arrivals.z[chosen],
        noise=functools.partial(_noise, chosen // each, int(populations)),
        log_evidence=arrivals.log_evidence,
        trusted=arrived and spread <= MOST_SPREAD,
        why=why if arrived else "the particles did not arrive at p*.",
        numbers={"steps": float(steps), "spread": spread},
        seconds=time.perf_counter() - begun,
    )


def _check_counts(n: int, populations: int) -> None:
    """Refuse too few populations or particles."""
    if not isinstance(populations, int | np.integer) or populations < 4:
        raise coded_error(
            ValueError, "E302", f"populations is {populations!r}, expected at least 4"
        )
    if not isinstance(n, int | np.integer) or n < 16 * populations:
        raise coded_error(
            ValueError,
            "E302",
            f"n is {n!r}, expected at least 16 particles for each population, {16 * populations}",
        )


def _noise(
    population: Int[np.ndarray, " n"], populations: int, values: Float[np.ndarray, "n k"]
) -> Float[np.ndarray, " k"]:
    """Standard errors of means over independent populations.

    Parameters
    ----------
    population
        Which population each draw is of, ascending.
    """
    sums = np.zeros((populations, values.shape[1]))
    np.add.at(sums, population, values - values.mean(axis=0))
    factor = populations / (populations - 1)
    return np.asarray(np.sqrt(factor * (sums**2).sum(axis=0)) / len(values))


def _balanced(shares: np.ndarray, each: int, rng: np.random.Generator) -> np.ndarray:
    """Indices of particles, of each population a number in proportion to its estimate of Z."""
    total = shares * each * len(shares)
    counts = np.floor(total).astype(int)
    remainder = total - counts
    more = len(shares) * each - counts.sum()
    if more:
        counts += rng.multinomial(more, remainder / remainder.sum())
    parts = [
        k * each + (np.arange(each) if count == each else rng.choice(each, size=count))
        for k, count in enumerate(counts)
    ]
    return np.concatenate(parts)


def _inside(
    target: Target, start: Start, n: int, rng: np.random.Generator
) -> tuple[np.ndarray, float]:
    """n draws ε of the start where p̂ is positive, and their share among all draws.

    Raises
    ------
    ValueError
        If p̂ is positive at almost none.
    """
    kept_draws, n_kept, n_drawn = [], 0, 0
    while n_kept < n:
        eps = start.draws(rng, n)
        inside = target.values(start.map_.points(eps)) > -np.inf
        kept_draws.append(eps[inside])
        n_kept, n_drawn = n_kept + int(inside.sum()), n_drawn + n
        if n_kept < LEAST_INSIDE * n_drawn:
            raise coded_error(
                ValueError,
                "E805",
                f"p̂ is zero or undefined at all but {n_kept} of {n_drawn} draws from q: no "
                "particles can start. Give parameters the supports that they live on, or fit a "
                "larger family",
            )
    return np.concatenate(kept_draws)[:n], n_kept / n_drawn


def _anneal(target: Target, start: Start, populations: int, each: int, seed: Seed) -> Arrivals:
    """Move populations of so many particles each from the start to p*."""
    rng = generator(seed, CORRECT_STREAM, 7)
    first = [_inside(target, start, each, rng) for _ in range(populations)]
    eps, log_z, steps = _move(target, start, np.stack([eps for eps, _ in first]), seed)
    log_z += np.log([share for _, share in first])
    return Arrivals(start.map_.points(eps.reshape(-1, eps.shape[-1])), log_z, steps)


def _move(
    target: Target, start: Start, eps: Float[np.ndarray, "p n d"], seed: Seed
) -> tuple[Float[np.ndarray, "p n d"], Float[np.ndarray, " p"], int]:
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
            # Once β is 1, one more step resamples and moves the particles at p* itself.
            state, log_weight, acceptance = _advance(
                program.structure, program.constants, start, state, jnp.asarray(sizes), keys
            )
            target.resume()
            log_z += np.asarray(log_weight)
            change = np.exp(2 * (np.nan_to_num(np.asarray(acceptance)) - ACCEPTANCE))
            sizes = np.clip(sizes * change, SHORTEST_STEP, LONGEST_STEP)
            if arrived or not np.isfinite(log_z).all():
                break
        if arrived:
            eps = _enter_necks(target, start, state, jnp.asarray(sizes), key, seed)
    return eps, log_z, step if arrived else MOST_STEPS


def _enter_necks(
    target: Target,
    start: Start,
    state: tuple[Array, Array, Array],
    sizes: Array,
    key: Array,
    seed: Seed,
) -> Float[np.ndarray, "p n d"]:
    """The particles after moves of scales with all that hangs on them, and steps at p* between."""
    program, rng = target.program, generator(seed, CORRECT_STREAM, 8)
    eps = np.asarray(state[0])
    for turn in range(TURNS if eps.shape[-1] <= LARGEST_DENSE else 0):
        z = start.map_.points(eps.reshape(-1, eps.shape[-1]))
        scales = find_scales(z)
        if not scales or not np.isfinite(z).all():
            break
        eps = start.map_.pull_back(moved_together(target, z, scales, rng)).reshape(eps.shape)
        keys = jax.random.split(jax.random.fold_in(key, MOST_STEPS + turn), len(eps))
        state = settled((jnp.asarray(eps), *state[1:]))
        state = _advance(program.structure, program.constants, start, state, sizes, keys)[0]
        target.resume()
        eps = np.asarray(state[0])
    return eps


@eqx.filter_jit
def _advance(
    structure: Structure, constants: Any, start: Start, state: Any, sizes: Array, keys: Array
) -> Any:
    """One step of every population: resample, move at β, weight for the next β."""
    import blackjax
    from blackjax.smc.adaptive_tempered import build_kernel
    from blackjax.smc.resampling import systematic
    from blackjax.smc.tempered import TemperedSMCState

    log_p = differentiable(structure, constants)

    def log_start(eps: Array) -> Array:
        z, log_det = start.map_.push(eps)
        return start.log_prob(eps, z, log_det) + jnp.where(log_p(z) > -jnp.inf, 0.0, LOG_ZERO)

    def log_ratio(eps: Array) -> Array:
        z, log_det = start.map_.push(eps)
        return jnp.maximum(log_p(z), LOG_ZERO) + log_det - start.log_prob(eps, z, log_det)

    hmc = blackjax.hmc.build_kernel()
    mass = jnp.ones(state[0].shape[-1])

    def move(key: Array, position: Any, density: Any, step_size: Array) -> Any:
        return hmc(key, position, density, step_size, mass, LEAPS)

    kernel = build_kernel(
        log_start, log_ratio, move, blackjax.hmc.init, systematic, EFFECTIVE_SHARE
    )

    def advance(key: Array, state: Any, size: Array) -> Any:
        draw_key, key = jax.random.split(key)
        log_factor = jax.random.uniform(
            draw_key, (len(state[1]),), minval=-LOG_STEP_RANGE, maxval=LOG_STEP_RANGE
        )
        sizes = {"step_size": size * jnp.exp(log_factor)}
        new_state, info = kernel(key, TemperedSMCState(*state), MOVES, sizes)
        acceptance = jnp.mean(info.update_info.acceptance_rate)
        return settled((tuple(new_state), info.log_likelihood_increment, acceptance))

    return jax.vmap(advance)(keys, state, sizes)
