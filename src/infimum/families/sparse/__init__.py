"""The family of Gaussians with a sparse precision."""

from infimum.families.sparse.sparse import Sparse

__all__ = ["Sparse"]
