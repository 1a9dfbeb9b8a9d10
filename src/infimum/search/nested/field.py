"""The field x given the scales θ: a Gaussian at the mode of x, found from gradients alone."""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
import scipy.sparse
from jaxtyping import Float, Int

from infimum.families.nested.groups import Groups
from infimum.families.nested.nested import aside
from infimum.families.nested.precision import NONE, Precision, SparseFields
from infimum.gaussian.stack import LOG_2PI
from infimum.search.nested.modes import Modes
from infimum.structure.colours import colouring
from infimum.structure.hessian import Evaluated, differenced
from infimum.structure.roles import log_det_slopes
from infimum.target.target import Target

FORWARD_STEP = 1e-6
"""Step of the differences that give H, in sds of the field at the rough fit. On seven hierarchies
of up to 387 effects log |H| changed by at most 1.5e-4 with ten times the step, and by 2e-5 with a
tenth."""

LONGEST_MOVE = 10.0
"""Longest part of one Newton step, in units of the factor of H: sds given the later coordinates."""

MOST_MOVES = 12
"""Most moves whose outer products are H⁻¹ where H has entries. Where it takes more, so many random
ones stand for them: the means that they move have then as many effective draws of 1,000 (616
instead of 600 of five crossed effects)."""

MOST_EXACT = 1024
"""The same where they may not be random: for the slopes of the marginal, which random moves leave
8 % off."""

MOST_SUPPORTS = 2_000_000
"""Most entries of the inverse factor for which exact moves are looked for."""

LARGEST_CHUNK = 2**22
"""Numbers in the points that are evaluated together: 32 MB."""


