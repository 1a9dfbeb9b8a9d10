"""The assessment of one q: what weights, draws and unseen mass say of its distance from p*."""

from __future__ import annotations

import dataclasses
import functools
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Float

from infimum.answer.shells import find_mass_in_shells
from infimum.answer.unseen import LARGEST_DIM, UnseenMass, find_unseen_mass
from infimum.answer.weighed import WeighedDraws
from infimum.base.seeds import CHECK_STREAM, SCOUT_STREAM, generator
from infimum.base.stopping import Stop
from infimum.checks import quantities, weights
from infimum.checks.weights import Estimate
from infimum.families._distribution import Pushforward
from infimum.families._host import Conditioned
from infimum.solvers._solver import Reason
from infimum.target.space import columns
from infimum.target.target import Target

LARGEST_DIFFERENCED = 5
"""Largest d for which unseen mass is looked for by differences where there is no gradient: a local
curvature takes 4d² values, and up to 36 of them are taken in each of two to six rounds. In eight
dimensions a normal density took 20,000 values, ten times the fit's own."""

GIVEN_SCALES, GIVEN_DRAWS = 64, 8
"""Draws of θ, and of x at each, that tell how near q(x | θ) is; fewer θ where the check has few
draws."""

IMPROPER = "The posterior is improper: it has no log Z, and nothing can be drawn from it."
"""What is said of everything that is made of an improper posterior."""

MOST_ZERO = 0.01
"""Share of q's draws that may have zero density in a good fit."""


@dataclass(frozen=True, eq=False)
class Assessment:
    """How near one q is, and what its draws may be used for. Another q has another assessment.

    Attributes
    ----------
    draws
        Fresh draws of the proposal with their weights.
    reason
        Why the search for q stopped.
    unseen
        What was found of p* where weights are larger than at any draw; None if it was not looked
        for, because weights are not to be trusted anyway, or nothing is known.
    kl_conditional
        E KL[q(x | θ) ‖ p*(x | θ)], where q = q(θ) q(x | θ); else None.
    looked
        Whether anything has looked for other modes. If not, nothing is "good".
    """

    draws: WeighedDraws
    reason: Reason
    unseen: UnseenMass | None = field(default=None, repr=False)
    kl_conditional: Estimate | None = field(default=None, repr=False)
    looked: bool = True

    # ---- numbers -------------------------------------------------------------------------------

    @functools.cached_property
    def elbo(self) -> Estimate:
        """E_q[log p̂ - log q] <= log Z, from fresh draws."""
        return weights.elbo(self.draws.log_w)

    @functools.cached_property
    def log_evidence(self) -> Estimate:
        """log Z by importance sampling from the proposal.

        Its standard error includes the unseen mass. Not to be trusted if the verdict is
        "unreliable".
        """
        if self.refusal:
            return weights.UNKNOWN
        draws = self.draws
        estimate = weights.log_evidence(draws.log_weights, draws.log_q - draws.log_r)
        if not self.unseen_mass:
            return estimate
        return Estimate(estimate.value, float(np.hypot(estimate.se, self.unseen_mass)))

    @functools.cached_property
    def kl(self) -> Estimate:
        """KL[q ‖ p*] = log Z - ELBO, in nats: the gap that is left."""
        if self.refusal:
            return weights.UNKNOWN
        draws = self.draws
        return weights.kl(draws.log_w, draws.log_weights, draws.log_q - draws.log_r)

    @functools.cached_property
    def ess(self) -> float:
        """Effective number of q's n draws after reweighting."""
        return weights.ess(self.draws.log_w)

    @functools.cached_property
    def proposal_ess(self) -> float:
        """Effective number of the proposal's draws: what log Z and weighted draws rest on."""
        return weights.ess(self.draws.log_weights)

    @functools.cached_property
    def khat(self) -> float:
        """Pareto tail index of the importance weights (PSIS)."""
        return weights.khat(self.draws.log_w)

    @property
    def zero_fraction(self) -> float:
        """Share of q's draws at which p̂ = 0."""
        return float(np.mean(self.draws.log_p[: self.draws.n] == -np.inf))

    @property
    def unseen_mass(self) -> float:
        """Share of Z found where weights exceed those of all draws; 0 if it was not looked for."""
        return 0.0 if self.unseen is None else self.unseen.mass

    # ---- verdicts ------------------------------------------------------------------------------

    @functools.cached_property
    def trusted(self) -> bool:
        """Whether the weights can be believed at all."""
        if self.reason in (Reason.IMPROPER, Reason.LOST):
            return False
        if self.unseen_mass > quantities.MOST_UNSEEN:
            return False
        # Why the search has ended says nothing of the weights.
        return quantities.trusted(self.draws.log_w, self.draws.log_weights)

    @functools.cached_property
    def verdict(self) -> str:
        """What to use: "good", q as it is; "reweight", weighted draws; "unreliable", neither."""
        near = self.nearness
        return near if self.looked or near != "good" else "reweight"

    @functools.cached_property
    def nearness(self) -> str:
        """What the verdict would be if other modes were not asked about."""
        if not self.trusted:
            return "unreliable"
        if self.zero_fraction > MOST_ZERO:
            return "reweight"
        rows = self._row_nearness[self.draws.space.judged]
        if np.mean(rows == "unreliable") > quantities.MOST_UNKNOWN:
            return "unreliable"
        return "good" if np.all(rows == "good") else "reweight"

    @functools.cached_property
    def verdicts(self) -> np.ndarray:
        """The verdict of each scalar quantity, shape (k,)."""
        near = self._row_nearness
        return near if self.looked else np.where(near == "good", "reweight", near)

    @functools.cached_property
    def _row_nearness(self) -> np.ndarray:
        draws, rows = self.draws, int(self.draws.space.judged.sum())
        heavy = quantities.heavy_limit(draws.log_w, draws.log_weights, rows)
        return quantities.verdicts(self.comparison, self.trusted, heavy, self._shift)

    @property
    def affected(self) -> np.ndarray:
        """Which judged quantities the unseen mass would change, shape (k,)."""
        judged = self.draws.space.judged
        return np.asarray(judged & (np.asarray(self._shift) > quantities.MOST_NOISE))

    @property
    def _shift(self) -> Float[np.ndarray, " k"] | float:
        return 0.0 if self.unseen is None else self.unseen.shift

    # ---- what others may claim -----------------------------------------------------------------

    @property
    def refusal(self) -> str:
        """Why nothing that is made of this posterior can be believed; empty if something can.

        Every verb asks: no correction makes a posterior proper.
        """
        return IMPROPER if self.reason is Reason.IMPROPER else ""

    @property
    def doubt(self) -> str:
        """Why nothing that is made of q's own draws can be believed; empty if something can."""
        if self.refusal or self.trusted:
            return self.refusal
        return "The fit's own weights can't be believed: see its advice."

    @property
    def doubted(self) -> Bool[np.ndarray, " k"]:
        """Of which quantities draws of q and its proposal say nothing, however they are weighed."""
        return np.asarray(self.verdicts == "unreliable")

    # ---- quantities ----------------------------------------------------------------------------

    @property
    def comparison(self) -> quantities.Comparison:
        """q against the reweighted draws, quantity by quantity."""
        return self.draws.comparison

    @property
    def quantity_draws(self) -> Float[np.ndarray, "n k"]:
        """Every scalar quantity at q's draws, as one matrix."""
        return self.draws.quantity_draws


