"""Gaussians moved in subspaces."""

from infimum.solvers.subspace.subspace import Subspace

__all__ = ["Subspace"]
