"""Checks of a fit from arrays alone: log weights, draws and ranks go in, numbers come out."""

from infimum.checks import quantities, uniformity, weights

__all__ = ["quantities", "uniformity", "weights"]
