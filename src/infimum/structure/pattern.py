"""The pattern of the Hessian of log p̂: the pairs of coordinates that it couples.

The pattern of a small program is read by asdex, which follows every operation and so finds a
pattern that holds everywhere. The pattern of a large one, or of code outside JAX, is probed: random
products with the Hessian at a few points, coded so that each names the entry that it came from.
Either pattern is checked at other points by random products.
"""

from __future__ import annotations

import warnings

import numpy as np

from infimum.base.errors import UnsuitableError, coded_error
from infimum.base.extras import required
from infimum.base.program import double_precision
from infimum.structure.hessian import hessians
from infimum.structure.probe import probe
from infimum.structure.products import check_curvature, hessian_times, product_noise
from infimum.target.target import Target

LARGEST_PROGRAM_READ = 400_000
"""Numbers in all arrays of the largest program that asdex reads: this takes about a second."""

CHECK_POINTS = 3
"""Points at which a pattern is checked. At those where it fails it is probed again."""

NEED = "the sparse family"
"""What needs a pattern, in messages."""

MOST_FAILURES = 5
"""Failed checks after which the target is called unsuitable."""

RADIUS = 1.0
"""Points are uniform in [-RADIUS, RADIUS]^d, as random starts are, and then in boxes half as wide
each time until density and Hessian are finite."""

PRODUCT_ERROR = 1e-7
"""Relative error of a product on the pattern above which an entry is missing. Rounding of sums over
millions of rows stays below it, and smaller entries change no sd by more."""

DIFFERENCE_ERROR = 1e-3
"""The same for products by differences: a forward difference over 1e-5 of a coordinate's size has a
relative error of 1e-5 where the third derivative is of the size of the second, and of 1e-3 where it
is a hundred times larger."""


def find_edges(target: Target, rng: np.random.Generator, *, dense: bool = False) -> np.ndarray:
    """Pairs (row > column) that the Hessian couples, shape (2, n).

    Parameters
    ----------
    dense
        Whether all pairs are an answer too.

    Raises
    ------
    UnsuitableError
        If there is no second derivative, or no pattern is found that passes the check.
    """
    check_curvature(target, NEED)
    edges = None
    if target.twice_differentiable and target.program.structure.total <= LARGEST_PROGRAM_READ:
        edges = _read(target)
    if edges is None:
        edges = probed_edges(target, rng)
    return _confirmed(target, edges, rng, MOST_FAILURES, dense)


def probed_edges(target: Target, rng: np.random.Generator) -> np.ndarray:
    """Pairs (row > column) that the Hessian couples at one point, shape (2, n), not checked.

    Raises
    ------
    UnsuitableError
        If the Hessian is not finite at any of the points tried.
    """
    return _probe(target, finite_point(target, rng), rng)


