"""The verb `correct`: the cheapest correction of a fit that can be believed."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable

from infimum.base.errors import check_number, coded, plain
from infimum.base.seeds import Seed
from infimum.corrections._corrected import Corrected
from infimum.corrections.annealing import annealing
from infimum.corrections.blocks.blocks import blocks
from infimum.corrections.importance import importance
from infimum.corrections.mcmc import mcmc
from infimum.families._distribution import LARGEST_DENSE, SparseGaussian
from infimum.fitting.fit import Fit

CHAINS = 4
"""Chains of MCMC, where the number of draws is divided among them."""


def correct(fit: Fit, n: int = 4000, *, seed: Seed = 0) -> Corrected:
    """Draws of p*, by the first correction whose own checks it passes.

    Tried by cost: importance resampling, where the effective number of draws allows it; block by
    block, where q is a sparse Gaussian with groups; chains in q's coordinates; annealing from q.
    Where several optima are known annealing comes before chains, which would each stay at one.

    Parameters
    ----------
    n
        Number of draws, at least; block by block, where they are dear, 500 are made.

    Returns
    -------
    Draws with a verdict, and in `tried` what was left behind and why. If no correction can be
    believed, the last one, whose verdict is "unreliable".

    Raises
    ------
    ValueError
        If the fit has no target any more, because it was loaded from disk; if n is no number.
    """
    fit.at_hand()
    check_number("n", n, 1)
    tried: list[tuple[str, str]] = []
    found: Corrected | None = None
    for name, attempt in _ways(fit, n, seed):
        try:
            made = attempt()
        except ValueError as why:
            tried.append((name, str(why)))
            continue
        if made.verdict == "good":
            return dataclasses.replace(made, tried=tuple(tried))
        tried.append((name, made.reason))
        found = made
    if found is None:
        reasons = "; ".join(f"{name}: {plain(why)}" for name, why in tried)
        told = reasons or f"none is for d = {fit.q.dim:,} and the verdict {fit.verdict}"
        raise ValueError(coded("E801", f"no correction applies: {told}. Fit a larger family"))
    return dataclasses.replace(found, tried=tuple(tried[:-1]))


def _ways(fit: Fit, n: int, seed: Seed) -> list[tuple[str, Callable[[], Corrected]]]:
    """Corrections that may help, by cost."""
    target, each = fit.at_hand(), -(-n // CHAINS)
    anneal = functools.partial(annealing, fit, n, seed=seed)
    chains = functools.partial(mcmc, fit, each, chains=CHAINS, seed=seed)
    ways: list[tuple[str, Callable[[], Corrected]]] = []
    if fit.verdict != "unreliable":
        ways.append(("importance", lambda: importance(fit, n, seed=seed)))
    if isinstance(fit.q, SparseGaussian):
        ways.append(("blocks", lambda: blocks(fit, seed=seed)))
    if not target.differentiable:
        ways.append(("independence", lambda: chains(kernel="independence")))
    elif fit.q.dim <= LARGEST_DENSE:
        moving = [("mcmc", chains), ("annealing", anneal)]
        ways += moving[::-1] if fit.rivals else moving
    return ways
