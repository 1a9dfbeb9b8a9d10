"""Gaussians in partially non-centred coordinates of a hierarchy."""

from infimum.families.noncentred.noncentred import Noncentred

__all__ = ["Noncentred"]
