"""A posterior of many rows as a target, stated by its prior and its likelihood: `infimum.Rows`."""

from infimum._rows import Rows

__all__ = ["Rows"]
