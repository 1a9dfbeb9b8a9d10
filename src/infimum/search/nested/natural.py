"""H and H m of a Gaussian field where its scales were explored, and what of them is exact.

At a fixed x, priors N(0, σ²) and normal likelihoods add to both what hangs on the scales alone, as
products of powers of σ. These terms are found by moving the scales, one by one and together, and
hold for scales that were never looked at.
"""

from __future__ import annotations

import itertools
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from infimum.base.seeds import ADAPT_STREAM, generator
from infimum.families.nested.terms import Terms
from infimum.search.nested.field import Field
from infimum.search.nested.modes import Modes, Rows

AWAY = np.linspace(-1.5, 1.5, 7)
"""Where each scale is moved to, in units of its logarithm."""

TOGETHER = 16
"""Points at which all scales are moved."""

ELSEWHERE = 4
"""Other modes at which the terms must hold."""

EXPONENTS = ((-2,), (2,), (-2, -1), (2, 1), (-1,), (1,), (-2, -1, 1, 2))
"""The exponents of a scale that one entry may have, the first that do: of σ as a prior's sd, as a
factor of effects, as either within bounds, as a variance or a precision, and any."""

MOST_FACTORS = 3
"""Scales whose products are looked for in one entry; where it hangs on more, they add up."""

CHANGED, EXACT = 1e-6, 1e-6
"""Change of an entry, relative to itself, from which on it hangs on a scale; and the largest error
of terms that are exact. Rounding leaves 1e-9 of differences of gradients."""

CANCELLED = 0.1
"""Part of what an entry may be the sum of that its errors are measured by, where it cancels."""

STEEP = 100.0
"""How much larger than all of H at the best point its terms may be where it is evaluated. Where
they are larger, rounding hides the rest, and it is evaluated with broader scales."""


class Natural(NamedTuple):
    """H and b = H m at n θ, without their terms.

    Attributes
    ----------
    values, pull
        Shapes (n, v) and (n, k).
    terms
        Of both, one after the other.
    """

    values: Float[np.ndarray, "n v"]
    pull: Float[np.ndarray, "n k"]
    terms: Terms


class _Looked(NamedTuple):
    """H and b, one after the other, and what their errors are measured by; shapes (n, v + k)."""

    values: Float[np.ndarray, "n e"]
    size: Float[np.ndarray, "n e"]

    def of(self, rows: Rows) -> _Looked:
        """Some of the rows."""
        return _Looked(self.values[rows], self.size[rows])

    def joined(self, other: _Looked) -> _Looked:
        """These rows and those of another."""
        return _Looked(*(np.concatenate(pair) for pair in zip(self, other, strict=True)))


def natural_at(field: Field, modes: Modes, best: Modes) -> Natural:
    """H and b at each mode."""
    k, theta = len(field.rest), modes.z[:, field.theta]
    looked = _both(field, modes.z, modes.gradient, modes.precision.values).values
    terms = _terms(field, modes, best)
    exact = terms.at(theta, looked.shape[1])
    top = np.abs(best.precision.values).max()
    steep = np.flatnonzero(~(np.abs(exact[:, :-k]).max(axis=1) < STEEP * top))
    if steep.size and len(terms.size):
        z = modes.z[steep]
        z[:, field.theta] = _broad(terms, theta, z[:, field.theta])
        looked[steep] = _look(field, z).values
        exact[steep] = terms.at(z[:, field.theta], looked.shape[1])
    left = looked - exact
    return Natural(left[:, :-k], left[:, -k:], terms)


def _moved(field: Field, modes: Modes, moves: Float[np.ndarray, "n h"]) -> _Looked:
    """H and b where the scales are moved from a mode, or from as many, and x is not."""
    z = np.broadcast_to(modes.z, (len(moves), field.target.dim)).copy()
    z[:, field.theta] += moves
    return _look(field, z)


def _look(field: Field, z: Float[np.ndarray, "n d"]) -> _Looked:
    evaluated = field.curved(z)
    return _both(field, z, evaluated.gradient, evaluated.values)


