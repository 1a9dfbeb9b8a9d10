"""Modes beside the best optimum: those of other starts, and those that scouts find."""

from __future__ import annotations

import numpy as np

from infimum import families
from infimum.base.seeds import SCOUT_STREAM, generator
from infimum.families._dense import raw_of
from infimum.families._distribution import Distribution, Pooled
from infimum.families._family import Family, Pooling, Stacking
from infimum.search.atlas import Known, Mode, log_total, moved
from infimum.search.loop import RIVAL, Search, optima, run_solvers
from infimum.search.plan import Plan
from infimum.search.progress import Watch
from infimum.search.scouts import explore
from infimum.solvers._solver import State
from infimum.target.target import Target

MOST_SCOUTED = 500
"""Largest d for scouts: at d = 1,500 they took half of a sparse fit's 33 s, at d = 100,000 they
took 0.37 GB more than the fit."""


def gaussian_at(mode: Mode) -> Distribution:
    """The Gaussian at a mode that a scout found."""
    factor = mode.factor if mode.factor.ndim == 2 else np.diag(mode.factor)
    arrays = {"mean": mode.mean, "raw": raw_of(factor)}
    return families.named("fullrank").from_arrays(arrays)


def rival_optima(search: Search, best: State) -> list[Distribution]:
    """Other optima whose mass may matter."""
    return [
        state.q
        for state in search.states
        if state is not best
        and state.reason is not None
        and state.reason.converged
        and state.loss < best.loss + RIVAL
    ]


def scouted_modes(plan: Plan, family: Family, search: Search, best: State) -> list[Distribution]:
    """Modes that no start found and q does not cover, as members of the family.

    Scouts are sent out once in a climb; never beyond `MOST_SCOUTED` dimensions, without gradients,
    or around a q that has not converged.
    """
    target = plan.searched
    if target.dim > MOST_SCOUTED:
        return []
    settled = best.reason is not None and best.reason.converged
    if not (settled and target.differentiable and np.isfinite(best.loss)):
        return []
    states = [best, *(s for s in optima(search) if s is not best and np.isfinite(s.loss))]
    known = [(state.q, -float(state.loss)) for state in states]
    if not plan.atlas.explored:
        _send_scouts(plan, target, search, known)
    return [_member(family, gaussian_at(mode)) for mode in plan.atlas.beyond(known)]


def take_in_modes(
    plan: Plan, target: Target, family: Pooling, search: Search, watch: Watch
) -> bool:
    """Scout from a mixture, take in what it does not cover, and refine.

    Returns
    -------
    Whether there was anything to take in.
    """
    best = min(search.states, key=lambda state: state.loss)
    settled = best.reason is not None and best.reason.converged and target.differentiable
    if plan.stop.requested or not (settled and isinstance(best.q, Pooled)):
        return False
    known = [(best.q, -float(best.loss))]
    _send_scouts(plan, target, search, known)
    missed = [(gaussian_at(mode), mode.log_mass) for mode in plan.atlas.beyond(known)]
    if not missed or len(best.q.stack()) + len(missed) > best.q.most:
        return False
    new_components = family.start_from_all(*zip(*missed, strict=True)).stack()
    share = 1 / (1 + np.exp(known[0][1] - log_total(missed)))
    joined = best.q.restacked(best.q.stack().joined(new_components, share))
    search.states = [State(q=joined, info=best.info)]
    run_solvers(target, search, plan.solvers_for(joined), plan.seed, watch, plan.stop)
    return True


def _send_scouts(plan: Plan, target: Target, search: Search, known: Known) -> None:
    """Send scouts out from known ground.

    Of many rows they see a part as it was drawn: a correction holds near q only, and would hide
    modes that are images of q's. What they find is then looked at on all rows.
    """
    atlas, surrogate = plan.atlas, plan.surrogate
    calls, gradients = atlas.n_calls, atlas.n_gradients
    rng = generator(plan.seed, SCOUT_STREAM)
    if surrogate is not None:
        explore(atlas, surrogate.part, known, rng)
        atlas.modes = moved(atlas.modes, surrogate.exact)
    else:
        explore(atlas, target, known, rng)
    search.n_calls += atlas.n_calls - calls
    search.n_scouted += atlas.n_gradients - gradients


def _member(family: Family, q: Distribution) -> Distribution:
    """The member of a family that a Gaussian is, by way of what the family stands on."""
    if isinstance(family, Stacking) and family.below is not None:
        q = families.family_of(family.below).start_from(q)
    return family.start_from(q)
