"""Sparse: Gaussians whose precision has the zeros of the target's Hessian."""

from __future__ import annotations

from typing import Any, ClassVar

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import scipy.sparse

from infimum.base.errors import UnsuitableError, coded_error
from infimum.base.memory import demand, total
from infimum.families._distribution import (
    LARGEST_DENSE,
    Distribution,
    Gaussian,
    NaturalGaussian,
    Rows,
    SparseGaussian,
)
from infimum.families._family import Adaptive, Family, Left, Promise
from infimum.families.sparse.fill import fill
from infimum.gaussian.sparse import Analysis, Layout, SparseFactor, inverse_entries
from infimum.gaussian.sparse_solve import solve, times_transposed
from infimum.structure.pattern import check_edges, find_edges
from infimum.target.target import Target

ENTRY_BYTES = 100
"""Bytes that a fit takes for each entry of the factor."""

MOST_FLOPS = 3e10
"""Most multiplications for a factor: a step takes several factors, and a fit a hundred steps."""

FLOPS_A_SECOND = 1e9
"""Multiplications a second of factorisation, measured on patterns that take 1e7 to 3e8."""


class Sparse(Adaptive):
    """Q = {N(m, Λ⁻¹)}: Λ is zero where the Hessian of log p̂ is zero everywhere.

    The precision of the best of all Gaussians is -E_q[∇²log p̂]. So the best member is the best
    full-rank Gaussian, at a cost that grows with the entries of a sparse factor. Models with
    conditional independences have such a Hessian: hierarchies, time series, crossed effects.

    Requires: a Hessian of log p̂ with zeros, by JAX or by differences of gradients, and the extra
    "sparse". It starts from a Gaussian.

    Parameters
    ----------
    edges
        Pairs of coordinates that the Hessian may couple, shape (2, n), if the user knows them; None
        finds them. In both cases they are checked against products with the Hessian.
    n_below
        Entries of the factor below its diagonal; 0 until the family has seen its target.
    """

    name: ClassVar[str] = "sparse"
    libraries: ClassVar[tuple[str, ...]] = ("asdex", "numba", "qdldl")
    extra: ClassVar[str] = "sparse"
    correlations: ClassVar[Any] = "coupled"
    edges: Any = None
    n_below: int = eqx.field(default=0, static=True)

    def adapted(self, target: Target, rng: np.random.Generator) -> Family:
        """The family with the pattern of this target's Hessian, found or checked.

        Raises
        ------
        UnsuitableError
            If the pattern lacks entries or has no zeros, or its factor is too large.
        """
        if self.edges is None:
            edges = find_edges(target, rng)
        else:
            edges = check_edges(target, self.edges, rng)
        return self.on(target.dim, edges)

    @classmethod
    def on(cls, dim: int, edges: np.ndarray) -> Sparse:
        """The family on this pattern, whatever target it came from.

        Raises
        ------
        UnsuitableError
            If its factor is too large.
        """
        _affordable(dim, edges)
        return cls(edges, len(Analysis.of(dim, edges).layout.rows))

    def init(self, mean: np.ndarray, scale: np.ndarray) -> GraphGaussian:
        """N(mean, diag(scale²)), with zeros where the pairs of `edges` may be coupled later."""
        mean = np.asarray(mean, float)
        edges = np.zeros((2, 0), np.int64) if self.edges is None else self.edges
        analysis = Analysis.of(len(mean), edges)
        return GraphGaussian(
            mean=mean,
            log_scale=np.log(np.asarray(scale, float))[analysis.layout.order],
            below=np.zeros(len(analysis.layout.rows)),
            edges=analysis.edges,
            **analysis.layout._asdict(),
        )

    def start_from(self, q: Distribution) -> GraphGaussian:
        """q itself if it has this pattern, else a Gaussian with q's conditional variances."""
        if isinstance(q, GraphGaussian):
            if self.edges is None or np.array_equal(q.edges, self.edges):
                return q
        elif not isinstance(q, Gaussian):
            raise coded_error(
                TypeError,
                "E202",
                f"sparse can start from a Gaussian, not from {type(q).__name__}: begin with init",
            )
        mean = np.asarray(q.mean)
        if isinstance(q, NaturalGaussian) and q.dim <= LARGEST_DENSE:
            return self._nearest(mean, np.linalg.inv(q.covariance()))
        return self.init(mean, np.sqrt(q.variance()))

    def _nearest(self, mean: np.ndarray, precision: np.ndarray) -> GraphGaussian:
        """The member with the precision's entries on the pattern, or on its diagonal."""
        plain = self.init(mean, 1 / np.sqrt(np.diag(precision)))
        row, column = plain.edges
        values = np.concatenate([np.diag(precision), precision[row, column]])
        return plain.placed(mean, values) or plain

    def from_arrays(self, arrays: dict[str, np.ndarray]) -> GraphGaussian:
        """From the leaves of `GraphGaussian`."""
        q = GraphGaussian(**arrays)
        q.check()
        return q

    def n_parameters(self, dim: int) -> int:
        """2d and the entries of the factor."""
        return 2 * dim + self.n_below

    def promise(self, left: Left, dim: int) -> Promise:
        """All of the correlation, if the Hessian is sparse; it takes seconds to find out."""
        return Promise(left.correlation, 5e3, 3.0 + 5e-4 * dim)


def _affordable(dim: int, edges: np.ndarray) -> None:
    """Raise UnsuitableError if the factor takes more memory or time than a fit can have."""
    available = total()
    most = 10**10 if available is None else available // ENTRY_BYTES
    needed = fill(dim, edges, most)
    more = "" if needed.complete else "more than "
    what = f"the factor of the sparse family, of {more}{needed.entries:,} entries at d = {dim:,},"
    demand(what, ENTRY_BYTES * needed.entries, 'try "lowrank"')
    if needed.flops > MOST_FLOPS:
        raise coded_error(
            UnsuitableError,
            "E222",
            f"{what} would take about {needed.flops / FLOPS_A_SECOND:,.0f} s to form, "
            'several times a step: the Hessian is sparse, but its factor is not. Try "lowrank"',
        )


