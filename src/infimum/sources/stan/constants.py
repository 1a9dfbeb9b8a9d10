"""The constants that `~` drops: found by a program that adds them, statement by statement."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from infimum.sources.stan.program import Program
from infimum.sources.stan.syntax import closing, functions_of, statements_of

DISCRETE = re.compile(
    r"(bernoulli|binomial|categorical|neg_binomial_2|ordered_logistic|poisson)(_log|_logit)?(_glm)?"
    r"|beta_binomial|beta_neg_binomial|dirichlet_multinomial|discrete_range|hypergeometric"
    r"|multinomial(_logit)?|neg_binomial|ordered_probit|poisson_binomial"
)
"""Stan's discrete distributions, whose functions end in `_lpmf`."""

UNNORMALISED = ("_lupdf", "_lupmf")

POINTS, MOST_POINTS = 12, 400
"""Points at which the constant is compared with itself, and points tried to find these."""

RADII = (1.0, 0.1, 2.0, 0.01)
"""Half-widths of the cubes in which they are tried in turn: from near the origin to where fits
begin."""

ROUNDING = 1e-9
"""By how much, relative to the log density, a constant may differ from one point to another: sums
of 10^6 terms round off by 1e-10 of their size."""

MOST_SHOWN = 60
"""Characters of a statement that a message shows at most."""

Values = Callable[[np.ndarray], float]
"""log p̂ at one point; raises RuntimeError if it cannot be computed."""


class Change(NamedTuple):
    """What to write in the place of a part of the program, so that no constant is dropped.

    Attributes
    ----------
    start, end
        Where the part is in the program's whole text.
    text
        What to write there; None if that is not known.
    """

    start: int
    end: int
    text: str | None


class Constant(NamedTuple):
    """What the program drops from log p̂, and the reason if that is not known."""

    value: float
    unknown: str | None = None


def changes_of(program: Program) -> list[Change]:
    """All changes to a program, in the order of the text.

    After ``x ~ foo(a) T[b, ];`` comes ``target += foo_lpdf(x | a) - foo_lupdf(x | a);``: what Stan
    drops, since it keeps the constant of a truncation. ``foo_lupdf`` elsewhere turns into
    ``foo_lpdf``. Functions that end in `_lp` may not call ``foo_lupdf``: there ``~`` gives way to
    ``target += foo_lpdf(x | a);``.
    """
    defined: set[str] = set()
    bodies = []
    if "functions" in program.blocks:
        for name, *body in functions_of(program.tokens, program.blocks["functions"]):
            defined.add(name)
            if name.endswith("_lp"):
                bodies.append((body[0], body[1]))
    if "model" in program.blocks:
        bodies.append(program.blocks["model"])
    return [
        change
        for body in bodies
        for first, end in statements_of(program.tokens, body)
        for change in _changes(program, first, end, defined, body != program.blocks.get("model"))
    ]


def _changes(
    program: Program, first: int, end: int, defined: set[str], inside_function: bool
) -> Iterator[Change]:
    """The changes of one statement, which ends in the semicolon at `end`."""
    tokens, whole = program.tokens, program.whole
    tilde = first
    while tilde < end and tokens[tilde].text != "~":
        tilde = closing(tokens, tilde) + 1 if tokens[tilde].text in "([{" else tilde + 1
    names = [token for token in tokens[first:end] if token.named]
    if tilde >= end:
        for token in names:
            if token.text.endswith(UNNORMALISED):
                yield Change(token.start, token.end, token.text.replace("_lup", "_lp"))
        return
    start, stop = tokens[first].start, tokens[end].end
    name = tokens[tilde + 1].text
    parenthesis = tilde + 2
    # What changes target must not be called twice, and a change inside a change is none.
    called = [tokens[i].text for i in range(first, end) if tokens[i + 1].text == "("]
    if any(word.endswith((*UNNORMALISED, "_lp", "_jacobian")) for word in called):
        yield Change(start, stop, None)
        return
    left = whole[start : tokens[tilde - 1].end]
    right = whole[tokens[parenthesis].end : tokens[closing(tokens, parenthesis)].start]
    kind = "m" if DISCRETE.fullmatch(name) or f"{name}_lpmf" in defined else "d"
    kind = "d" if f"{name}_lpdf" in defined else kind
    # Comments to the end of a line need their ends.
    normalised, dropping = (f"{name}_{form}{kind}f({left}\n| {right}\n)" for form in ("lp", "lup"))
    if not inside_function:
        added = f"{{ {whole[start:stop]}\ntarget += {normalised} - {dropping}; }}"
        yield Change(start, stop, added)
    else:
        truncated = closing(tokens, parenthesis) + 1 < end
        yield Change(start, stop, None if truncated else f"target += {normalised};")


