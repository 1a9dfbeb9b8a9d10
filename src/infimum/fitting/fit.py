"""The fit: an answer that can be printed, plotted, saved, reported, and given to ArviZ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from infimum.answer import file, printed
from infimum.answer.answer import Answer
from infimum.answer.resampling import some_points
from infimum.answer.samplers import MOST_MASS, MOST_STARTS, Inits, inits, inverse_mass_matrix
from infimum.base.errors import coded_error
from infimum.base.extras import required
from infimum.base.seeds import Seed
from infimum.target.datatree import model_groups, tree

if TYPE_CHECKING:
    import xarray as xr


@dataclass(frozen=True, eq=False)
class Fit(Answer):
    """The q of a family that is nearest to a target, how near it is, and what to do with it.

    The numbers and draws are those of `infimum.answer.answer.Answer`, the attributes too.
    """

    def to_arviz(
        self,
        n: int | None = None,
        *,
        posterior_predictive: bool = False,
        log_likelihood: bool = False,
    ) -> xr.DataTree:
        """The check draws as ArviZ's DataTree, with the groups that a sampler would give.

        Parameters
        ----------
        n
            How many of the check draws; all by default.
        posterior_predictive, log_likelihood
            Whether to add these groups: a draw of each observed site, and log p(x_n | z) of each
            observation, for each draw. For fits of a model, not of a bare log density.

        Returns
        -------
        Group `posterior` with dims (chain = 1, draw, ...), named and labelled as the model names
        them; `sample_stats` with log p̂ as `lp`, `log_q` and `log_weight`; `observed_data` and
        `constant_data` where the model is known. The draws are independent: R-hat, which compares
        chains, is NaN, and ESS is their number. They are q's: for leave-one-out see `loo`, which
        corrects for that.
        """
        n = self.n_draws if n is None else min(n, self.n_draws)
        draws = dict(
            zip(self._labels, jax.tree_util.tree_leaves(self.weighed.constrained(n)), strict=True)
        )
        stats = {"lp": self.log_p, "log_q": self.log_q, "log_weight": self.log_p - self.log_q}
        sampled: dict[str, Mapping[str, np.ndarray]] = {
            "posterior": draws,
            "sample_stats": {k: x[:n] for k, x in stats.items()},
        }
        sampled |= model_groups(self.model, draws, self.seed, posterior_predictive, log_likelihood)
        return tree(sampled, self.model, self.family.name)

    def loo(self, *, pointwise: bool | None = None, var_name: str | None = None) -> Any:
        """Leave-one-out predictive density, by ArviZ, from q's draws and corrected for q.

        Magnusson et al. (2019): Pareto-smoothed weights p(z | all but n)/q(z) in the place of those
        from posterior draws.

        Parameters
        ----------
        pointwise, var_name
            As for `arviz_stats.loo`: whether to keep each observation's, and which observed site.

        Returns
        -------
        ArviZ's ELPDData, for `arviz_stats.compare` too; its `pareto_k` says of which observations
        the estimate is not to be trusted.

        Raises
        ------
        ValueError
            If the target is a bare log density, which does not tell observations apart.
        """
        required("arviz_base", "arviz")
        loo = required("arviz_stats.loo", "arviz").loo_approximate_posterior
        tree = self.to_arviz(log_likelihood=True)
        stats = tree["sample_stats"]
        log_p, log_q = stats["lp"].to_numpy().ravel(), stats["log_q"].to_numpy().ravel()
        return loo(tree, log_p, log_q, pointwise, var_name)

    @property
    def _labels(self) -> list[str]:
        return [leaf.label for leaf in self.space.leaves]

    # ---- for samplers --------------------------------------------------------------------------

    def inits(self, chains: int = 4, *, seed: Seed = 0) -> Inits:
        """Distinct points with a finite density and gradient, where chains of a sampler may start.

        Draws from p* as far as weights can tell, where the verdict is not "unreliable"; else from
        q.

        Raises
        ------
        ValueError
            If chains is not positive, or p̂ is zero or undefined at nearly all draws.
        """
        if not isinstance(chains, int | np.integer) or chains < 1:
            raise coded_error(
                ValueError, "E302", f"chains is {chains!r}, expected a positive number of chains"
            )
        weighted = self.verdict != "unreliable"
        n = MOST_STARTS * int(chains)
        z = some_points(self.weighed, self.target, n, seed, weighted)
        return inits(z, int(chains), self.space, self.target)

    def inverse_mass_matrix(self, dense: bool | None = None) -> np.ndarray:
        """Covariance of the unconstrained coordinates, for samplers that take one.

        Parameters
        ----------
        dense
            Whether a matrix (d, d) or its diagonal (d,); by default dense up to d = 200, but for
            families of independent coordinates.
        """
        d, independent = self.q.dim, self.family.correlations == "none"
        dense = (d <= MOST_MASS and not independent) if dense is None else dense
        weighted = self.trusted and self.constrains
        return inverse_mass_matrix(
            self.q,
            dense,
            lambda n: some_points(self.weighed, self.target, n, self.seed, weighted),
        )

    # ---- files and faces -----------------------------------------------------------------------

    def save(self, path: str | Path) -> Path:
        """Write a zip of plain arrays and JSON that `infimum.load` reads without the model."""
        return file.save(self, Path(path))

    def plot(self, names: Sequence[str] | None = None, **options: Any) -> Any:
        """Q's contours over reweighted draws, for each pair of quantities; see `infimum.plots`."""
        from infimum.plots.posterior import plot_fit

        return plot_fit(self, names, **options)

    def report(self, path: str | Path, *, title: str | None = None) -> Path:
        """Write one HTML file that says how near q is, in words, numbers and pictures.

        Parameters
        ----------
        path
            The file; it needs no network, and one that is there is replaced.
        title
            Of the page; by default what the target is called.
        """
        from infimum.report.page import write

        return write(self, Path(path), title)

    def rows(self) -> list[tuple[str, str]]:
        """What `print` shows, as (label, text)."""
        return printed.rows(self)

    def text(self, width: int = printed.WIDTH) -> str:
        """What `print` shows, in so many columns."""
        return printed.text(self, width)

    def __str__(self) -> str:
        return self.text()

    def _repr_html_(self) -> str:
        return printed.table(self)


def load(path: str | Path) -> Fit:
    """Read a fit that `Fit.save` wrote: it samples and reports without the model or its data.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is not such a file, is damaged, or has another version; nothing in it is executed.
    """
    return Fit(**file.read(path))
