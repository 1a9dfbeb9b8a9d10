"""Pictures of a fit: q over p*, families, climbs, checks, predictions and sparsity."""

from infimum.plots import libraries as libraries
from infimum.plots.checks import plot_trace, plot_weights
from infimum.plots.climb import plot_climb
from infimum.plots.posterior import plot_families, plot_fit, plot_marginals
from infimum.plots.predictions import plot_predictions
from infimum.plots.ranks import plot_ranks
from infimum.plots.sparsity import plot_sparsity

__all__ = [
    "plot_climb",
    "plot_families",
    "plot_fit",
    "plot_marginals",
    "plot_predictions",
    "plot_ranks",
    "plot_sparsity",
    "plot_trace",
    "plot_weights",
]
