"""The search of the nested family."""

from infimum.search.nested.nested import nested_optimum

__all__ = ["nested_optimum"]
