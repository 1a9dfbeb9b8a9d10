"""NumPyro models as targets."""

from infimum.sources.numpyro.source import from_numpyro

__all__ = ["from_numpyro"]
