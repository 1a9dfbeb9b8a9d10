"""Newton steps from the curvature's diagonal and few of its directions."""

from infimum.solvers.subspace_newton.subspace_newton import SubspaceNewton

__all__ = ["SubspaceNewton"]
