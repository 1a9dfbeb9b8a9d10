"""Stan programs as targets."""

from infimum.sources.stan.source import from_stan

__all__ = ["from_stan"]
