"""Short chains from q's draws: NUTS in q's coordinates, or Metropolis with q as the proposal.

In q's coordinates a good q is N(0, I), so that NUTS needs no warm-up but for its step size, and
moves far in a few steps. Independence Metropolis needs values of log p̂ only: its proposals are the
draws that importance weights are made of, and a chain moves with probability min(1, w'/w)
(Tierney 1994).
"""

from __future__ import annotations

import time
from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from infimum.answer.initial import MOST_STARTS, inits
from infimum.answer.proposal import joined
from infimum.base.errors import check_number, coded
from infimum.base.extras import required
from infimum.base.program import Structure, differentiable, double_precision, settled
from infimum.base.seeds import CORRECT_STREAM, Seed, generator
from infimum.corrections._coordinates import Coordinates, coordinates
from infimum.corrections._corrected import Corrected
from infimum.fitting.fit import Fit
from infimum.objective.draws import fresh_draws

ACCEPTANCE = 0.8
"""Mean acceptance that step sizes are adapted to, as every NUTS has it (Hoffman & Gelman 2014)."""

FIRST_STEP = 0.5
"""Step size to begin with, in sds of q: where adaptation mostly ends, for d of 10 to 100."""

BLOCK = 100
"""Steps in one call of the compiled loop: between two of them Ctrl-C is heard."""

MIXED = 1.01
"""R̂ up to which chains agree (Vehtari et al. 2021)."""

ENOUGH = 400.0
"""Effective draws without which R̂ itself is not to be trusted (Vehtari et al. 2021)."""

DIVERGED = 0.01
"""Share of divergent steps above which chains are not to be believed."""


def mcmc(
    fit: Fit,
    n: int = 1000,
    *,
    chains: int = 4,
    warmup: int = 100,
    kernel: Literal["nuts", "independence"] = "nuts",
    seed: Seed = 0,
) -> Corrected:
    """Draws of Markov chains that start from q, or from its reweighted draws where these are sound.

    Where other optima are known chains start from these too: if they stay there R̂ says so.

    Parameters
    ----------
    n
        Draws of each chain.
    chains
        Number of chains.
    warmup
        Steps of each chain in which its step size is adapted, rounded up to hundreds; NUTS only.
    kernel
        "nuts", by BlackJAX, in q's coordinates; "independence", Metropolis with the proposal of the
        importance weights.

    Returns
    -------
    `told` has R̂ and the bulk ESS of the worst quantity, and the share of divergent steps or of
    accepted proposals. Trusted where R̂ is at most 1.01 and the ESS at least 400.

    Raises
    ------
    ValueError
        If the fit has no target any more, or NUTS is asked for where the target has no gradient.
    """
    for name, value, least in (("n", n, 4), ("chains", chains, 2), ("warmup", warmup, 0)):
        check_number(name, value, least)
    if kernel not in ("nuts", "independence"):
        raise ValueError(coded("E306", f"kernel is {kernel!r}, expected 'nuts' or 'independence'"))
    if kernel == "nuts":
        required("blackjax", "mcmc")
    begun = time.perf_counter()
    if kernel == "nuts":
        z, told = _nuts(fit, int(n), int(chains), int(warmup), seed)
    else:
        z, told = _independence(fit, int(n), int(chains), seed)
    from arviz_stats.base.array import BaseArray

    arrays = BaseArray()

    def noise(values: np.ndarray) -> np.ndarray:
        each = _by_quantity(values, chains)
        moving = np.ptp(each, axis=(1, 2)) > 0
        found = np.zeros(len(each))
        found[moving] = arrays.mcse(each[moving], method="mean")
        return found

    told |= _mixing(_by_quantity(z, chains), arrays)
    fine = told["rhat"] <= MIXED and told["ess"] >= ENOUGH
    fine &= not told.get("divergent", 0.0) > DIVERGED
    return Corrected(
        fit=fit,
        method="mcmc" if kernel == "nuts" else "independence",
        z=z,
        noise=noise,
        trusted=fine,
        why=f"R̂ is at most {told['rhat']:.3f}, and ESS at least {told['ess']:.0f}.",
        chains=chains,
        told=told,
        seconds=time.perf_counter() - begun,
    )


def _by_quantity(values: Float[np.ndarray, "n k"], chains: int) -> Float[np.ndarray, "k c m"]:
    """Apart by quantity and chain."""
    return np.ascontiguousarray(np.moveaxis(values.reshape(chains, -1, values.shape[1]), 2, 0))


def _mixing(each: Float[np.ndarray, "k c m"], arrays: Any) -> dict[str, float]:
    """The worst R̂ and bulk ESS of these quantities; inf and 0 where a chain has not moved."""
    if np.any(np.ptp(each, axis=2) == 0):
        return {"rhat": float("inf"), "ess": 0.0}
    rhat, ess = arrays.rhat(each), arrays.ess(each, method="bulk")
    return {"rhat": float(np.max(rhat)), "ess": float(np.min(ess))}


