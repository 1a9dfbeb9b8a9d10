"""What a fit prints: its lines on a terminal, and its table in a notebook."""

from __future__ import annotations

import html
import math
import textwrap
import unicodedata

import numpy as np

from infimum.answer.answer import Answer
from infimum.checks import weights
from infimum.search.loop import SAME_LOSS
from infimum.solvers._solver import Reason

WIDTH = 80
"""Columns of a printed fit: what terminals, notebooks and columns of documentation hold."""

LABEL = 16
"""Columns of a line's label."""


def rows(fit: Answer) -> list[tuple[str, str]]:
    """What `print` shows, as (label, text)."""
    seconds = f"{fit.work.compile_seconds:.2f} compiling + {fit.work.run_seconds:.2f} running"
    rows = [
        ("ELBO", str(fit.elbo)),
        ("log Z", _log_evidence(fit)),
        ("KL[q ‖ p*]", f"{fit.kl} nats{_parts(fit)}"),
        ("k̂", f"{fit.khat:.2f}"),
        (
            "importance ESS",
            f"{fit.ess:.0f} of {fit.n_draws} draws of q, {fit.proposal_ess:.0f} of "
            f"{len(fit.log_p)} of its wider proposal",
        ),
        ("verdict", f"{fit.verdict}. {fit.advice}"),
        *([] if fit.structure is None else [("structure", str(fit.structure))]),
        *([("other modes", fit.work.sought)] if fit.work.sought else []),
        ("stopped", fit.reason.value),
        ("starts", _starts(fit)),
        ("work", _work(fit)),
        ("seconds", seconds),
    ]
    return rows + _remarks(fit)


def text(fit: Answer, width: int) -> str:
    """What `print` shows, in lines of at most so many columns."""
    d = fit.q.dim
    head = (
        f"infimum fit of {fit.name!r}: {fit.family.name}, d = {d}, "
        f"{fit.family.n_parameters(d):,} parameters"
    )
    indent = (LABEL + 2) * " "
    lines = [
        textwrap.fill(
            f"  {_padded(label)} {line}",
            width,
            subsequent_indent=indent,
            break_on_hyphens=False,
        )
        for label, line in rows(fit)
    ]
    return "\n".join([textwrap.fill(head, width, subsequent_indent="  "), *lines])


def table(fit: Answer) -> str:
    """The same as HTML, for notebooks."""
    left = "style='text-align:left'"
    cells = "".join(
        f"<tr><th {left}>{html.escape(label)}</th><td {left}>{html.escape(line)}</td></tr>"
        for label, line in rows(fit)
    )
    title = html.escape(f"infimum fit of {fit.name}: {fit.family.name}, d = {fit.q.dim}")
    return f"<table><caption>{title}</caption>{cells}</table>"


def _padded(label: str) -> str:
    """The label in its columns; a combining mark, as in k̂, takes none."""
    return label.ljust(LABEL - 1 + sum(map(bool, map(unicodedata.combining, label))))


def _remarks(fit: Answer) -> list[tuple[str, str]]:
    """Lines for what not every fit has."""
    work, rows = fit.work, []
    if fit.route is not None:
        rows.append(("climb", str(fit.route)))
    if fit.zero_fraction:
        zero = f"{fit.zero_fraction:.2%} of draws have zero density; the ELBO is that of the others"
        rows.append(("zero density", zero))
    if work.rows:
        rows.append(("rows", work.rows))
    if work.n_undefined:
        first = work.first_undefined or "unknown"
        rejected = f"{work.n_undefined} steps rejected for NaN or +inf, first at {first}"
        rows.append(("undefined", rejected))
    if work.first_failure:
        failures = f"{work.n_failed} points raised an error and count as {work.first_failure}"
        rows.append(("errors", failures))
    if not fit.constrains:
        file = f"from a file with {fit.n_draws} stored draws: it samples only those"
        rows.append(("loaded", file))
    return rows


def _parts(fit: Answer) -> str:
    """The parts that the scales have in the KL, and the others given them."""
    rest = fit.assessment.kl_conditional
    if rest is None or not np.isfinite(rest.value):
        return ""
    scales = max(fit.kl.value - rest.value, 0.0)
    se = math.hypot(fit.kl.se, rest.se)
    return f": {weights.Estimate(scales, se)} of the scales, {rest} of the rest given them"


def _log_evidence(fit: Answer) -> str:
    if fit.assessment.refusal:
        return "none: the posterior is improper"
    unknown = fit.model.unknown_constant
    line = str(fit.log_evidence)
    return line if unknown is None else f"{line}, up to a constant: {unknown}"


def _work(fit: Answer) -> str:
    kind = "gradients" if fit.work.differentiated else "values (there is no gradient)"
    work = fit.work
    calls = f" in {work.n_calls} batched calls" if work.n_calls > 1 else ""
    checks = f"; {work.n_checks:,} evaluations to check q" if work.n_checks else ""
    return f"{work.n_gradients:,} {kind}{calls}{checks}"


def _starts(fit: Answer) -> str:
    """How many starts agree, and where the others ended."""
    best = max((s.elbo for s in fit.starts if np.isfinite(s.elbo)), default=math.nan)
    others = [
        f"{s.kind} {s.elbo:.2f}"
        for s in fit.starts
        if s.reason is not Reason.MERGED and not abs(s.elbo - best) <= SAME_LOSS
    ]
    agreement = f"{len(fit.starts) - len(others)} of {len(fit.starts)} agree"
    return agreement + (f"; others ended at ELBO: {', '.join(others)}" if others else "")
