"""The solvers, which minimise KL[q ‖ p̂]. Each file or folder holds one.

`Solver` is the contract. `State` is what it knows of a start, `Info` what happened to the start,
`Reason` why the start stopped. Solvers are imported when they are first asked for.
"""

from infimum.solvers._registry import __dir__ as __dir__
from infimum.solvers._registry import __getattr__ as __getattr__
from infimum.solvers._registry import members, plan
from infimum.solvers._solver import Info, Reason, Solver, State

__all__ = [
    "FixedDraws",
    "FlowAdam",
    "GradientFree",
    "Info",
    "NaturalGradient",
    "Reason",
    "Solver",
    "SparseNewton",
    "State",
    "StochasticGradient",
    "StratifiedDraws",
    "SubspaceNewton",
    "members",
    "plan",
]
