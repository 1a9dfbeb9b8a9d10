"""What a fit says of itself: its advice, its lines in print, and the same for notebooks."""

from __future__ import annotations

import html
import math
import textwrap
from typing import TYPE_CHECKING

import numpy as np

from infimum.checks import quantities, weights
from infimum.search.loop import SAME_LOSS
from infimum.solvers._solver import Reason

if TYPE_CHECKING:
    from infimum.fitting.fit import Fit


WIDTH = 100
"""Columns of a printed fit."""

MOST_ZERO = 0.01
"""Share of q's draws that may have zero density in a good fit."""


def advice(fit: Fit) -> str:
    """What to do next."""
    if fit.reason is Reason.INTERRUPTED:
        return "Interrupted: this is the best q so far. Fit again to finish."
    if fit.work.improper is not None:
        return (
            f"The posterior is improper: along {fit.work.improper} (unconstrained) the "
            "density does not fall fast enough to be integrated. The data say nothing there: "
            "give these parameters proper priors."
        )
    if not np.isfinite(fit.elbo.value):
        return (
            "The density is undefined (NaN or +inf) at draws from q. Look at "
            f"{fit.work.first_undefined or 'the density in the tails'}."
        )
    unknown = np.isnan(fit.log_p) | (fit.log_p == np.inf)
    if unknown.any() and fit.verdict == "unreliable":
        first = fit.work.first_undefined
        return (
            f"log p̂ is NaN or +inf at {unknown.mean():.2%} of the draws around q"
            f"{f', as at {first}' if first else ''}: give parameters the supports they live on, "
            "such as positive to a scale, or have the density be zero there."
        )
    if not fit.reason.converged and fit.verdict == "unreliable":
        return (
            "The fit did not converge: q may still move. Is the posterior proper? Look for "
            "parameters that the data do not identify, and give them proper priors."
        )
    if fit.verdict == "good":
        return "Use the draws as they are."
    if fit.zero_fraction > MOST_ZERO:
        return (
            f"{fit.zero_fraction:.1%} of q's draws have zero density: give the parameters the "
            "supports they live on. Until then use sample(n, weighted=True), if the verdict "
            "is not unreliable."
        )
    if fit.verdict == "reweight" and fit.lacking.any():
        return (
            f"{lacking(fit)} Of the others summary() tells which can be used, with "
            "sample(n, weighted=True); infimum.correct(fit) may find the rest."
        )
    if fit.verdict == "reweight" and fit.rivals:
        return (
            f"The posterior has {1 + fit.rivals} modes that were found, and q covers one of "
            "them: use sample(n, weighted=True), which draws from all of these, or fit "
            'family="mixture".'
        )
    if fit.verdict == "reweight":
        return (
            f"{_why_not_good(fit)} (see summary()), but its importance weights are sound: use "
            "sample(n, weighted=True)."
        )
    if fit.missed > quantities.UNSEEN or (fit.trusted and fit.lacking.any()):
        return f"{lacking(fit)} Try a larger family, or infimum.correct(fit)."
    if fit.trusted:
        worst = np.flatnonzero((fit.verdicts == "unreliable") & fit.space.judged)
        return (
            f"Of {len(worst)} quantities ({named(fit, worst)}) mean or sd rest "
            "on too few draws: their tails are too heavy, or they are not finite "
            "everywhere. Of the others summary() tells which can be used."
        )
    larger = "a larger family" if fit.family.name != "meanfield" else 'family="fullrank"'
    tail = weights.khat(fit.log_weights)
    return (
        f"q is too far for reweighting (its proposal's ESS is {fit.proposal_ess:.0f} of "
        f"{len(fit.log_p)}, with tail index {tail:.2f}): try {larger}, another "
        "parametrisation, or infimum.correct(fit)."
    )


def _why_not_good(fit: Fit) -> str:
    """Whether q is off, or not known to be near enough."""
    compared, judged = fit.comparison, fit.space.judged
    off = np.abs(compared.mean_error) > quantities.MEAN_ERROR
    off |= np.abs(compared.sd_error) > quantities.SD_ERROR
    if np.any(off & judged):
        return "q is off by more than 0.1 posterior sd somewhere"
    unsure = np.flatnonzero((fit.verdicts != "good") & judged)
    return f"q is not known to be near enough in {named(fit, unsure)}"