def check_edges(target: Target, edges: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The pairs that a user gave, each once and in order, checked like a pattern that was found.

    Raises
    ------
    ValueError
        If they are not pairs of coordinates.
    UnsuitableError
        If there is no second derivative, or the Hessian couples other pairs too.
    """
    pairs = np.asarray(edges)
    if pairs.ndim != 2 or len(pairs) != 2 or pairs.dtype.kind not in "iu":
        raise coded_error(
            ValueError,
            "E223",
            f"edges have shape {pairs.shape} and type {pairs.dtype}, not (2, n) of int",
        )
    if pairs.size and not (pairs.min() >= 0 and pairs.max() < target.dim):
        raise coded_error(
            ValueError,
            "E223",
            f"edges name coordinates outside 0 to {target.dim - 1}: they reach from "
            f"{pairs.min()} to {pairs.max()}",
        )
    check_curvature(target, NEED)
    return _confirmed(target, _unique(pairs, target.dim), rng, 0, False)


def _unique(pairs: np.ndarray, dim: int) -> np.ndarray:
    """Each pair once, as row > column, ordered by columns."""
    pairs = pairs[:, pairs[0] != pairs[1]].astype(np.int64)
    keys = np.unique(pairs.min(axis=0) * dim + pairs.max(axis=0))
    return np.stack([keys % dim, keys // dim])


def _read(target: Target) -> np.ndarray | None:
    """The pattern by asdex; None if it cannot follow the program, or finds no zero."""
    asdex = required("asdex", "sparse")
    function = target.program.function()
    with double_precision(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # asdex warns of parts that it takes for dense
        try:
            pattern = asdex.hessian_sparsity(lambda z: function(z)[0], np.zeros(target.dim))
        except Exception:  # unknown primitives raise many types; probing does not need asdex
            return None
    edges = _unique(np.stack([pattern.rows, pattern.cols]), target.dim)
    return None if _is_dense(edges, target.dim) else edges


def _is_dense(edges: np.ndarray, dim: int) -> bool:
    """Whether every pair is coupled."""
    return dim > 1 and edges.shape[1] == dim * (dim - 1) // 2


def finite_point(target: Target, rng: np.random.Generator) -> np.ndarray:
    """A random point at which density and Hessian are finite."""
    for attempt in range(20):
        z = rng.uniform(-RADIUS, RADIUS, target.dim) * 0.5**attempt
        if attempt % 2 and target.example is not None:
            z = z + target.example
        log_p, gradient = target.value_and_gradient(z[None])
        if np.isfinite(log_p).all() and np.isfinite(gradient).all():
            image = hessian_times(target, z, rng.standard_normal((1, target.dim)))
            if np.isfinite(image).all():
                return np.asarray(z)
    raise coded_error(
        UnsuitableError,
        "E220",
        f"the Hessian of {target.name!r} is not finite at any of 20 points tried, and the "
        'sparse family needs one. Look for kinks, as in sqrt(0) or abs, or fit "fullrank"',
    )


def _probe(
    target: Target, z: np.ndarray, rng: np.random.Generator, scale: np.ndarray | None = None
) -> np.ndarray:
    """The pattern of the Hessian at one point, in units of a scale if there is one."""
    unit = 1.0 if scale is None else scale
    noise = unit * product_noise(target, z, rng, scale)
    pairs = probe(
        lambda v: unit * hessian_times(target, z, unit * v, scale), target.dim, rng, noise
    )
    if pairs is None:
        raise _no_zeros(target)
    return _unique(pairs, target.dim)


def _no_zeros(target: Target) -> UnsuitableError:
    return coded_error(
        UnsuitableError,
        "E222",
        f"the Hessian of {target.name!r} has no zeros: the sparse family is then the full-rank "
        'one, and slower. Fit "fullrank", or "lowrank" where d is large',
    )


def _confirmed(
    target: Target, edges: np.ndarray, rng: np.random.Generator, most_failures: int, dense: bool
) -> np.ndarray:
    """The pattern, checked at `CHECK_POINTS` points and widened after each failure."""
    while True:
        if _is_dense(edges, target.dim):
            if dense:
                return edges
            raise _no_zeros(target)
        z = np.stack([finite_point(target, rng) for _ in range(CHECK_POINTS)])
        wrong_rows = incomplete_rows(target, edges, z, rng)
        if not any(rows.size for rows in wrong_rows):
            return edges
        if most_failures == 0:
            rows = np.unique(np.concatenate(wrong_rows))
            names = ", ".join(repr(target.space.free_names[i]) for i in rows[:5])
            raise coded_error(
                UnsuitableError,
                "E223",
                f"the pattern lacks entries of the Hessian of {target.name!r} in {rows.size} "
                f"rows ({names}): couple more pairs, or give no edges to have them found",
            )
        most_failures -= 1
        more = [_probe(target, x, rng) for x, rows in zip(z, wrong_rows, strict=True) if rows.size]
        edges = _unique(np.concatenate([edges, *more], axis=1), target.dim)


def widened(
    target: Target,
    edges: np.ndarray,
    z: np.ndarray,
    scale: np.ndarray,
    rng: np.random.Generator,
) -> np.ndarray:
    """The pattern, with the entries that it lacks at a point z (d,) of coordinates of this scale.

    Where the target is twice differentiable, nothing is hidden by rounding, and nothing lacks.
    """
    if target.twice_differentiable or _is_dense(edges, target.dim):
        return edges
    if not incomplete_rows(target, edges, z[None], rng, scale)[0].size:
        return edges
    more = _probe(target, z, rng, scale)
    return _unique(np.concatenate([edges, more], axis=1), target.dim)


def incomplete_rows(
    target: Target,
    edges: np.ndarray,
    z: np.ndarray,
    rng: np.random.Generator,
    scale: np.ndarray | None = None,
) -> list[np.ndarray]:
    """Rows of the Hessian at each point that have entries outside the pattern.

    They show in one random product, which differs there from the product on the pattern.

    Parameters
    ----------
    z
        Points, shape (n, d).
    scale
        Typical size of each coordinate there, shape (d,); by default 1.
    """
    d = target.dim
    row, column = edges
    error = PRODUCT_ERROR if target.twice_differentiable else DIFFERENCE_ERROR
    wrong_rows = []
    for point, values in zip(z, hessians(target, edges, z, len(z), scale).values, strict=True):
        v = rng.standard_normal(d) * (1.0 if scale is None else scale)
        image = hessian_times(target, point, v[None], scale)[0]
        noise = product_noise(target, point, rng, scale)
        sums, sizes = values[:d] * v, np.abs(values[:d] * v)
        for a, b in ((row, column), (column, row)):
            terms = values[d:] * v[b]
            sums += np.bincount(a, terms, d)
            sizes += np.bincount(a, np.abs(terms), d)
        right = np.abs(image - sums) <= error * (sizes + np.abs(image)) + noise
        wrong_rows.append(np.flatnonzero(~right))
    return wrong_rows
