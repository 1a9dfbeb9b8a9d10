"""The solvers, which minimise KL[q ‖ p̂]. Each file or folder holds one."""

from infimum.solvers._registry import (
    __dir__,
    __getattr__,
    members,
    plan,
)

__all__ = ["__dir__", "__getattr__", "members", "plan"]