def _both(
    field: Field,
    z: Float[np.ndarray, "n d"],
    gradient: Float[np.ndarray, "n d"],
    values: Float[np.ndarray, "n v"],
) -> _Looked:
    """H, and b by which a Newton step from here goes to H⁻¹ b."""
    x, slope = z[:, field.rest], gradient[:, field.rest]
    k, (row, column) = x.shape[1], field.edges
    pull = slope + _times(field, values, x)
    if field.soft.size:
        pull = pull + (x @ field.soft)[:, None] * field.soft
    diagonal = np.abs(values[:, :k])
    sizes = [
        diagonal,
        CANCELLED * np.sqrt(diagonal[:, row] * diagonal[:, column]) + np.abs(values[:, k:]),
        CANCELLED * (np.abs(slope) + _times(field, np.abs(values), np.abs(x))) + np.abs(pull),
    ]
    return _Looked(np.concatenate([values, pull], axis=1), np.concatenate(sizes, axis=1))


def _times(
    field: Field, values: Float[np.ndarray, "n v"], x: Float[np.ndarray, "n k"]
) -> Float[np.ndarray, "n k"]:
    """H x at each row."""
    pairs = zip(values, x, strict=True)
    return np.concatenate([field.analysis.times(h, row[None]) for h, row in pairs])


def moves_by_powers(field: Field, z: Float[np.ndarray, "2 d"]) -> Bool[np.ndarray, " h"]:
    """Which scales move H by powers of theirs alone, by the same at two x of the same scales."""
    h, n = len(field.theta), field.edges.shape[1] + len(field.rest)
    few = AWAY[::2]
    unit = np.zeros((h, z.shape[1]))
    unit[np.arange(h), field.theta] = 1.0
    out = np.zeros(h, bool)
    for s in range(h):
        looked = _look(field, z[0] + few[:, None] * unit[s])
        part = _Looked(looked.values[:, :n], looked.size[:, :n])
        if not np.isfinite(part.values).all():
            continue
        kinds, exact = _kinds(part, few)
        if not exact or (kinds < 0).all():
            continue
        ends = _look(field, z[1] + few[[0, -1], None] * unit[s])
        here = part.values[-1] - part.values[0]
        there = ends.values[1, :n] - ends.values[0, :n]
        out[s] = (np.abs(here - there) <= EXACT * ends.size[:, :n].max(axis=0)).all()
    return out


def _terms(field: Field, modes: Modes, best: Modes) -> Terms:
    """The terms of H and b at the best point's x, for scales whose terms are the same elsewhere."""
    centre = best.z[0, field.theta]
    h, m = len(centre), len(AWAY)
    rng = generator(0, ADAPT_STREAM, 3)
    along = np.kron(np.eye(h), AWAY[:, None])
    axes = _moved(field, best, along)
    good = np.isfinite(axes.values).all(axis=1).reshape(h, m).all(axis=1)
    kinds = np.full((h, axes.values.shape[1]), -1)
    for s in np.flatnonzero(good):
        own = slice(s * m, (s + 1) * m)
        kinds[s], good[s] = _kinds(axes.of(own), along[own, s])
    while good.any():
        together = np.where(good, rng.uniform(AWAY[0], AWAY[-1], (TOGETHER, h)), 0.0)
        kept = np.repeat(good, m)
        looked = axes.of(kept).joined(_moved(field, best, together))
        kept_kinds = np.where(good[:, None], kinds, -1)
        terms, bad = _fitted(centre, looked, np.concatenate([along[kept], together]), kept_kinds)
        if not bad.any():
            others = modes.of(rng.integers(len(modes.z), size=ELSEWHERE))
            bad = _changed(field, others, terms, together[:ELSEWHERE])
        if not bad.any():
            return terms
        good &= ~bad
    return Terms.none(centre)


def _changed(
    field: Field, others: Modes, terms: Terms, moves: Float[np.ndarray, "n h"]
) -> Bool[np.ndarray, " h"]:
    """The scales whose terms are not the same at other modes: those that alone are not, or all."""
    whole = np.asarray(moves.any(axis=0)).reshape(-1)
    if _same(field, others, terms, moves):
        return np.zeros_like(whole)
    alone = [
        on and not _same(field, others, terms, moves * unit)
        for on, unit in zip(whole, np.eye(len(whole)), strict=True)
    ]
    return np.array(alone) if any(alone) else whole