def assess(
    target: Target, draws: WeighedDraws, reason: Reason, stop: Stop | None = None
) -> tuple[Assessment, int]:
    """Assess the q of weighed draws, unseen mass included.

    Unseen mass is looked for if the weights are believed otherwise, and if that is affordable:
    around the heaviest draws, where a local curvature takes 2d gradients, or else in shells; each
    evaluation is a pass over the rows if there are many.

    Parameters
    ----------
    reason
        Why the search for q stopped.
    stop
        A stop that comes meanwhile leaves the assessment without the unseen mass.

    Returns
    -------
    The assessment, and the gradients and values that it took.
    """
    assessment = Assessment(draws, reason)
    if isinstance(draws.q, Conditioned):  # its scales were followed to their ends
        kl_conditional, spent = None, 0
        if reason is not Reason.INTERRUPTED:
            with (stop or Stop()).cut_short():
                kl_conditional, spent = _kl_conditional(target, draws.q, draws)
        return dataclasses.replace(assessment, kl_conditional=kl_conditional), spent
    if not assessment.trusted or target.large is not None:
        return assessment, 0
    unseen, spent = None, 0
    with (stop or Stop()).cut_short():
        unseen, spent = _beyond_draws(target, draws)
    if unseen is not None and len(unseen.z):
        values = columns(draws.space.draws(unseen.z))
        shift = quantities.shift(assessment.comparison, values, unseen.mass)
        if (shift[draws.space.judged] > quantities.MOST_NOISE).any():
            # What was found is the least that is there. No row passes because it is a little less.
            least = max(unseen.mass, quantities.MOST_UNSEEN)
            shift = quantities.shift(assessment.comparison, values, least)
        unseen = unseen._replace(shift=shift)
    return dataclasses.replace(assessment, unseen=unseen), spent


def _beyond_draws(target: Target, draws: WeighedDraws) -> tuple[UnseenMass | None, int]:
    """The unseen mass, None if it was not looked for; and the evaluations that it took."""
    q, known = draws.q, (draws.points(), draws.log_p, draws.log_r)
    rng = generator(draws.seed, SCOUT_STREAM, 1)
    if q.dim > (LARGEST_DIM if target.differentiable else LARGEST_DIFFERENCED):
        if isinstance(q, Pushforward):
            return find_mass_in_shells(target, q, known, rng)
        return None, 0
    each = 1
    if not target.differentiable:
        target, each = target.by_differences(known[0][: draws.n].std(axis=0)), 2 * q.dim + 1
    unseen, spent = find_unseen_mass(target, draws.proposal, draws.n, known, rng)
    return unseen, each * spent


def _kl_conditional(target: Target, q: Conditioned, draws: WeighedDraws) -> tuple[Estimate, int]:
    """E KL[q(x | θ) ‖ p*(x | θ)], and the values that it took: a quarter of the draws at most."""
    rng = generator(draws.seed, CHECK_STREAM, 1)
    n = max(2, min(GIVEN_SCALES, draws.n // (4 * GIVEN_DRAWS)))
    z = q.extended(np.repeat(q.outer.draw(rng, n), GIVEN_DRAWS, axis=0), rng)
    log_w = (target.values(z) - q.log_given(z)).reshape(n, GIVEN_DRAWS)
    return weights.kl_conditional(log_w), len(z)
