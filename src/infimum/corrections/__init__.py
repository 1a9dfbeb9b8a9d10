"""Better answers from an imperfect q: each is a function of a fit, in a file of its own.

importance       draws resampled by their importance weights
linear_response  covariances of a mean-field q, or of any optimum on fixed draws
mcmc             chains from q's draws, in q's coordinates
annealing        particles moved from q to p*, with log Z
blocks           hierarchies of thousands of groups, each group corrected on its own
"""

from infimum.corrections.annealing import annealing
from infimum.corrections.blocks.blocks import blocks
from infimum.corrections.importance import importance
from infimum.corrections.linear_response import linear_response
from infimum.corrections.mcmc import mcmc

__all__ = ["annealing", "blocks", "importance", "linear_response", "mcmc"]