def changed(whole: str, changes: Sequence[Change]) -> str:
    """The program with these changes."""
    parts, place = [], 0
    for change in changes:
        parts += [whole[place : change.start], change.text or whole[change.start : change.end]]
        place = change.end
    return "".join(parts) + whole[place:]


def constant_of(
    program: Program, value: Values, dim: int, build: Callable[[str], Values]
) -> Constant:
    """What the program drops: the same at several points, or not known.

    Parameters
    ----------
    value
        log p̂ as the program states it, up to what it drops.
    dim
        d.
    build
        Makes the log density of another text, with the same data; raises RuntimeError if that
        does not compile.
    """
    changes = changes_of(program)
    if not changes:
        return Constant(0.0)
    points = _finite_points(value, dim)
    if not points:
        return Constant(
            0.0,
            f"the constants that {program.label} drops are not known, because its density is "
            f"finite at none of {MOST_POINTS} points",
        )
    if all(change.text is not None for change in changes):
        constant = _difference(changed(program.whole, changes), points, build)
        if constant is not None:
            return Constant(constant)
    for change in changes:
        alone = None
        if change.text is not None:
            alone = _difference(changed(program.whole, [change]), points, build)
        if alone is None:
            return Constant(0.0, _unknown(program, change))
    return Constant(
        0.0,
        f"the constants that {program.label} drops depend on the parameters when taken together",
    )


def _unknown(program: Program, change: Change) -> str:
    statement = " ".join(program.whole[change.start : change.end].split())
    if len(statement) > MOST_SHOWN:
        statement = statement[: MOST_SHOWN - 3] + "..."
    return (
        f"the constant that `{statement}` ({program.line(change.start)}) drops is not known: "
        "write it as target += with the full log density"
    )


def _finite_points(value: Values, dim: int) -> list[tuple[np.ndarray, float]]:
    """Points of finite density, and log p̂ there: the smallest in size first, which rounds least."""
    rng = np.random.default_rng(0)
    points: list[tuple[np.ndarray, float]] = []
    for i in range(MOST_POINTS):
        z = rng.uniform(-1, 1, dim) * RADII[i % len(RADII)]
        try:
            log_p = value(z)
        except RuntimeError:  # Stan cannot compute it here
            continue
        if np.isfinite(log_p):
            points.append((z, log_p))
        if len(points) == POINTS:
            break
    return sorted(points, key=lambda point: abs(point[1]))


def _difference(
    text: str, points: Sequence[tuple[np.ndarray, float]], build: Callable[[str], Values]
) -> float | None:
    """What this text has more than the program; None if it does not compile, or if that varies."""
    try:
        value = build(text)
        pairs = np.array([(value(z), log_p) for z, log_p in points])
    except RuntimeError:
        return None
    differences = pairs[:, 0] - pairs[:, 1]
    rounding = ROUNDING * np.maximum(1.0, np.abs(pairs).max(axis=1))
    constant = differences[0]
    if not np.all(np.abs(differences - constant) <= rounding + rounding[0]):
        return None
    return float(constant)
