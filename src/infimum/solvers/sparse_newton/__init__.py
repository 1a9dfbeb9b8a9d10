"""Newton steps on the expected Hessian, on a sparse pattern."""

from infimum.solvers.sparse_newton.sparse_newton import SparseNewton

__all__ = ["SparseNewton"]
