"""Modes beside the best optimum: those that other starts reached, and those that scouts found."""

from __future__ import annotations

import numpy as np

from infimum import families
from infimum.base.seeds import SCOUT_STREAM, generator
from infimum.families._distribution import Distribution, Pooled
from infimum.families._family import Family, Pooling, Searched, Stacking
from infimum.families.fullrank import DenseGaussian
from infimum.gaussian.factor import factor_beside
from infimum.objective.draws import fresh_draws
from infimum.search.atlas import KnownGround, Mode, log_known_mass, moved_to
from infimum.search.loop import RIVAL_GAP, Search, remaining_optima, run_solvers
from infimum.search.plan import Plan
from infimum.search.progress import Watch
from infimum.search.scouts import HALF_WIDTHS, RADII, explore
from infimum.solvers._solver import State
from infimum.target.target import Target

LARGEST_SCOUTED = 500
"""Largest d for scouts: at d = 1,500 they took half of a sparse fit's 33 s, at d = 100,000 they
needed 0.37 GB more than the fit."""


def gaussian_at(mode: Mode) -> Distribution:
    """The mode's local Gaussian as a full-rank q."""
    factor = factor_beside(mode.mean, mode.factor).matrix()
    return DenseGaussian.of(mode.mean, factor)


SCALE_DRAWS = 256
"""Draws from which the sds of q are taken."""

LARGEST_DIFFERENCED, MOST_VALUES = 20, 10_000
"""Largest d for which scouts climb by differences where there is no gradient, and the values that
they may take: fits of such densities take as many and more."""


def rival_optima(search: Search, best: State) -> list[Distribution]:
    """The q of other converged starts whose mass may matter."""
    return [
        state.q
        for state in search.states
        if state is not best
        and state.reason is not None
        and state.reason.converged
        and state.loss < best.loss + RIVAL_GAP
    ]


def scouted_modes(plan: Plan, family: Family, search: Search, best: State) -> list[Distribution]:
    """Modes that no start found and q does not cover, as members of the family.

    Scouts are sent out once in a climb. They need at most `LARGEST_SCOUTED` dimensions, or
    `LARGEST_DIFFERENCED` if there is no gradient, and a q that has converged.
    """
    target = plan.searched
    why_not = _why_no_scouts(plan, family, best)
    if why_not:
        search.sought = why_not
        return []
    if not target.differentiable:
        target = target.by_differences(_scale(best.q))
    states = [best, *(s for s in remaining_optima(search) if s is not best and np.isfinite(s.loss))]
    known = [(state.q, -float(state.loss)) for state in states]
    if not plan.atlas.explored:
        _send_scouts(plan, target, search, known)
    search.sought = _sought(plan)
    return [_member(family, gaussian_at(mode)) for mode in plan.atlas.new_modes(known)]


def _why_no_scouts(plan: Plan, family: Family, best: State) -> str:
    """Why none are sent out, in words; empty if they are."""
    target, named = plan.searched, plan.scouts is not None
    if plan.scouts == 0:
        return "not looked for: scouts=0"
    if isinstance(family, Searched) and family.below is None and not named:
        return "the scales were followed to where their marginal ends; no scouts were sent"
    if not target.differentiable and target.dim > LARGEST_DIFFERENCED:
        return f"not looked for: without a gradient, above {LARGEST_DIFFERENCED} dimensions"
    if target.dim > LARGEST_SCOUTED and not named:
        return f"not looked for above {LARGEST_SCOUTED} dimensions, unless scouts is given"
    settled = best.reason is not None and best.reason.converged
    return "" if settled and np.isfinite(best.loss) else "not looked for: the search did not settle"


def _sought(plan: Plan) -> str:
    """How far scouts have gone, and what they met."""
    met = len(plan.atlas.modes)
    what = "met none" if not met else f"met {met}"
    return (
        f"{plan.atlas.n_scouts} scouts, from up to {RADII[-1]:g} sds of q and "
        f"{HALF_WIDTHS[-1]:g} units around 0, {what}"
    )


def take_in_modes(
    plan: Plan, target: Target, family: Pooling, search: Search, watch: Watch
) -> bool:
    """Send scouts out from a mixture, add the modes that it does not cover, and minimise again.

    Returns
    -------
    Whether there was a mode to add.
    """
    best = min(search.states, key=lambda state: state.loss)
    settled = best.reason is not None and best.reason.converged and target.differentiable
    if plan.stop.requested or not (settled and isinstance(best.q, Pooled)) or plan.scouts == 0:
        return False
    known = [(best.q, -float(best.loss))]
    _send_scouts(plan, target, search, known)
    new_modes = [(gaussian_at(mode), mode.log_mass) for mode in plan.atlas.new_modes(known)]
    if not new_modes or len(best.q.stack()) + len(new_modes) > best.q.max_components:
        return False
    new_components = family.start_from_all(*zip(*new_modes, strict=True)).stack()
    share = 1 / (1 + np.exp(known[0][1] - log_known_mass(new_modes)))
    larger_q = best.q.restacked(best.q.stack().joined(new_components, share))
    search.states = [State(q=larger_q, info=best.info)]
    run_solvers(target, search, plan.solvers_for(larger_q), plan.seed, watch, plan.stop)
    return True


def _send_scouts(plan: Plan, target: Target, search: Search, known: KnownGround) -> None:
    """Send scouts out from known ground, and count what they cost.

    If there are many rows, scouts climb the density of a part of them, without the corrections of
    the surrogate: these hold near q only, and would hide modes that are images of q's. The modes
    that they find are then moved to where they are on all rows.
    """
    atlas, surrogate = plan.atlas, plan.surrogate
    calls, gradients, values = atlas.n_calls, atlas.n_gradients, atlas.n_values
    rng = generator(plan.seed, SCOUT_STREAM)
    each = 1 if plan.searched.differentiable else 2 * target.dim + 1
    most = np.inf if each == 1 else MOST_VALUES / each
    if surrogate is not None:
        explore(atlas, surrogate.part, known, rng, n_scouts=plan.scouts)
        atlas.modes = moved_to(atlas.modes, surrogate.exact)
    else:
        explore(atlas, target, known, rng, most, plan.scouts)
    search.n_calls += atlas.n_calls - calls
    search.n_scouted += each * (atlas.n_gradients - gradients) + atlas.n_values - values


def _member(family: Family, q: Distribution) -> Distribution:
    """The member of a family nearest to a Gaussian, by way of the family below if there is one.

    It is the Gaussian itself if no member can be placed.
    """
    if isinstance(family, Searched):
        return q
    if isinstance(family, Stacking) and family.below is not None:
        q = families.family_of(family.below).start_from(q)
    return family.start_from(q)


def _scale(q: Distribution) -> np.ndarray:
    """The sds of q."""
    z, _ = next(fresh_draws(q, SCALE_DRAWS, 0, SCOUT_STREAM, 3))
    return np.asarray(z.std(axis=0))
