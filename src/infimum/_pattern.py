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

import asdex
import jax
import jax.numpy as jnp
import numpy as np

from infimum._errors import coded
from infimum._family import UnsuitableError
from infimum._probe import probed
from infimum._program import Program, double_precision
from infimum._target import Target

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

HUBS = (8, 32, 128, 512)
"""Entries in a row above which a coordinate has a product of its own; the best of these is taken.
Without it greedy colours two hubs alike, and then needs a colour for each of their neighbours."""

_PRODUCTS: weakref.WeakKeyDictionary[Target, Program] = weakref.WeakKeyDictionary()
_HESSIANS: weakref.WeakKeyDictionary[Target, Hessian] = weakref.WeakKeyDictionary()


def products(target: Target) -> Program:
    """∇²log p̂(z) v for `AT_ONCE` vectors v, as a program of the point (z, v, v, …).

    Raises
    ------
    UnsuitableError
        If log p̂ has no second derivative in JAX.
    """
    target = target.plain
    if target not in _PRODUCTS:
        if not target.twice:
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


class Evaluated:
    """What a batch of points gives.

    Attributes
    ----------
    log_p, gradient
        Of each point, shapes (n,) and (n, d).
    values
        Sums of the Hessian's values over points of positive density, a group of points at a time:
        its diagonal, then an entry for each edge, shape (groups, d + n_edges).
    """

    def __init__(self, log_p: np.ndarray, gradient: np.ndarray, values: np.ndarray) -> None:
        self.log_p, self.gradient, self.values = log_p, gradient, values


class Hessian:
    """log p̂, its gradient and its Hessian on a pattern, as one compiled program.

    Parameters
    ----------
    edges
        Pairs (row > column) that the Hessian couples, shape (2, n).
    """

    def __init__(self, target: Target, edges: np.ndarray) -> None:
        d = target.dim
        self.edges = edges
        colours = coloured(d, edges)
        self.n_colours = int(colours.max()) + 1
        colour, place = _readable(d, edges, colours)
        function = target.program.function()
        with double_precision():
            shared, which, where = (jnp.asarray(x) for x in (colours, colour, place))

        def at(z: Any) -> Any:
            (log_p, gradient), push = jax.linearize(function, z)
            image = lambda c: push((shared == c).astype(z.dtype))[1]  # noqa: E731
            images = jax.lax.map(image, jnp.arange(self.n_colours))
            return log_p, gradient, images[which, where]

        self.program = Program(at, d)

    def __call__(self, z: np.ndarray, groups: int = 1) -> Evaluated:
        """Evaluate at each row of z (n, d), the Hessian summed over n/groups rows at a time."""
        n, width = len(z), self.program.width
        log_p, gradient = np.empty(n), np.empty(z.shape)
        d = z.shape[1]
        values = np.zeros((groups, d + self.edges.shape[1]))
        for start in range(0, n, width):
            rows = slice(start, min(n, start + width))
            log_p[rows], gradient[rows], found = self.program(z[rows])
            for offset, value in enumerate(found):
                if log_p[start + offset] > -np.inf:
                    values[(start + offset) * groups // n] += value
        return Evaluated(log_p, gradient, values)


def hessian_on(target: Target, edges: np.ndarray) -> Hessian:
    """The program of this target and pattern; one is kept for each target."""
    target = target.plain
    kept = _HESSIANS.get(target)
    if kept is None or not np.array_equal(kept.edges, edges):
        kept = _HESSIANS[target] = Hessian(target, edges)
    return kept


def hessians(target: Target, edges: np.ndarray, z: np.ndarray, groups: int = 1) -> Evaluated:
    """log p̂, its gradient and its Hessian on a pattern at each row of z (n, d).

    The Hessian is summed over n/groups rows at a time.
    """

    def compute() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        found = hessian_on(target, edges)(z, groups)
        return found.log_p, found.gradient, found.values

    asked = lambda: (edges, z, groups)  # noqa: E731
    return Evaluated(*target.recall("Hessians", asked, (0, 0, 0), compute))


def coloured(dim: int, edges: np.ndarray) -> np.ndarray:
    """A colour for each coordinate, such that products of colours hold every entry on its own."""
    degree = np.bincount(edges.ravel(), minlength=dim)
    best = None
    seen: set[int] = set()
    for most in HUBS:
        hubs = np.flatnonzero(degree > most)
        if len(hubs) in seen:
            continue
        seen.add(len(hubs))
        colours = _greedy(dim, edges[:, (degree[edges] <= most).all(axis=0)])
        colours[hubs] = 1 + colours.max() + np.arange(len(hubs))
        colours = np.unique(colours, return_inverse=True)[1]
        if best is None or colours.max() < best.max():
            best = colours
    assert best is not None
    return best


def _greedy(dim: int, edges: np.ndarray) -> np.ndarray:
    """Star colouring (Gebremedhin, Tarafdar, Manne & Pothen 2007), by asdex."""
    itself = np.arange(dim)
    rows = np.concatenate([itself, edges[0], edges[1]]).astype(np.int32)
    columns = np.concatenate([itself, edges[1], edges[0]]).astype(np.int32)
    order = np.lexsort((columns, rows))
    pattern = asdex.SparsityPattern(rows[order], columns[order], (dim, dim))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", asdex.DenseColoringWarning)
        return np.asarray(asdex.color_symmetric(pattern)[0], np.int64)


def _readable(dim: int, edges: np.ndarray, colours: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which colour's product holds each entry alone, and at which coordinate.

    Entry (i, j) stands in the product of j's colour at i unless i is coupled to another coordinate
    of that colour; then it stands in that of i's colour at j.
    """
    itself = np.arange(dim)
    n = int(colours.max()) + 1
    rows = np.concatenate([itself, edges[0], edges[1]])
    columns = np.concatenate([itself, edges[1], edges[0]])
    cells = rows * n + colours[columns]
    _, back, counts = np.unique(cells, return_inverse=True, return_counts=True)
    alone = counts[back] == 1
    size = edges.shape[1]
    own, there, mirrored = alone[:dim], alone[dim : dim + size], alone[dim + size :]
    if not (own.all() and (there | mirrored).all()):
        raise AssertionError("colours that hold two entries in one place")
    colour = np.where(there, colours[edges[1]], colours[edges[0]])
    place = np.where(there, edges[0], edges[1])
    return np.concatenate([colours, colour]), np.concatenate([itself, place])
