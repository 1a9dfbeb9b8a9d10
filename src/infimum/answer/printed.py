"""What a fit prints: its lines on a terminal, and its table in a notebook."""

from __future__ import annotations

import html
import math
import textwrap

import numpy as np

from infimum.answer.answer import Answer
from infimum.search.loop import SAME_LOSS
from infimum.solvers._solver import Reason

WIDTH = 80
"""Columns of a printed fit."""


def rows(fit: Answer) -> list[tuple[str, str]]:
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


def text(fit: Answer, width: int) -> str:
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


def table(fit: Answer) -> str:
    """The same as HTML, for notebooks."""
    cells = "".join(
        f"<tr><th style='text-align:left'>{html.escape(label)}</th>"
        f"<td style='text-align:left'>{html.escape(told)}</td></tr>"
        for label, told in rows(fit)
    )
    title = html.escape(f"infimum fit of {fit.name}: {fit.family.name}, d = {fit.q.dim}")
    return f"<table><caption>{title}</caption>{cells}</table>"


def _work(fit: Answer) -> str:
    what = "gradients" if fit.work.differentiated else "values, for want of a gradient,"
    return f"{fit.work.n_gradients:,} {what} in {fit.work.n_calls} batched calls"


def _starts(fit: Answer) -> str:
    best = max((s.elbo for s in fit.starts if np.isfinite(s.elbo)), default=math.nan)
    others = [
        f"{s.kind} {s.elbo:.2f}"
        for s in fit.starts
        if s.reason is not Reason.MERGED and not abs(s.elbo - best) <= SAME_LOSS
    ]
    told = f"{len(fit.starts) - len(others)} of {len(fit.starts)} agree"
    return told + (f"; others ended at ELBO: {', '.join(others)}" if others else "")