def lacking(fit: Fit) -> str:
    """What was found where q and its proposal are thin, and which quantities it would change."""
    places = np.flatnonzero(fit.lacking)
    changed = f", and would change {named(fit, places)}" if len(places) else ""
    return f"At least {fit.missed:.2g} of Z lies where q and its proposal are too thin{changed}."


def named(fit: Fit, places: np.ndarray) -> str:
    """Some quantities: the first three of them."""
    return ", ".join(fit.space.names[i] for i in places[:3]) + ", ..." * (len(places) > 3)


def rows(fit: Fit) -> list[tuple[str, str]]:
    """What `print` shows, as (label, text)."""
    n = fit.n_draws
    rows = [
        ("ELBO", str(fit.elbo)),
        ("log Z", str(fit.log_evidence)),
        ("KL[q ‖ p*]", f"{fit.kl} nats"),
        ("k̂", f"{fit.khat:.2f}"),
        (
            "importance ESS",
            f"{fit.ess:.0f} of {n} draws of q, {fit.proposal_ess:.0f} of "
            f"{len(fit.log_p)} of its wider proposal",
        ),
        ("verdict", f"{fit.verdict}. {fit.advice}"),
        ("stopped", fit.reason.value),
        ("starts", _starts(fit)),
        ("work", _work(fit)),
        (
            "seconds",
            f"{fit.work.compile_seconds:.2f} compiling + {fit.work.run_seconds:.2f} running",
        ),
    ]
    if fit.route is not None:
        rows.append(("climb", str(fit.route)))
    if fit.zero_fraction:
        told = f"{fit.zero_fraction:.2%} of draws have zero density; the ELBO is that of the "
        rows.append(("zero density", told + "others"))
    if fit.work.rows:
        rows.append(("rows", fit.work.rows))
    if fit.work.n_undefined:
        told = f"{fit.work.n_undefined} steps rejected for NaN or +inf, first at "
        rows.append(("undefined", told + (fit.work.first_undefined or "unknown")))
    if fit.work.first_failure:
        told = f"{fit.work.n_failed} points raised an error and count as "
        rows.append(("errors", told + fit.work.first_failure))
    if not fit.constrains:
        told = f"from a file with {fit.n_draws} stored draws: it samples only those"
        rows.append(("loaded", told))
    return rows


def text(fit: Fit, width: int) -> str:
    """What `print` shows, in so many columns."""
    d = fit.q.dim
    head = (
        f"infimum fit of {fit.name!r}: {fit.family.name}, d = {d}, "
        f"{fit.family.n_parameters(d):,} parameters"
    )
    lines = [f"  {label:<15} {told}" for label, told in rows(fit)]
    broken = [
        textwrap.fill(line, width, subsequent_indent=18 * " ", break_on_hyphens=False)
        for line in lines
    ]
    return "\n".join([head, *broken])


def table(fit: Fit) -> str:
    """The same as HTML, for notebooks."""
    cells = "".join(
        f"<tr><th style='text-align:left'>{html.escape(label)}</th>"
        f"<td style='text-align:left'>{html.escape(told)}</td></tr>"
        for label, told in rows(fit)
    )
    title = html.escape(f"infimum fit of {fit.name}: {fit.family.name}, d = {fit.q.dim}")
    return f"<table><caption>{title}</caption>{cells}</table>"


def _work(fit: Fit) -> str:
    what = "gradients" if fit.work.differentiated else "values, for want of a gradient,"
    return f"{fit.work.n_gradients:,} {what} in {fit.work.n_calls} batched calls"


def _starts(fit: Fit) -> str:
    best = max((s.elbo for s in fit.starts if np.isfinite(s.elbo)), default=math.nan)
    others = [
        f"{s.kind} {s.elbo:.2f}"
        for s in fit.starts
        if s.reason is not Reason.MERGED and not abs(s.elbo - best) <= SAME_LOSS
    ]
    told = f"{len(fit.starts) - len(others)} of {len(fit.starts)} agree"
    return told + (f"; others ended at ELBO: {', '.join(others)}" if others else "")
