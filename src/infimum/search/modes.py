"""Modes beside the best optimum: those that other starts reached, and those that scouts found."""

from __future__ import annotations

import numpy as np

from infimum import families
from infimum.base.seeds import SCOUT_STREAM, generator
from infimum.base.stopping import Stopped
from infimum.families._distribution import Distribution, Pooled
from infimum.families._family import Family, Pooling, Searched, Stacking
from infimum.families.fullrank import DenseGaussian
from infimum.gaussian.factor import factor_beside
from infimum.objective.draws import fresh_draws
from infimum.search.atlas import KnownGround, Mode, log_known_mass, moved_to
from infimum.search.loop import RIVAL_GAP, Search, remaining_optima, run_solvers
from infimum.search.plan import Plan
from infimum.search.progress import Progress, Watch
from infimum.search.scouts import explore
from infimum.search.sites import HALF_WIDTHS, RADII
from infimum.solvers._solver import Reason, State
from infimum.target.target import Target

LARGEST_SCOUTED, FEW_SCOUTS = 500, 4
"""Largest d for as many scouts as it takes to meet nothing new, and how many are sent above: at
d = 1,500 parties of 16 took half of a sparse fit's 33 s, at d = 100,000 they needed 0.37 GB."""

NOT_LOOKED = "not looked for"
"""How the sentence begins where nothing has looked for other modes."""


def gaussian_at(mode: Mode) -> Distribution:
    """The mode's local Gaussian as a full-rank q."""
    factor = factor_beside(mode.mean, mode.factor).matrix()
    return DenseGaussian.of(mode.mean, factor)


SCALE_DRAWS = 256
"""Draws from which the sds of q are taken."""

LARGEST_DIFFERENCED, MOST_VALUES = 20, 10_000
"""Largest d for which scouts climb by differences where there is no gradient, and the values that
they may take: fits of such densities take as many and more."""


RULE_OF_THREE = 3.0
"""What never happened in n trials has a probability of at most 3/n, with 95 % confidence."""


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


def scouted_modes(
    plan: Plan, family: Family, search: Search, best: State, watch: Watch
) -> list[Distribution]:
    """Modes that no start found and q does not cover, as members of the family.

    Scouts are sent out once in a climb. They need at most `LARGEST_DIFFERENCED` dimensions if there
    is no gradient, and a search that was not interrupted.
    """
    target = plan.searched
    why_not = _why_no_scouts(plan, family, best)
    if why_not:
        search.sought, search.looked = why_not, not why_not.startswith(NOT_LOOKED)
        return []
    if not target.differentiable:
        target = target.by_differences(_scale(best.q))
    states = [best, *(s for s in remaining_optima(search) if s is not best and np.isfinite(s.loss))]
    known = [(state.q, -float(state.loss)) for state in states]
    if not plan.atlas.explored:
        with plan.stop.cut_short():
            _send_scouts(plan, target, search, known, watch)
    search.sought, search.looked = _sought(plan), plan.atlas.n_scouts > 0
    return [_member(family, gaussian_at(mode)) for mode in plan.atlas.new_modes(known)]


def _why_no_scouts(plan: Plan, family: Family, best: State) -> str:
    """Why none are sent out, in words; empty if they are."""
    target, named = plan.searched, plan.scouts is not None
    if plan.scouts == 0:
        return f"{NOT_LOOKED}: scouts=0"
    if isinstance(family, Searched) and family.below is None and not named:
        return "the scales were followed to where their marginal ends; no scouts were sent"
    if not target.differentiable and target.dim > LARGEST_DIFFERENCED:
        return f"{NOT_LOOKED}: without a gradient, above {LARGEST_DIFFERENCED} dimensions"
    if plan.stop.requested or best.reason in (None, Reason.INTERRUPTED):
        return f"{NOT_LOOKED}: the fit was cut short"
    return "" if np.isfinite(best.loss) else f"{NOT_LOOKED}: the search met no finite density"


def _sought(plan: Plan) -> str:
    """How far scouts have gone, and what they met."""
    atlas = plan.atlas
    n, met = atlas.n_scouts, len(atlas.modes)
    went = f"{n} scouts, from up to {RADII[-1]:g} sds of q and {HALF_WIDTHS[-1]:g} units around 0, "
    if not n:
        return f"{NOT_LOOKED}: the fit was cut short"
    if not met:
        most = min(1.0, RULE_OF_THREE / n)
        return went + f"met none: one that {most:.0%} of such scouts would reach is excluded (95 %)"
    unseen = f"about {atlas.n_once / n:.1%}" if atlas.n_once else "few"
    return went + f"met {met}; {unseen} of such scouts would reach others"


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
    _send_scouts(plan, target, search, known, watch)
    new_modes = [(gaussian_at(mode), mode.log_mass) for mode in plan.atlas.new_modes(known)]
    if not new_modes or len(best.q.stack()) + len(new_modes) > best.q.max_components:
        return False
    new_components = family.start_from_all(*zip(*new_modes, strict=True)).stack()
    share = 1 / (1 + np.exp(known[0][1] - log_known_mass(new_modes)))
    larger_q = best.q.restacked(best.q.stack().joined(new_components, share))
    search.states = [State(q=larger_q, info=best.info)]
    run_solvers(target, search, plan.solvers_for(larger_q), plan.seed, watch, plan.stop)
    return True


def _send_scouts(
    plan: Plan, target: Target, search: Search, known: KnownGround, watch: Watch
) -> None:
    """Send scouts out from known ground, and count what they cost.

    If there are many rows, scouts climb the density of a part of them, without the corrections of
    the surrogate: these hold near q only, and would hide modes that are images of q's. The modes
    that they find are then moved to where they are on all rows.
    """
    atlas, surrogate = plan.atlas, plan.surrogate
    calls, gradients, values = atlas.n_calls, atlas.n_gradients, atlas.n_values
    rng = generator(plan.seed, SCOUT_STREAM)
    spent = search.n_gradients
    each = 1 if plan.searched.differentiable else 2 * target.dim + 1
    most = np.inf if each == 1 else MOST_VALUES / each
    loss = -known[0][1]

    def pause() -> None:
        plan.stop.check()
        if watch(Progress("scouting", 0, loss, search.n_calls, spent + atlas.n_gradients)):
            raise Stopped

    scouts = plan.scouts
    if scouts is None and target.dim > LARGEST_SCOUTED:
        scouts = FEW_SCOUTS
    try:
        if surrogate is not None:
            explore(atlas, surrogate.part, known, rng, pause, n_scouts=scouts)
            atlas.modes = moved_to(atlas.modes, surrogate.exact)
        else:
            explore(atlas, target, known, rng, pause, most, scouts)
    finally:
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
