"""The pattern of the Hessian of log p̂: the pairs of coordinates that it couples.

The pattern of a small program is read by asdex, which follows every operation and so finds a
pattern that holds everywhere. The pattern of a large one is probed: random products with the
Hessian at a few points, coded so that each names the entry that it came from. Either pattern is
checked at other points by random products.
"""

from __future__ import annotations

import warnings
import weakref
from typing import Any

import jax
import numpy as np

from infimum.base.errors import UnsuitableError, coded_error
from infimum.base.extras import required
from infimum.base.program import Program, double_precision
from infimum.structure.hessian import hessians
from infimum.structure.probe import probe
from infimum.target.target import Target

LARGEST_PROGRAM_READ = 400_000
"""Numbers in all arrays of the largest program that asdex reads: this takes about a second."""

PRODUCTS_PER_CALL = 8
"""Products with the Hessian at one point in one call: what depends on the point alone is computed
once for all of them."""

CHECK_POINTS = 3
"""Points at which a pattern is checked. At those where it fails it is probed again."""

MOST_FAILURES = 5
"""Failed checks after which the target is called unsuitable."""

RADIUS = 1.0
"""Points are uniform in [-RADIUS, RADIUS]^d, as random starts are, and then in boxes half as wide
each time until density and Hessian are finite."""

PRODUCT_ERROR = 1e-7
"""Relative error of a product on the pattern above which an entry is missing. Rounding of sums over
millions of rows stays below it, and smaller entries change no sd by more."""

_PRODUCTS: weakref.WeakKeyDictionary[Target, Program] = weakref.WeakKeyDictionary()


def products(target: Target) -> Program:
    """The program for ∇²log p̂(z) v at `PRODUCTS_PER_CALL` vectors v; its input is (z, v, v, …).

    Raises
    ------
    UnsuitableError
        If log p̂ has no second derivative in JAX.
    """
    target = target.plain
    if target not in _PRODUCTS:
        if not target.twice_differentiable:
            raise coded_error(
                UnsuitableError, "E220", _no_second_derivative(target, "its code is outside JAX")
            )
        function, d = target.program.function(), target.dim

        def images(point: Any) -> Any:
            _, push = jax.linearize(lambda z: function(z)[1], point[:d])
            return jax.lax.map(push, point[d:].reshape(PRODUCTS_PER_CALL, d))

        try:
            _PRODUCTS[target] = Program(images, (1 + PRODUCTS_PER_CALL) * d, batch=1)
        except Exception as error:  # JAX raises many types: each says that there is no derivative
            raise coded_error(
                UnsuitableError, "E220", _no_second_derivative(target, str(error).split("\n")[0])
            ) from error
    return _PRODUCTS[target]


def _no_second_derivative(target: Target, reason: str) -> str:
    return (
        f"log p̂ of {target.name!r} has no second derivative, which the sparse family needs "
        f'({reason}): write it with jax.numpy, or fit "fullrank" or "lowrank"'
    )


def hessian_times(target: Target, z: np.ndarray, v: np.ndarray) -> np.ndarray:
    """∇²log p̂(z) v for one point z (d,) and each row of v (n, d)."""
    program = products(target)

    def compute() -> np.ndarray:
        out, seeds = np.empty(v.shape), np.zeros((1 + PRODUCTS_PER_CALL, target.dim))
        seeds[0] = z
        for start in range(0, len(v), PRODUCTS_PER_CALL):
            rows = v[start : start + PRODUCTS_PER_CALL]
            seeds[1 : 1 + len(rows)] = rows
            out[start : start + len(rows)] = program(seeds.reshape(1, -1))[0, : len(rows)]
        return out

    images: np.ndarray = target.recall("products with the Hessian", lambda: (z, v), 0, compute)
    return images


def find_edges(target: Target, rng: np.random.Generator) -> np.ndarray:
    """Pairs (row > column) that the Hessian couples, shape (2, n).

    Raises
    ------
    UnsuitableError
        If there is no second derivative, or no pattern is found that passes the check.
    """
    products(target)  # refuses a target without second derivative
    edges = _read(target) if target.program.structure.total <= LARGEST_PROGRAM_READ else None
    if edges is None:
        edges = _probe(target, _finite_point(target, rng), rng)
    return _confirmed(target, edges, rng, MOST_FAILURES)


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
    products(target)
    return _confirmed(target, _unique(pairs, target.dim), rng, 0)


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


def _finite_point(target: Target, rng: np.random.Generator) -> np.ndarray:
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


def _probe(target: Target, z: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The pattern of the Hessian at one point."""
    return _unique(probe(lambda v: hessian_times(target, z, v), target.dim, rng), target.dim)


def _confirmed(
    target: Target, edges: np.ndarray, rng: np.random.Generator, most_failures: int
) -> np.ndarray:
    """The pattern, checked at `CHECK_POINTS` points and widened after each failure."""
    while True:
        if _is_dense(edges, target.dim):
            raise coded_error(
                UnsuitableError,
                "E222",
                f"the Hessian of {target.name!r} has no zeros: the sparse family is then the "
                'full-rank one, and slower. Fit "fullrank", or "lowrank" where d is large',
            )
        z = np.stack([_finite_point(target, rng) for _ in range(CHECK_POINTS)])
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


def incomplete_rows(
    target: Target, edges: np.ndarray, z: np.ndarray, rng: np.random.Generator
) -> list[np.ndarray]:
    """Rows of the Hessian at each point that have entries outside the pattern.

    They show in one random product, which differs there from the product on the pattern.

    Parameters
    ----------
    z
        Points, shape (n, d).
    """
    d = target.dim
    row, column = edges
    wrong_rows = []
    for point, values in zip(z, hessians(target, edges, z, len(z)).values, strict=True):
        v = rng.standard_normal(d)
        image = hessian_times(target, point, v[None])[0]
        sums, sizes = values[:d] * v, np.abs(values[:d] * v)
        for a, b in ((row, column), (column, row)):
            terms = values[d:] * v[b]
            sums += np.bincount(a, terms, d)
            sizes += np.bincount(a, np.abs(terms), d)
        right = np.abs(image - sums) <= PRODUCT_ERROR * (sizes + np.abs(image))
        wrong_rows.append(np.flatnonzero(~right))
    return wrong_rows
