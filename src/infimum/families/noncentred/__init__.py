"""The family of Gaussians in non-centred coordinates."""

from infimum.families.noncentred.noncentred import Noncentred

__all__ = ["Noncentred"]