class GraphGaussian(SparseGaussian):
    """N(mean, Λ⁻¹) with P Λ Pᵀ = C Cᵀ, C = (I + L) diag(exp(-log_scale)), L sparse.

    z = mean + Pᵀ C⁻ᵀ ε. `below` holds the entries of L; `order` is P, and `starts` and `rows` say
    where the entries stand, see `Layout`. `edges` are the entries of Λ below the diagonal that the
    Hessian may fill, in the target's order of coordinates; L has more.
    """

    mean: Any
    log_scale: Any
    below: Any
    order: Any
    starts: Any
    rows: Any
    edges: Any

    def check(self) -> None:
        """Raise ValueError unless the arrays belong together: they may come from a file."""
        d, n = len(self.mean), len(self.rows)
        shapes = {
            "mean": (d,),
            "log_scale": (d,),
            "below": (n,),
            "order": (d,),
            "starts": (d + 1,),
            "rows": (n,),
            "edges": (2, self.edges.shape[-1]),
        }
        for name, shape in shapes.items():
            if np.shape(getattr(self, name)) != shape:
                raise ValueError(f"{name} has shape {np.shape(getattr(self, name))}, not {shape}")
        columns = np.repeat(np.arange(d), np.maximum(np.diff(self.starts), 0))
        sound = (
            all(getattr(self, x).dtype.kind == "i" for x in ("order", "starts", "rows", "edges"))
            and np.array_equal(np.sort(self.order), np.arange(d))
            and self.starts[0] == 0
            and np.all(np.diff(self.starts) >= 0)
            and len(columns) == n
            and np.all((self.rows > columns) & (self.rows < d))
            and np.all((self.edges[1] >= 0) & (self.edges[0] > self.edges[1]))
            and np.all(self.edges[0] < d)
        )
        if not sound:
            raise ValueError("order, starts, rows and edges are not those of a sparse factor")

    @property
    def dim(self) -> int:
        """The dimension d."""
        return int(self.mean.shape[-1])

    @property
    def layout(self) -> Layout:
        """Where L has entries."""
        return Layout(self.order, self.starts, self.rows)

    def precision(self) -> np.ndarray:
        """Entries of Λ = Pᵀ C Cᵀ P: its diagonal, then those at `edges`."""
        d = self.dim
        lower = scipy.sparse.csc_matrix(
            (np.asarray(self.below), self.rows, self.starts), shape=(d, d)
        ) + scipy.sparse.eye_array(d, format="csc")
        scaled = lower.multiply(np.exp(-np.asarray(self.log_scale))).tocsr()
        place = np.argsort(self.order)
        matrix = (scaled @ scaled.T).tocsr()
        values = matrix.diagonal()[place]
        if not self.edges.size:
            return values
        row, column = place[self.edges]
        return np.concatenate([values, np.asarray(matrix[row, column]).ravel()])

    def placed(self, mean: np.ndarray, precision: np.ndarray) -> GraphGaussian | None:
        """The member with this mean and precision; None if that is not positive definite.

        Parameters
        ----------
        precision
            Its diagonal, then its entries at `edges`.
        """
        factor = Analysis.of(self.dim, self.edges).factor(precision)
        if factor is None or np.any(factor.pivots <= 0):
            return None
        log_scale = -0.5 * np.log(factor.pivots)
        return GraphGaussian(
            mean=mean,
            log_scale=log_scale,
            below=factor.below,
            edges=self.edges,
            **self.layout._asdict(),
        )

    def _numpy(self, x: Rows) -> bool:
        return isinstance(x, np.ndarray) and isinstance(self.below, np.ndarray)

    def spread(self, eps: Rows) -> Rows:
        """Pᵀ C⁻ᵀ ε."""
        xp = np if self._numpy(eps) else jnp
        x = solve(self.layout, self.below, xp.exp(self.log_scale) * eps, transposed=True)
        return x[..., xp.argsort(xp.asarray(self.order))]

    def pull_back(self, z: Rows) -> Rows:
        """ε = Cᵀ P (z - mean)."""
        xp = np if self._numpy(z) else jnp
        x = xp.asarray(z - self.mean)[..., xp.asarray(self.order)]
        return times_transposed(self.layout, self.below, x) * xp.exp(-self.log_scale)

    def log_det(self) -> Any:
        """Sum of the log scales."""
        return self.log_scale.sum()

    def whiten(self, score: np.ndarray) -> np.ndarray:
        """C⁻¹ P s."""
        x = solve(self.layout, np.asarray(self.below), score[..., self.order], transposed=False)
        return np.asarray(x * np.exp(self.log_scale))

    def pivots(self) -> np.ndarray:
        """exp(-2 log_scale)."""
        return np.exp(-2 * np.asarray(self.log_scale))

    def covariances(self) -> np.ndarray:
        """Entries of Λ⁻¹ on the diagonal and at the edges, by selected inversion."""
        analysis = Analysis.of(self.dim, self.edges)
        return analysis.inverse(SparseFactor(np.asarray(self.below), self.pivots()))

    def variance(self) -> np.ndarray:
        """Diagonal of Λ⁻¹ by selected inversion, which is exact and forms no d×d matrix."""
        out = np.empty(self.dim)
        below = np.asarray(self.below)
        out[self.order] = inverse_entries(self.layout, below, self.pivots())[0]
        return out
