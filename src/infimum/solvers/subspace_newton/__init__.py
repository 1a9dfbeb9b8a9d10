"""Gaussians moved in subspaces."""

from infimum.solvers.subspace_newton.subspace_newton import SubspaceNewton

__all__ = ["SubspaceNewton"]
