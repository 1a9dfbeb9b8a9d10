"""Corrections: better answers from an imperfect q, each a function of a fit in its own file.

importance       resample draws by their importance weights
linear_response  correct the covariance of q, mean-field above all
mcmc             run short chains from draws of q, in q's coordinates
annealing        move particles from q to p* step by step, and estimate log Z
blocks           integrate each of thousands of groups on its own, given a few hubs
"""

from infimum.corrections.annealing import annealing
from infimum.corrections.blocks.blocks import blocks
from infimum.corrections.importance import importance
from infimum.corrections.linear_response import linear_response
from infimum.corrections.mcmc import mcmc

__all__ = ["annealing", "blocks", "importance", "linear_response", "mcmc"]
