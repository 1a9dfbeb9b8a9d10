"""PyMC models as targets."""

from infimum.sources.pymc.source import from_pymc

__all__ = ["from_pymc"]
