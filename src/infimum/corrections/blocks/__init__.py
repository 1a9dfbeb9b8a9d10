"""Correct a hierarchy block by block."""

from infimum.corrections.blocks.blocks import blocks

__all__ = ["blocks"]
