"""The advice of a fit: what to do next, in one or two sentences."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from infimum.answer.assessment import MOST_ZERO, Assessment
from infimum.answer.record import Work
from infimum.checks import quantities, weights
from infimum.families._family import Family
from infimum.solvers._solver import Reason

CUT_SHORT = (
    "Interrupted: this is the best q so far, and the search for it and for other modes had not "
    "ended."
)
"""What is said besides of a fit that Ctrl-C, a callback or a spent budget ended."""

NAMED = 3
"""Quantities that a sentence names; of the others it says that there are more."""


def advice(assessment: Assessment, work: Work, family: Family) -> str:
    """What to do next with a fit of this family."""
    if assessment.reason is not Reason.INTERRUPTED:
        return _next_step(assessment, work, family)
    if assessment.verdict == "unreliable":
        return f"{CUT_SHORT} Fit again, and give it more time."
    return f"{CUT_SHORT} {_next_step(assessment, work, family)}"


def _next_step(assessment: Assessment, work: Work, family: Family) -> str:
    """What to do next, whether or not the search was cut short."""
    broken = _broken(assessment, work)
    if broken:
        return broken
    if assessment.verdict == "good":
        return "Use the draws as they are."
    if assessment.zero_fraction > MOST_ZERO:
        return (
            f"{assessment.zero_fraction:.1%} of q's draws have zero density: give the parameters "
            "the supports they live on. Until then use sample(n, weighted=True), if the verdict "
            "is not unreliable."
        )
    if assessment.verdict == "reweight":
        return _reweight(assessment, work)
    return _unreliable(assessment, family)


def unseen_sentence(assessment: Assessment) -> str:
    """How much of p* the draws miss, and which quantities that would change."""
    rows = np.flatnonzero(assessment.affected)
    changed = f", and would change {quantity_names(assessment, rows)}" if len(rows) else ""
    return (
        f"At least {assessment.unseen_mass:.2g} of the posterior mass lies where neither q nor its "
        f"wider proposal puts enough draws{changed}."
    )


def quantity_names(assessment: Assessment, rows: Sequence[int] | np.ndarray) -> str:
    """The first few of these quantities."""
    return first_names([assessment.draws.space.names[row] for row in rows])


def first_names(names: Sequence[str]) -> str:
    """The first few names, and a hint if there are more."""
    return ", ".join(names[:NAMED]) + ", ..." * (len(names) > NAMED)


def _broken(assessment: Assessment, work: Work) -> str:
    """What is wrong with the density or the search; empty if nothing is."""
    if work.improper is not None:
        return (
            f"The posterior is improper: along {work.improper} (unconstrained) the density does "
            "not fall fast enough to be integrated. The data say nothing there: give these "
            "parameters proper priors."
        )
    if not np.isfinite(assessment.elbo.value):
        return (
            "The density is undefined (NaN or +inf) at draws from q. Look at "
            f"{work.first_undefined or 'the density in the tails'}."
        )
    if assessment.verdict != "unreliable":
        return ""
    log_p = assessment.draws.log_p
    undefined = np.isnan(log_p) | (log_p == np.inf)
    if undefined.any():
        first = f", as at {work.first_undefined}" if work.first_undefined else ""
        return (
            f"log p̂ is NaN or +inf at {undefined.mean():.2%} of the draws around q{first}: give "
            "parameters the supports they live on, such as positive to a scale, or have the "
            "density be zero there."
        )
    if not assessment.reason.converged:
        return (
            "The fit did not converge: q may still move. Is the posterior proper? Look for "
            "parameters that the data do not identify, and give them proper priors."
        )
    return ""


def _reweight(assessment: Assessment, work: Work) -> str:
    """Why q can't be used as it is, though its weights can."""
    others = assessment.draws.proposal.others
    if assessment.nearness == "good":
        return f"q is near wherever its draws are, but other modes were {work.sought}."
    if assessment.affected.any():
        return (
            f"{unseen_sentence(assessment)} summary() says which of the others can be used, with "
            "sample(n, weighted=True); infimum.correct(fit) may find the rest."
        )
    if others and work.n_modes > 1:
        return (
            f"The posterior has {work.n_modes} modes that were found, and q covers one of "
            "them: use sample(n, weighted=True), which draws from all of these, or fit "
            'family="mixture".'
        )
    if others:
        return (
            "The one mode that was found has mass beside q, which another Gaussian covers: use "
            "sample(n, weighted=True), which draws from both, or fit a larger family."
        )
    return (
        f"{_why_not_good(assessment)} (see summary()), but its importance weights are sound: use "
        "sample(n, weighted=True)."
    )


def _why_not_good(assessment: Assessment) -> str:
    """Whether q is off, or not known to be near enough."""
    compared, judged = assessment.comparison, assessment.draws.space.judged
    off = np.abs(compared.mean_error) > quantities.MEAN_TOLERANCE
    off |= np.abs(compared.sd_error) > quantities.SD_TOLERANCE
    if np.any(off & judged):
        return "q is off by more than 0.1 posterior sd somewhere"
    unsure = np.flatnonzero((assessment.verdicts != "good") & judged)
    return f"q is not known to be near enough in {quantity_names(assessment, unsure)}"


def _unreliable(assessment: Assessment, family: Family) -> str:
    """Why neither q nor its weights can be used, and what to try."""
    affected = assessment.trusted and assessment.affected.any()
    if assessment.unseen_mass > quantities.MOST_UNSEEN or affected:
        return f"{unseen_sentence(assessment)} Try a larger family, or infimum.correct(fit)."
    draws = assessment.draws
    if assessment.trusted:
        rows = np.flatnonzero((assessment.verdicts == "unreliable") & draws.space.judged)
        return (
            f"For {len(rows)} quantities ({quantity_names(assessment, rows)}) too few draws "
            "determine the mean or sd, because of heavy tails or non-finite values. See summary() "
            "for the others."
        )
    larger = 'family="fullrank"' if family.correlations == "none" else "a larger family"
    tail = weights.khat(draws.log_weights)
    return (
        f"q is too far for reweighting (its proposal's ESS is {assessment.proposal_ess:.0f} of "
        f"{len(draws.log_p)}, with tail index {tail:.2f}): try {larger}, another parametrisation, "
        "or infimum.correct(fit)."
    )