def _same(field: Field, others: Modes, terms: Terms, moves: Float[np.ndarray, "n h"]) -> bool:
    """Whether H and b change as the terms do when the scales are moved at other modes."""
    there = _moved(field, others, moves)
    here = _both(field, others.z, others.gradient, others.precision.values)
    theta, n = others.z[:, field.theta], there.values.shape[1]
    exact = terms.at(theta + moves, n) - terms.at(theta, n)
    off = np.abs(there.values - here.values - exact)
    return bool((off <= EXACT * np.maximum(there.size, here.size)).all())


def _kinds(looked: _Looked, moves: Float[np.ndarray, " m"]) -> tuple[Int[np.ndarray, " e"], bool]:
    """Which exponents each entry has of one scale, -1 for none; and whether some always do."""
    change = np.ptp(looked.values, axis=0)
    left = np.flatnonzero(change > CHANGED * looked.size.max(axis=0))
    kinds = np.full(looked.values.shape[1], -1)
    for kind, exponents in enumerate(EXPONENTS):
        if len(exponents) + 1 >= len(moves):
            break  # so many powers go through any points
        powers = np.exp(np.outer(moves, (0, *exponents)))
        error = _solved(powers, looked, left)[1]
        kinds[left[error < EXACT]] = kind
        left = left[~(error < EXACT)]
    return kinds, not left.size


def _solved(
    powers: Float[np.ndarray, "p c"], looked: _Looked, entries: Int[np.ndarray, " t"]
) -> tuple[Float[np.ndarray, "t c"], Float[np.ndarray, " t"]]:
    """The coefficients by which powers come nearest to entries, and their largest errors."""
    weight = 1 / np.maximum(looked.size[:, entries].T, np.finfo(float).tiny)
    goal = weight * looked.values[:, entries].T
    design = weight[:, :, None] * powers
    solved = (np.linalg.pinv(design) @ goal[:, :, None])[:, :, 0]
    error = np.abs((design @ solved[:, :, None])[:, :, 0] - goal)
    return solved, error.max(axis=1, initial=0.0)


def _fitted(
    centre: Float[np.ndarray, " h"],
    looked: _Looked,
    moves: Float[np.ndarray, "p h"],
    kinds: Int[np.ndarray, "h e"],
) -> tuple[Terms, Bool[np.ndarray, " h"]]:
    """The terms of each entry; and the scales for which they are not exact."""
    parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    bad = np.zeros(len(kinds), bool)
    for kind in np.unique(kinds, axis=1).T:
        if (kind < 0).all():
            continue
        entries = np.flatnonzero((kinds == kind[:, None]).all(axis=0))
        rates = _products(kind)
        solved, error = _solved(np.exp(moves @ rates.T), looked, entries)
        bad |= (kind >= 0) & (error > EXACT).any()
        row, way = np.nonzero(solved * rates.any(axis=1))
        parts.append((rates[way], entries[row], solved[row, way]))
    if not parts:
        return Terms.none(centre), bad
    every, entry, size = (np.concatenate(part) for part in zip(*parts, strict=True))
    rates, way = np.unique(every, axis=0, return_inverse=True)
    return Terms(centre, rates, entry, way.ravel(), size), np.asarray(bad)


def _products(kind: Int[np.ndarray, " h"]) -> Float[np.ndarray, "c h"]:
    """The exponents of all products that an entry may have, and 0 for what does not change."""
    own = [(0,) if i < 0 else (0, *EXPONENTS[i]) for i in kind]
    every = np.array(list(itertools.product(*own)), float)
    several = (every != 0).sum(axis=1) > 1
    return every if (kind >= 0).sum() <= MOST_FACTORS else every[~several]


def _broad(
    terms: Terms, known: Float[np.ndarray, "n h"], theta: Float[np.ndarray, "m h"]
) -> Float[np.ndarray, "m h"]:
    """θ with each scale that has terms where these are least of all."""
    out = theta.copy()
    for s in np.flatnonzero(terms.rates.any(axis=0)):
        tried = np.repeat(terms.centre[None], len(known), axis=0)
        tried[:, s] = known[:, s]
        n = int(terms.entry.max()) + 1
        out[:, s] = known[np.argmin(np.abs(terms.at(tried, n)).max(axis=1)), s]
    return out
