"""TODO."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from infimum import families
from infimum.base.seeds import (
    SCOUT_STREAM,
    generator,
)
from infimum.families._dense import raw_of
from infimum.families._distribution import (
    Distribution,
    Pooled,
)
from infimum.families._family import (
    Family,
    Pooling,
    Stacking,
)
from infimum.fitting.request import Options, family_of
from infimum.search.atlas import Known, Mode, log_total, moved
from infimum.search.loop import RIVAL, Search, optima, search
from infimum.search.scouts import explore
from infimum.solvers._solver import State

REVISITS = 2
"""Times that a mixture takes in modes that scouts find beyond it."""

MOST_SCOUTED = 500
"""Largest d for scouts: at d = 1,500 they took half of a sparse fit's 33 s, at d = 100,000 they
took 0.37 GB more than the fit."""


def gaussian_at(mode: Mode) -> Distribution:
    """The Gaussian at a mode that a scout found."""
    factor = mode.factor if mode.factor.ndim == 2 else np.diag(mode.factor)
    arrays = {"mean": mode.mean, "raw": raw_of(factor)}
    return families.named("fullrank").from_arrays(arrays)


def rival_modes(found: Search, best: State) -> list[Distribution]:
    """Other optima whose mass may matter."""
    return [
        state.q
        for state in found.states
        if state is not best
        and state.reason is not None
        and state.reason.converged
        and state.loss < best.loss + RIVAL
    ]


def revisit(options: Options, family: Pooling, found: Search, watch: Callable[..., Any]) -> bool:
    """Scout from a mixture, take in what it does not cover, and refine; False if that is none."""
    atlas, best = options.atlas, min(found.states, key=lambda state: state.loss)
    settled = best.reason is not None and best.reason.converged and options.target.differentiable
    if found.interrupted or not (settled and isinstance(best.q, Pooled)):
        return False
    known = [(best.q, -float(best.loss))]
    _explored(options, found, known)
    missed = [(gaussian_at(mode), mode.log_mass) for mode in atlas.beyond(known)]
    if not missed or len(best.q.stack()) + len(missed) > best.q.most:
        return False
    news = family.start_from_all(*zip(*missed, strict=True)).stack()
    share = 1 / (1 + np.exp(known[0][1] - log_total(missed)))
    joined = best.q.restacked(best.q.stack().joined(news, share))
    found.states = [State(q=joined, info=best.info)]
    search(options.target, found, options.plan(joined), options.seed, watch)
    return True


def _explored(options: Options, found: Search, known: Known) -> None:
    """Send scouts out from known ground.

    Of many rows they see a part as it was drawn: a correction holds near q only, and would hide
    modes that are images of q's. What they find is then looked at on all rows.
    """
    atlas = options.atlas
    calls, gradients = atlas.n_calls, atlas.n_gradients
    rng = generator(options.seed, SCOUT_STREAM)
    if options.stand_ins:
        stand_in = options.stand_ins[0]
        explore(atlas, stand_in.part, known, rng)
        atlas.modes = moved(atlas.modes, stand_in.exact)
    else:
        explore(atlas, options.target, known, rng)
    found.n_calls += atlas.n_calls - calls
    found.n_scouted += atlas.n_gradients - gradients


def scouted_modes(
    options: Options, family: Family, found: Search, best: State
) -> list[Distribution]:
    """Modes that no start found and q does not cover; scouts are sent out once in a climb.

    None beyond `MOST_SCOUTED` dimensions.
    """
    target, atlas = options.target, options.atlas
    if target.dim > MOST_SCOUTED:
        return []
    settled = best.reason is not None and best.reason.converged
    if not (settled and target.differentiable and np.isfinite(best.loss)):
        return []
    states = [best, *(s for s in optima(found) if s is not best and np.isfinite(s.loss))]
    known = [(state.q, -float(state.loss)) for state in states]
    if not atlas.explored:
        _explored(options, found, known)
    return [_member(family, gaussian_at(mode)) for mode in atlas.beyond(known)]


def _member(family: Family, q: Distribution) -> Distribution:
    """The member of a family that a Gaussian is, by way of what the family stands on."""
    if isinstance(family, Stacking) and family.below is not None:
        q = family_of(family.below).start_from(q)
    return family.start_from(q)
