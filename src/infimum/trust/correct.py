"""The verb `correct`: draws of p* by the cheapest correction that can be believed."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable

from infimum.base.errors import check_number, coded_error, plain
from infimum.base.seeds import Seed
from infimum.corrections._corrected import Corrected
from infimum.corrections.annealing import annealing
from infimum.corrections.blocks.blocks import blocks
from infimum.corrections.importance import importance
from infimum.corrections.mcmc import mcmc
from infimum.families._distribution import LARGEST_DENSE, SparseGaussian
from infimum.families._host import Conditioned
from infimum.fitting.fit import Fit

CHAINS = 4
"""Chains of MCMC, among which the draws are divided."""


def correct(fit: Fit, n: int = 4000, *, seed: Seed = 0) -> Corrected:
    """Draw from p* by the first correction that passes its own checks.

    The corrections are tried in the order of their cost: importance resampling, if the fit's
    weights can be believed; block by block, if q has a pattern; chains in q's coordinates;
    annealing from q. If several optima are known, annealing comes before chains, because each chain
    would stay at one optimum.

    Parameters
    ----------
    n
        Number of draws, at least. Block by block makes 500, because they are expensive there.

    Returns
    -------
    Draws with a verdict. `attempts` lists the corrections that were tried before, and why they were
    not used. If no correction can be believed, the result is the last one, with the verdict
    "unreliable".

    Raises
    ------
    ValueError
        If the fit has no target, because it was loaded from disk; if n is not a positive integer;
        or if no correction applies.
    """
    fit.at_hand()
    check_number("n", n, 1)
    attempts: list[tuple[str, str]] = []
    last: Corrected | None = None
    for name, attempt in _candidates(fit, n, seed):
        try:
            corrected = attempt()
        except ValueError as error:
            attempts.append((name, str(error)))
            continue
        if corrected.verdict == "good":
            return dataclasses.replace(corrected, attempts=tuple(attempts))
        attempts.append((name, corrected.reason))
        last = corrected
    if last is None:
        reasons = "; ".join(f"{name}: {plain(why)}" for name, why in attempts)
        reasons = reasons or f"none is for d = {fit.q.dim:,} and the verdict {fit.verdict}"
        raise coded_error(
            ValueError, "E801", f"no correction applies: {reasons}. Fit a larger family"
        )
    return dataclasses.replace(last, attempts=tuple(attempts[:-1]))


def _candidates(fit: Fit, n: int, seed: Seed) -> list[tuple[str, Callable[[], Corrected]]]:
    """Corrections that may help, the cheapest first."""
    target, each = fit.at_hand(), -(-n // CHAINS)
    anneal = functools.partial(annealing, fit, n, seed=seed)
    chains = functools.partial(mcmc, fit, each, chains=CHAINS, seed=seed)
    candidates: list[tuple[str, Callable[[], Corrected]]] = []
    if fit.assessment.refusal:  # draws that say so cost least
        return [("importance", lambda: importance(fit, n, seed=seed))]
    if fit.verdict != "unreliable":
        candidates.append(("importance", lambda: importance(fit, n, seed=seed)))
    if isinstance(fit.q, SparseGaussian | Conditioned):
        candidates.append(("blocks", lambda: blocks(fit, seed=seed)))
    if not target.differentiable:
        candidates.append(("independence", lambda: chains(kernel="independence")))
    elif fit.q.dim <= LARGEST_DENSE:
        samplers = [("mcmc", chains), ("annealing", anneal)]
        candidates += samplers[::-1] if fit.rivals else samplers
    return candidates
