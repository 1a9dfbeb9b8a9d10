"""Fixed draws of every component of a mixture."""

from infimum.solvers.stratified_draws.stratified_draws import StratifiedDraws

__all__ = ["StratifiedDraws"]
