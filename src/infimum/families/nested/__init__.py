"""Hierarchies that hang on few scales."""

from infimum.families.nested.nested import Nested

__all__ = ["Nested"]
