"""Which pairs of coordinates the Hessian of log p̂ couples, and that Hessian from few products.

Small programs are read by asdex, which follows every operation and so finds a pattern that holds
everywhere. Large ones are probed: random products with the Hessian at a few points, coded so that
each names the entry it came from. Either is checked at other points by random products. Then
coordinates that no row couples share one product (a colouring), and an evaluation of the whole
Hessian costs as many products as there are colours.
"""

from __future__ import annotations

import warnings
import weakref
from typing import Any

import jax
import numpy as np

from infimum.base.errors import UnsuitableError, coded
from infimum.base.extras import required
from infimum.base.program import Program, double_precision
from infimum.structure.hessian import hessians
from infimum.structure.probe import probed
from infimum.target.target import Target

MOST_READ = 400_000
"""Numbers in all arrays of a program up to which asdex reads it: about a second."""

AT_ONCE = 8
"""Products with the Hessian at one point in one call: what depends on it alone is computed once."""

POINTS = 3
"""Points at which a pattern is checked, and after each failure probed once more."""

ROUNDS = 5
"""Most failures of a check before the target is called unsuitable."""

RADIUS = 1.0
"""Points are uniform in [-RADIUS, RADIUS]^d as random starts are, and then narrower by halves until
density and Hessian are finite."""

AGREEMENT = 1e-7
"""Relative error of a product on the pattern above which an entry is missing: rounding of sums over
millions of rows stays below it, and smaller entries change no sd by more."""

_PRODUCTS: weakref.WeakKeyDictionary[Target, Program] = weakref.WeakKeyDictionary()


def products(target: Target) -> Program:
    """∇²log p̂(z) v for `AT_ONCE` vectors v, as a program of the point (z, v, v, …).

    Raises
    ------
    UnsuitableError
        If log p̂ has no second derivative in JAX.
    """
    target = target.plain
    if target not in _PRODUCTS:
        if not target.twice_differentiable:
            raise UnsuitableError(coded("E220", _no_second(target, "its code is outside JAX")))
        function, d = target.program.function(), target.dim

        def images(point: Any) -> Any:
            _, push = jax.linearize(lambda z: function(z)[1], point[:d])
            return jax.lax.map(push, point[d:].reshape(AT_ONCE, d))

        try:
            _PRODUCTS[target] = Program(images, (1 + AT_ONCE) * d, batch=1)
        except Exception as error:  # JAX raises many types: each says that there is no derivative
            raise UnsuitableError(
                coded("E220", _no_second(target, str(error).split("\n")[0]))
            ) from error
    return _PRODUCTS[target]


def _no_second(target: Target, why: str) -> str:
    return (
        f"log p̂ of {target.name!r} has no second derivative, which the sparse family needs ({why}):"
        ' state it with jax.numpy, or fit "fullrank" or "lowrank"'
    )


def hessian_times(target: Target, z: np.ndarray, v: np.ndarray) -> np.ndarray:
    """∇²log p̂(z) v for one point z (d,) and each row of v (n, d)."""
    program = products(target)

    def compute() -> np.ndarray:
        out, seeds = np.empty(v.shape), np.zeros((1 + AT_ONCE, target.dim))
        seeds[0] = z
        for start in range(0, len(v), AT_ONCE):
            rows = v[start : start + AT_ONCE]
            seeds[1 : 1 + len(rows)] = rows
            out[start : start + len(rows)] = program(seeds.reshape(1, -1))[0, : len(rows)]
        return out

    found: np.ndarray = target.recall("products with the Hessian", lambda: (z, v), 0, compute)
    return found


def find_edges(target: Target, given: None, rng: np.random.Generator) -> np.ndarray:
    """Pairs (row > column) that the Hessian couples, shape (2, n).

    Raises
    ------
    UnsuitableError
        If there is no second derivative, or no pattern is found that passes the check.
    """
    products(target)
    edges = _read(target) if target.program.structure.total <= MOST_READ else None
    if edges is None:
        edges = _probe(target, _usable(target, rng), rng)
    return _confirmed(target, edges, rng, ROUNDS)


