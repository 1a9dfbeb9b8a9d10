"""The families Q. Each file or folder holds one; a new family is a new file."""

from infimum.families._registry import (
    __dir__,
    __getattr__,
    family_of,
    members,
    named,
)

__all__ = ["__dir__", "__getattr__", "family_of", "members", "named"]
