"""Gaussians whose precision has the zeros of the target's Hessian."""

from infimum.families.sparse.sparse import Sparse

__all__ = ["Sparse"]