def _nuts(
    fit: Fit, n: int, chains: int, warmup: int, seed: Seed
) -> tuple[np.ndarray, dict[str, float]]:
    target = fit.at_hand()
    if not target.differentiable:
        raise ValueError(coded("E110", 'the target has no gradient: use kernel="independence"'))
    map_ = coordinates(fit)
    eps = map_.pull_back(_starts(fit, chains, seed))
    program = target.program
    key = jax.random.key(int(generator(seed, CORRECT_STREAM, 3).integers(2**32)))
    drawn, divergent = [], []
    with double_precision():
        carry = _begun(program.structure, program.constants, map_, jnp.asarray(eps))
        adapting = -(-warmup // BLOCK)
        for block in range(adapting + -(-n // BLOCK)):
            keys = jax.random.split(jax.random.fold_in(key, block), chains)
            adapts = jnp.asarray(block < adapting)
            carry, (path, apart) = _advanced(
                program.structure, program.constants, map_, carry, keys, adapts
            )
            if block >= adapting:
                drawn.append(np.asarray(path))
                divergent.append(float(np.mean(apart)))
        target.resume()
    eps = np.concatenate(drawn, axis=1)[:, :n].reshape(chains * n, -1)
    return map_.points(eps), {"divergent": float(np.mean(divergent))}


def _starts(fit: Fit, chains: int, seed: Seed) -> np.ndarray:
    """From q; where other optima are known in turn from each, so that R̂ sees what does not mix."""
    near = fit.inits(chains, seed=seed).unconstrained
    for chain in range(chains):
        which = chain % (1 + fit.rivals)
        if which:
            other, stream = fit.proposal.others[which - 1], (CORRECT_STREAM, 14, chain)
            z, _ = next(fresh_draws(other, MOST_STARTS, seed, *stream))
            near[chain] = inits(z, 1, fit.space, fit.target).unconstrained[0]
    return near


def _density(structure: Structure, constants: Any, map_: Coordinates) -> Any:
    log_p = differentiable(structure, constants)

    def density(eps: Any) -> Any:
        z, log_det = map_.push(eps)
        return log_p(z) + log_det

    return density


@eqx.filter_jit
def _begun(structure: Structure, constants: Any, map_: Coordinates, eps: Any) -> Any:
    """States of all chains, and of the adaptation of their step sizes."""
    import blackjax
    from blackjax.adaptation.step_size import dual_averaging_adaptation

    density = _density(structure, constants, map_)
    first, *_ = dual_averaging_adaptation(ACCEPTANCE)
    steps = jnp.full(len(eps), FIRST_STEP)
    return settled(
        (jax.vmap(lambda x: blackjax.nuts.init(x, density))(eps), jax.vmap(first)(steps))
    )


@eqx.filter_jit
def _advanced(
    structure: Structure, constants: Any, map_: Coordinates, carry: Any, keys: Any, adapting: Any
) -> Any:
    """A block of steps of every chain: their states, and where they were, (chains, BLOCK, d)."""
    import blackjax
    from blackjax.adaptation.step_size import dual_averaging_adaptation

    density = _density(structure, constants, map_)
    kernel = blackjax.nuts.build_kernel()
    _, update, final = dual_averaging_adaptation(ACCEPTANCE)

    def step(carry: Any, key: Any) -> Any:
        state, adaptation = carry
        size = jnp.where(adapting, jnp.exp(adaptation.log_step_size), final(adaptation))
        mass = jnp.ones(state.position.shape[-1])
        state, info = kernel(key, state, density, size, mass)
        moved = update(adaptation, info.acceptance_rate)
        adaptation = jax.tree_util.tree_map(
            lambda new, old: jnp.where(adapting, new, old), moved, adaptation
        )
        return (state, adaptation), (state.position, info.is_divergent)

    def chain(carry: Any, key: Any) -> Any:
        return jax.lax.scan(step, carry, jax.random.split(key, BLOCK))

    carry, path = jax.vmap(chain)(carry, keys)
    return settled(carry), path


def _independence(fit: Fit, n: int, chains: int, seed: Seed) -> tuple[np.ndarray, dict[str, float]]:
    """Every proposal stands once in one chain; the first of each chain is taken as it is."""
    target = fit.at_hand()
    chunks = fit.proposal.evaluated(target, chains * n, seed, CORRECT_STREAM, 0)
    z, log_p, _, log_r = joined(chunks)
    log_w = log_p - log_r
    rng = generator(seed, CORRECT_STREAM, 4)
    turn = rng.permutation(len(z))[: chains * n].reshape(chains, n)
    log_u = np.log(rng.random((chains, n)))
    kept = np.empty((chains, n), int)
    with np.errstate(invalid="ignore"):
        for chain in range(chains):
            now = turn[chain, int(np.argmax(log_w[turn[chain]] > -np.inf))]
            for i, other in enumerate(turn[chain]):
                if log_u[chain, i] < log_w[other] - log_w[now]:
                    now = other
                kept[chain, i] = now
    accepted = float(np.mean(kept[:, 1:] != kept[:, :-1]))
    return z[kept.ravel()], {"accepted": accepted}