class Field(SparseFields):
    """x given θ, for any θ.

    Parameters
    ----------
    theta, rest
        The coordinates of θ and of x in z, shapes (h,) and (k,).
    edges
        Pairs (row > column) of x, by their places in `rest`, that H couples, shape (2, m).
    scale
        Typical sizes of x, shape (k,).
    soft
        The weights a of a soft constraint of x, shape (k,), or none, shape (0,).
    """

    def __init__(
        self,
        target: Target,
        theta: Int[np.ndarray, " h"],
        rest: Int[np.ndarray, " k"],
        edges: Int[np.ndarray, "2 m"],
        scale: Float[np.ndarray, " k"],
        soft: Float[np.ndarray, " s"] = NONE,
    ) -> None:
        super().__init__(len(rest), edges, soft)
        self.target, self.theta, self.rest, self.scale = target, theta, rest, scale
        weights = np.zeros(target.dim)
        if soft.size:
            weights[rest] = soft
        self._weights = weights
        self._freed = target.freed(weights, 0 * weights) if soft.size else target
        self.n_gradients, self.most_gradients = 0, np.inf
        self.pause: Callable[[int], None] = lambda n_gradients: None
        self.colouring = colouring(len(rest), edges)

    def evaluate(self, z: Float[np.ndarray, "n d"]) -> tuple[np.ndarray, np.ndarray]:
        """log p̂ and its gradient without the soft constraint, counted.

        `pause` is called with the count before.

        Raises
        ------
        UnsuitableError
            If there is a limit, and it is passed.
        """
        self.count(len(z))
        return self._freed.value_and_gradient(z)

    def count(self, n: int) -> None:
        """Note so many evaluations."""
        self.pause(self.n_gradients)
        self.n_gradients += n
        if self.n_gradients > self.most_gradients:
            raise aside(self.target, f"its search took more than {self.most_gradients:,} gradients")

    def gradients_at(self, z: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n d"]:
        """The gradient of log p̂, counted."""
        return self._held(z, self.evaluate(z)[1])

    def _held(
        self, z: Float[np.ndarray, "n d"], gradient: Float[np.ndarray, "n d"]
    ) -> Float[np.ndarray, "n d"]:
        """The gradient with the soft constraint's own."""
        return gradient - (z @ self._weights)[:, None] * self._weights

    def place(
        self, theta: Float[np.ndarray, "n h"], x: Float[np.ndarray, "n k"]
    ) -> Float[np.ndarray, "n d"]:
        """Points of θ and x."""
        z = np.empty((len(theta), self.target.dim))
        z[:, self.theta], z[:, self.rest] = theta, x
        return z

    def look(self, z: Float[np.ndarray, "n d"]) -> Modes:
        """log p̂, its gradient and the precision of x at each point, wherever x is."""
        evaluated = self.curved(z)
        return Modes(z, evaluated.log_p, evaluated.gradient, self.factors(evaluated.values))

    def curved(self, z: Float[np.ndarray, "n d"]) -> Evaluated:
        """log p̂, its gradient and the values of H at each point, without the constraint's own."""
        step = np.broadcast_to(FORWARD_STEP * self.scale, (len(z), len(self.rest)))
        evaluated = differenced(self.evaluate, self.colouring, z, step, self.rest)
        log_p = evaluated.log_p - 0.5 * (z @ self._weights) ** 2
        return Evaluated(log_p, self._held(z, evaluated.gradient), -evaluated.values)

    def step(self, modes: Modes) -> Float[np.ndarray, "n k"]:
        """The Newton step of x, no part of it longer than `LONGEST_MOVE`."""
        slope = modes.gradient[:, self.rest]
        step = self.inverse_times(modes.precision, np.where(np.isfinite(slope), slope, 0.0))
        longest = np.abs(self.base(modes.precision, step)).max(axis=1, keepdims=True)
        return np.asarray(step / np.maximum(1.0, longest / LONGEST_MOVE))

    def gain(self, modes: Modes) -> Float[np.ndarray, " n"]:
        """Nats that a whole Newton step would gain if log p̂ were quadratic in x."""
        slope = modes.gradient[:, self.rest]
        return np.asarray(0.5 * (slope * self.inverse_times(modes.precision, slope)).sum(axis=1))

    def laplace(self, modes: Modes) -> Float[np.ndarray, " n"]:
        """Laplace's log ∫ p̂(θ, x) dx, if x is at its mode."""
        half = 0.5 * len(self.rest) * LOG_2PI
        return np.asarray(modes.log_p - 0.5 * modes.precision.log_det() + half)

    def moves(
        self, precision: Precision, probes: Float[np.ndarray, "m k"] | None = None
    ) -> Float[np.ndarray, "n m d"]:
        """Moves v of x with Σ_v v vᵀ = H⁻¹ where H has entries, as points of R^d.

        Parameters
        ----------
        probes
            The moves in units of the factor; by default `probes`.
        """
        probes = self.probes if probes is None else probes
        out = np.zeros((len(precision.pivots), len(probes), self.target.dim))
        for i, probe in enumerate(probes):
            eps = np.broadcast_to(probe, precision.pivots.shape)
            out[:, i, self.rest] = self.spread(precision, eps)
        return out

    def random_move(
        self, precision: Precision, rng: np.random.Generator
    ) -> Float[np.ndarray, "n d"]:
        """A move of covariance H⁻¹ at each mode, from the same random signs."""
        signs = rng.choice([-1.0, 1.0], len(self.rest))
        move = self.spread(precision, np.broadcast_to(signs, precision.pivots.shape))
        if self.soft.size:
            error = np.full(len(move), rng.choice([-1.0, 1.0]))
            move = self.constrained(precision, move, error)
        return self.place(np.zeros((len(move), len(self.theta))), move)

    def log_det_slopes(
        self, modes: Modes, probes: Float[np.ndarray, "m k"] | None = None
    ) -> Float[np.ndarray, "n d"]:
        """Slopes of log |H| at each mode; 0 where they are not finite."""
        probes = self.probes if probes is None else probes
        out = np.empty(modes.z.shape)
        size = max(1, LARGEST_CHUNK // (len(probes) * self.target.dim))
        for start in range(0, len(out), size):
            part = modes.of(slice(start, start + size))
            moves = self.moves(part.precision, probes)
            slopes = log_det_slopes(self.gradients_at, part.z, moves, part.gradient)
            if self.soft.size:  # H⁻¹ is less by the outer product of one more move
                move = np.zeros((len(part.z), 1, self.target.dim))
                root = np.sqrt(part.precision.stiffness)[:, None]
                move[:, 0, self.rest] = part.precision.across / root
                slopes -= log_det_slopes(self.gradients_at, part.z, move, part.gradient)
            out[start : start + size] = slopes
        return np.where(np.isfinite(out), out, 0.0)

    def pull(self, modes: Modes, slopes: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n k"]:
        """How far the mean of x is from here: the Newton step, and -½ H⁻¹ t for its skew.

        To the first order this minimises the KL (van Niekerk & Rue 2021).
        """
        towards = modes.gradient[:, self.rest] - 0.5 * slopes[:, self.rest]
        return self.inverse_times(modes.precision, np.where(np.isfinite(towards), towards, 0.0))

    @functools.cached_property
    def groups(self) -> Groups | None:
        """The groups that meet none but each other; None if one is too large."""
        return Groups.of(len(self.rest), self.edges, self.analysis.layout.order)

    @functools.cached_property
    def probes(self) -> Float[np.ndarray, "m k"]:
        """What the moves are in units of the factor: columns that don't meet share one.

        Two columns of the inverse factor don't meet if no entry of H lies between their supports:
        the third derivative along both is then zero.
        """
        exact = self._apart(MOST_MOVES)
        if exact is not None:
            return exact
        rng = np.random.default_rng(0)
        return rng.choice([-1.0, 1.0], (MOST_MOVES, len(self.rest))) / np.sqrt(MOST_MOVES)

    @functools.cached_property
    def exact_probes(self) -> Float[np.ndarray, "m k"] | None:
        """The same, where they may not be random; None if that takes too many."""
        return self._apart(MOST_EXACT)

    def _apart(self, most: int) -> Float[np.ndarray, "m k"] | None:
        """Probes, each of columns of the inverse factor that don't meet; None above so many."""
        k, edges = len(self.rest), self.edges
        if not edges.size:
            return np.ones((1, k))
        columns = self._supports()
        if columns is None:
            return None
        ones = np.ones(edges.shape[1])
        below = scipy.sparse.csr_array((ones, (edges[0], edges[1])), shape=(k, k))
        coupled = below + below.T + scipy.sparse.eye_array(k, format="csr")
        meet = (columns @ coupled @ columns.T).tocsr()
        group = np.full(k, -1)
        for j in np.argsort(-np.diff(meet.indptr), kind="stable"):
            taken = set(group[meet.indices[meet.indptr[j] : meet.indptr[j + 1]]].tolist())
            group[j] = next(c for c in range(k + 1) if c not in taken)
            if group[j] >= most:
                return None
        return (group == np.arange(group.max() + 1)[:, None]).astype(float)

    def _supports(self) -> scipy.sparse.csr_array | None:
        """Row j: the coordinates of x in column j of (I + L)⁻ᵀ; None if they are too many."""
        k, layout = len(self.rest), self.analysis.layout
        columns = np.repeat(np.arange(k), np.diff(layout.starts))
        above = scipy.sparse.csr_array(
            (np.ones(len(columns)), (layout.rows, columns)), shape=(k, k)
        )
        reached = scipy.sparse.eye_array(k, format="csr")
        while True:
            # Whatever a column reaches, the columns of L that end in it reach as well.
            further = (reached + reached @ above).tocsr()
            further.data[:] = 1.0
            if further.nnz == reached.nnz:
                break
            if further.nnz > MOST_SUPPORTS:
                return None
            reached = further
        return reached[:, np.argsort(layout.order)].tocsr()
