"""The correction of hierarchies, group by group given a few hubs."""

from infimum.corrections.blocks.blocks import blocks

__all__ = ["blocks"]
