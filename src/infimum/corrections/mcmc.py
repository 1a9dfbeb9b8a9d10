"""Short Markov chains from draws of q: NUTS in q's coordinates, or independence Metropolis.

In its own coordinates q is N(0, I). There NUTS has to adapt only its step size, and moves far in a
few steps. Independence Metropolis needs values of log p̂ only. Its proposals are the draws behind
the importance weights, and a chain moves with probability min(1, w'/w) (Tierney 1994).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from infimum.answer.proposal import joined
from infimum.answer.samplers import MOST_STARTS, inits
from infimum.base.errors import check_number, coded_error
from infimum.base.extras import required
from infimum.base.program import Structure, differentiable, double_precision, settled
from infimum.base.seeds import CORRECT_STREAM, Seed, generator
from infimum.corrections._coordinates import Coordinates, coordinates
from infimum.corrections._corrected import Corrected
from infimum.fitting.fit import Fit
from infimum.objective.draws import fresh_draws

if TYPE_CHECKING:
    from arviz_stats.base.array import BaseArray

ACCEPTANCE = 0.8
"""Mean acceptance that step sizes are adapted to (Hoffman & Gelman 2014)."""

FIRST_STEP = 0.5
"""First step size, in sds of q: for d from 10 to 100 adaptation mostly ends near it."""

BLOCK = 100
"""Steps in one call of the compiled loop; Ctrl-C takes effect between two calls."""

MOST_RHAT = 1.01
"""Largest R̂ of chains that agree (Vehtari et al. 2021)."""

LEAST_ESS = 400.0
"""Fewest effective draws with which R̂ itself can be trusted (Vehtari et al. 2021)."""

MOST_DIVERGENT = 0.01
"""Largest share of divergent steps of chains that can be believed."""


def mcmc(
    fit: Fit,
    n: int = 1000,
    *,
    chains: int = 4,
    warmup: int = 100,
    kernel: Literal["nuts", "independence"] = "nuts",
    seed: Seed = 0,
) -> Corrected:
    """Draw from p* by Markov chains that start from draws of q, reweighted if they can be.

    If other optima are known, chains start from these too; if a chain then stays at its optimum, R̂
    shows it.

    Requires: for "nuts" a target with a gradient; for "independence" a proposal that has draws
    wherever p* has mass.

    Parameters
    ----------
    n
        Draws of each chain.
    chains
        Number of chains.
    warmup
        Steps of each chain in which its step size is adapted, rounded up to hundreds; NUTS only.
    kernel
        "nuts": BlackJAX's, in q's coordinates. "independence": Metropolis with the proposal of the
        importance weights.

    Returns
    -------
    Draws; `numbers` holds R̂ and the bulk ESS of the worst quantity as "rhat" and "ess", and the
    share of "divergent" steps, or of "accepted" proposals. The chains are trusted if R̂ is at most
    1.01 and the ESS at least 400.

    Raises
    ------
    ValueError
        If the fit has no target, because it was loaded from disk; if NUTS is requested and the
        target has no gradient.
    """
    for name, value, least in (("n", n, 4), ("chains", chains, 2), ("warmup", warmup, 0)):
        check_number(name, value, least)
    if kernel not in ("nuts", "independence"):
        raise coded_error(
            ValueError, "E306", f"kernel is {kernel!r}, expected 'nuts' or 'independence'"
        )
    if kernel == "nuts":
        required("blackjax", "mcmc")
    begun = time.perf_counter()
    if kernel == "nuts":
        z, numbers = _nuts(fit, int(n), int(chains), int(warmup), seed)
    else:
        z, numbers = _independence(fit, int(n), int(chains), seed)
    from arviz_stats.base.array import BaseArray

    arrays = BaseArray()

    def noise(values: np.ndarray) -> np.ndarray:
        quantities = _by_quantity(values, chains)
        varies = np.ptp(quantities, axis=(1, 2)) > 0
        error = np.zeros(len(quantities))
        error[varies] = arrays.mcse(quantities[varies], method="mean")
        return error

    numbers |= _mixing(_by_quantity(z, chains), arrays)
    trusted = numbers["rhat"] <= MOST_RHAT and numbers["ess"] >= LEAST_ESS
    trusted &= not numbers.get("divergent", 0.0) > MOST_DIVERGENT
    return Corrected(
        fit=fit,
        method="mcmc" if kernel == "nuts" else "independence",
        z=z,
        noise=noise,
        trusted=trusted,
        why=f"R̂ is at most {numbers['rhat']:.3f}, and ESS at least {numbers['ess']:.0f}.",
        chains=chains,
        own_draws=kernel == "independence",
        numbers=numbers,
        seconds=time.perf_counter() - begun,
    )


def _by_quantity(values: Float[np.ndarray, "n k"], chains: int) -> Float[np.ndarray, "k c m"]:
    """Values ordered by quantity, chain and draw."""
    return np.ascontiguousarray(np.moveaxis(values.reshape(chains, -1, values.shape[1]), 2, 0))


def _mixing(values: Float[np.ndarray, "k c m"], arrays: BaseArray) -> dict[str, float]:
    """The worst R̂ and bulk ESS of these quantities; inf and 0 if a chain has not moved."""
    if np.any(np.ptp(values, axis=2) == 0):
        return {"rhat": float("inf"), "ess": 0.0}
    rhat, ess = arrays.rhat(values), arrays.ess(values, method="bulk")
    return {"rhat": float(np.max(rhat)), "ess": float(np.min(ess))}


def _nuts(
    fit: Fit, n: int, chains: int, warmup: int, seed: Seed
) -> tuple[Float[np.ndarray, "n d"], dict[str, float]]:
    """Draws of NUTS, chain after chain, and the share of divergent steps."""
    target = fit.at_hand()
    if not target.differentiable:
        raise coded_error(
            ValueError, "E110", 'the target has no gradient: use kernel="independence"'
        )
    map_ = coordinates(fit)
    eps = map_.pull_back(_starts(fit, chains, seed))
    program = target.program
    key = jax.random.key(int(generator(seed, CORRECT_STREAM, 3).integers(2**32)))
    paths, divergent = [], []
    with double_precision():
        carry = _first_states(program.structure, program.constants, map_, jnp.asarray(eps))
        adapting = -(-warmup // BLOCK)
        for block in range(adapting + -(-n // BLOCK)):
            keys = jax.random.split(jax.random.fold_in(key, block), chains)
            adapts = jnp.asarray(block < adapting)
            carry, (path, diverged) = _advance(
                program.structure, program.constants, map_, carry, keys, adapts
            )
            if block >= adapting:
                paths.append(np.asarray(path))
                divergent.append(float(np.mean(diverged)))
        target.resume()
    eps = np.concatenate(paths, axis=1)[:, :n].reshape(chains * n, -1)
    return map_.points(eps), {"divergent": float(np.mean(divergent))}


def _starts(fit: Fit, chains: int, seed: Seed) -> np.ndarray:
    """Where chains start: in turn at q and at each other optimum, so that R̂ shows bad mixing."""
    starts = fit.inits(chains, seed=seed).unconstrained
    for chain in range(chains):
        which = chain % (1 + fit.rivals)
        if which:
            other, stream = fit.proposal.others[which - 1], (CORRECT_STREAM, 14, chain)
            z, _ = next(fresh_draws(other, MOST_STARTS, seed, *stream))
            starts[chain] = inits(z, 1, fit.space, fit.target).unconstrained[0]
    return starts


def _density(structure: Structure, constants: Any, map_: Coordinates) -> Callable[[Array], Array]:
    """The log density of ε, as a function for JAX."""
    log_p = differentiable(structure, constants)

    def density(eps: Array) -> Array:
        z, log_det = map_.push(eps)
        return log_p(z) + log_det

    return density


@eqx.filter_jit
def _first_states(structure: Structure, constants: Any, map_: Coordinates, eps: Array) -> Any:
    """The first state of each chain, and of the adaptation of its step size."""
    import blackjax
    from blackjax.adaptation.step_size import dual_averaging_adaptation

    density = _density(structure, constants, map_)
    begin, *_ = dual_averaging_adaptation(ACCEPTANCE)
    steps = jnp.full(len(eps), FIRST_STEP)
    return settled(
        (jax.vmap(lambda x: blackjax.nuts.init(x, density))(eps), jax.vmap(begin)(steps))
    )


@eqx.filter_jit
def _advance(
    structure: Structure,
    constants: Any,
    map_: Coordinates,
    carry: Any,
    keys: Array,
    adapting: Array,
) -> Any:
    """Take a block of steps in every chain: last states, and ε after each, (chains, BLOCK, d)."""
    import blackjax
    from blackjax.adaptation.step_size import dual_averaging_adaptation

    density = _density(structure, constants, map_)
    kernel = blackjax.nuts.build_kernel()
    _, update, final = dual_averaging_adaptation(ACCEPTANCE)

    def step(carry: Any, key: Array) -> Any:
        state, adaptation = carry
        size = jnp.where(adapting, jnp.exp(adaptation.log_step_size), final(adaptation))
        mass = jnp.ones(state.position.shape[-1])
        state, info = kernel(key, state, density, size, mass)
        updated = update(adaptation, info.acceptance_rate)
        adaptation = jax.tree_util.tree_map(
            lambda new, old: jnp.where(adapting, new, old), updated, adaptation
        )
        return (state, adaptation), (state.position, info.is_divergent)

    def chain(carry: Any, key: Array) -> Any:
        return jax.lax.scan(step, carry, jax.random.split(key, BLOCK))

    carry, path = jax.vmap(chain)(carry, keys)
    return settled(carry), path


def _independence(
    fit: Fit, n: int, chains: int, seed: Seed
) -> tuple[Float[np.ndarray, "n d"], dict[str, float]]:
    """Draws of independence Metropolis, and the share of accepted proposals.

    Every proposal is used once, in one of the chains. A chain starts at its first proposal with a
    positive density.
    """
    target = fit.at_hand()
    chunks = fit.proposal.evaluated(target, chains * n, seed, CORRECT_STREAM, 0)
    z, log_p, _, log_r = joined(chunks)
    log_w = log_p - log_r
    rng = generator(seed, CORRECT_STREAM, 4)
    turn = rng.permutation(len(z))[: chains * n].reshape(chains, n)
    log_u = np.log(rng.random((chains, n)))
    positions = np.empty((chains, n), int)
    with np.errstate(invalid="ignore"):
        for chain in range(chains):
            now = turn[chain, int(np.argmax(log_w[turn[chain]] > -np.inf))]
            for i, other in enumerate(turn[chain]):
                if log_u[chain, i] < log_w[other] - log_w[now]:
                    now = other
                positions[chain, i] = now
    accepted = float(np.mean(positions[:, 1:] != positions[:, :-1]))
    return z[positions.ravel()], {"accepted": accepted}