def checked_edges(target: Target, given: Any, rng: np.random.Generator) -> np.ndarray:
    """The pairs that a user gave, in order and checked."""
    pairs = np.asarray(given)
    if pairs.ndim != 2 or len(pairs) != 2 or pairs.dtype.kind not in "iu":
        raise ValueError(
            coded(
                "E223", f"edges have shape {pairs.shape} and type {pairs.dtype}, not (2, n) of int"
            )
        )
    if pairs.size and not (pairs.min() >= 0 and pairs.max() < target.dim):
        raise ValueError(
            coded(
                "E223",
                f"edges name coordinates outside 0 to {target.dim - 1}: they reach from "
                f"{pairs.min()} to {pairs.max()}",
            )
        )
    products(target)
    return _confirmed(target, _unique(pairs, target.dim), rng, 0)


def _unique(pairs: np.ndarray, dim: int) -> np.ndarray:
    """Each pair once, as row > column, in order of columns."""
    pairs = pairs[:, pairs[0] != pairs[1]].astype(np.int64)
    keys = np.unique(pairs.min(axis=0) * dim + pairs.max(axis=0))
    return np.stack([keys % dim, keys // dim])


def _read(target: Target) -> np.ndarray | None:
    """By asdex; None where it can't follow the program, or sees no zero in it."""
    asdex = required("asdex", "sparse")
    function = target.program.function()
    with double_precision(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # asdex warns of what it can't resolve: it is then dense
        try:
            found = asdex.hessian_sparsity(lambda z: function(z)[0], np.zeros(target.dim))
        except Exception:  # primitives that it does not know raise many types; probing does without
            return None
    edges = _unique(np.stack([found.rows, found.cols]), target.dim)
    return None if _dense(edges, target.dim) else edges


def _dense(edges: np.ndarray, dim: int) -> bool:
    return dim > 1 and edges.shape[1] == dim * (dim - 1) // 2


def _usable(target: Target, rng: np.random.Generator) -> np.ndarray:
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
    raise UnsuitableError(
        coded(
            "E220",
            f"the Hessian of {target.name!r} is not finite at any of 20 points tried, and the "
            'sparse family needs one. Look for kinks, as in sqrt(0) or abs, or fit "fullrank"',
        )
    )


def _probe(target: Target, z: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    found = probed(lambda v: hessian_times(target, z, v), target.dim, rng)
    return _unique(found, target.dim)


def _confirmed(
    target: Target, edges: np.ndarray, rng: np.random.Generator, rounds: int
) -> np.ndarray:
    """The pattern, checked at `POINTS` points and widened where it fails at one."""
    while True:
        if _dense(edges, target.dim):
            raise UnsuitableError(
                coded(
                    "E222",
                    f"the Hessian of {target.name!r} has no zeros: the sparse family is then the "
                    'full-rank one, and slower. Fit "fullrank", or "lowrank" where d is large',
                )
            )
        z = np.stack([_usable(target, rng) for _ in range(POINTS)])
        wrong = missing(target, edges, z, rng)
        if not any(rows.size for rows in wrong):
            return edges
        if rounds == 0:
            rows = np.unique(np.concatenate(wrong))
            names = ", ".join(repr(target.space.free_names[i]) for i in rows[:5])
            raise UnsuitableError(
                coded(
                    "E223",
                    f"the pattern lacks entries of the Hessian of {target.name!r} in {rows.size} "
                    f"rows ({names}): couple more pairs, or leave the pattern to be found",
                )
            )
        rounds -= 1
        found = [_probe(target, x, rng) for x, rows in zip(z, wrong, strict=True) if rows.size]
        edges = _unique(np.concatenate([edges, *found], axis=1), target.dim)


def missing(
    target: Target, edges: np.ndarray, z: np.ndarray, rng: np.random.Generator
) -> list[np.ndarray]:
    """Rows in which a random product with the Hessian at each z differs from that on the pattern.

    Parameters
    ----------
    z
        Points, shape (n, d).
    """
    d = target.dim
    row, column = edges
    wrong = []
    for point, values in zip(z, hessians(target, edges, z, len(z)).values, strict=True):
        v = rng.standard_normal(d)
        image = hessian_times(target, point, v[None])[0]
        sums, sizes = values[:d] * v, np.abs(values[:d] * v)
        for a, b in ((row, column), (column, row)):
            terms = values[d:] * v[b]
            sums += np.bincount(a, terms, d)
            sizes += np.bincount(a, np.abs(terms), d)
        fine = np.abs(image - sums) <= AGREEMENT * (sizes + np.abs(image))
        wrong.append(np.flatnonzero(~fine))
    return wrong
