"""What a correction returns: draws from p*, and how far each quantity of theirs can be believed."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import jax
import numpy as np
from jaxtyping import Float, PyTree

from infimum.answer.advice import quantity_names
from infimum.answer.assessment import MOST_UNKNOWN
from infimum.answer.resampling import converted
from infimum.base.errors import coded
from infimum.base.seeds import SAMPLE_STREAM, Seed, generator
from infimum.checks.quantities import MOST_NOISE, heavy_share
from infimum.checks.weights import Estimate
from infimum.fitting.fit import Fit
from infimum.target.datatree import model_groups, tree
from infimum.target.space import columns

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr


Trust = Literal["good", "unreliable"]


@dataclass(frozen=True, eq=False)
class Corrected:
    """Draws from p*, as near as a correction of a fit comes.

    Attributes
    ----------
    fit
        What was corrected.
    method
        Name of the correction.
    z
        Unconstrained draws of equal weight, shape (n, d); of several chains one after another.
    noise
        Function of the values (n, k) of k quantities at these draws: Monte Carlo standard errors
        of their means, shape (k,); NaN or inf where nothing is known.
    log_evidence
        log Z, where the correction finds it.
    trusted
        Whether the method as a whole can be believed.
    why
        What speaks for that, or against, in words.
    chains
        How many chains `z` consists of; 1 for independent draws.
    told
        Numbers that the method has to tell, by name.
    seconds
        What it took.
    tried
        (method, why not) of those that were tried before this one.
    """

    fit: Fit
    method: str
    z: Float[np.ndarray, "n d"] = field(repr=False)
    noise: Callable[[np.ndarray], np.ndarray] = field(repr=False)
    log_evidence: Estimate | None = None
    trusted: bool = True
    why: str = ""
    chains: int = 1
    told: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    tried: tuple[tuple[str, str], ...] = ()

    def __len__(self) -> int:
        return len(self.z)

    @functools.cached_property
    def draws(self) -> PyTree:
        """Every constrained draw, in the order of `z`."""
        return self.fit.space.draws(self.z)

    @functools.cached_property
    def _values(self) -> Float[np.ndarray, "n k"]:
        return columns(self.draws)

    def sample(
        self,
        n: int | None = None,
        *,
        seed: Seed = 0,
        backend: Literal["numpy", "jax", "torch"] = "numpy",
    ) -> PyTree:
        """Exactly n constrained draws, in random order; all of them by default.

        Raises
        ------
        ValueError
            If there are not so many: a correction's draws can't be added to.
        """
        n = len(self) if n is None else n
        if not isinstance(n, int | np.integer) or not 1 <= n <= len(self):
            raise ValueError(
                coded(
                    "E403",
                    f"n is {n!r}; this correction made {len(self)} draws: correct the fit again "
                    "with more",
                )
            )
        chosen = generator(seed, SAMPLE_STREAM).permutation(len(self))[:n]
        picked = jax.tree_util.tree_map(lambda x: x[chosen], self.draws)
        return picked if backend == "numpy" else converted(picked, backend)

    def summary(self, names: Sequence[str] | None = None) -> pd.DataFrame:
        """A row for each scalar quantity.

        Returns
        -------
        DataFrame with columns mean, sd, 5%, 50%, 95%; mcse, the Monte Carlo standard error of the
        mean; moved, the difference to q's mean in sds; verdict, "good" where mcse is at most 0.05
        sd, no draw makes up too much of the variance, and the method can be believed, else
        "unreliable".
        """
        import pandas as pd

        values = self._values
        low, middle, high = np.quantile(values, [0.05, 0.5, 0.95], axis=0)
        own = self.fit.summary()["mean"].to_numpy()
        with np.errstate(divide="ignore", invalid="ignore"):
            moved = np.where(self._sd > 0, (values.mean(axis=0) - own) / self._sd, 0.0)
        table = pd.DataFrame(
            {
                "mean": values.mean(axis=0),
                "sd": self._sd,
                "5%": low,
                "50%": middle,
                "95%": high,
                "mcse": self._mcse,
                "moved": moved,
                "verdict": self.verdicts,
            },
            index=self.fit.space.names,
        )
        return table if names is None else table.iloc[self.fit.positions(names)]

    @functools.cached_property
    def _sd(self) -> np.ndarray:
        return np.asarray(self._values.std(axis=0, ddof=1))

    @functools.cached_property
    def _mcse(self) -> np.ndarray:
        return np.asarray(self.noise(self._values))

    @functools.cached_property
    def verdicts(self) -> np.ndarray:
        """Of each scalar quantity: "good" or "unreliable"."""
        return np.where(self._known & ~self._heavy, "good", "unreliable")

    @functools.cached_property
    def _known(self) -> np.ndarray:
        """Of which quantities the mean is known."""
        with np.errstate(invalid="ignore"):
            known = (self._mcse <= MOST_NOISE * self._sd) | (self._sd == 0)
        return np.asarray(self.trusted & known & np.isfinite(self._values).all(axis=0))

    @functools.cached_property
    def _heavy(self) -> np.ndarray:
        """Where one draw makes up so much of the variance that the sd is not known."""
        with np.errstate(invalid="ignore", divide="ignore"):
            square = (self._values - self._values.mean(axis=0)) ** 2
            largest = square.max(axis=0) / square.sum(axis=0)
            effective = np.clip((self._sd / self._mcse) ** 2, 1.0, len(self))
            return np.asarray(largest > heavy_share(effective))

    @functools.cached_property
    def reason(self) -> str:
        """What speaks for the verdict, or against, in words."""
        heavy = np.flatnonzero(self._heavy & self.fit.space.judged)
        if not self.trusted or not len(heavy):
            return self.why
        names = quantity_names(self.fit.assessment, heavy)
        return f"{self.why} Few draws decide the sd of {names}, of {len(heavy)} in all."

    @functools.cached_property
    def verdict(self) -> Trust:
        """Of the draws as a whole: "good" if every mean is known, and at least 3 sds of 4."""
        judged = self.fit.space.judged
        unknown = np.mean(self._heavy[judged]) > MOST_UNKNOWN
        good = self.trusted and bool(np.all(self._known[judged])) and not unknown
        return "good" if good else "unreliable"

    def to_arviz(
        self, *, posterior_predictive: bool = False, log_likelihood: bool = False
    ) -> xr.DataTree:
        """As ArviZ's DataTree, chain by chain, with the groups that a sampler would give.

        Parameters
        ----------
        posterior_predictive, log_likelihood
            Whether to add these groups; as for `Fit.to_arviz`.
        """
        leaves = jax.tree_util.tree_leaves(self.draws)
        draws = {leaf.label: x for leaf, x in zip(self.fit.space.leaves, leaves, strict=True)}
        fit, asked = self.fit, (posterior_predictive, log_likelihood)
        groups = {"posterior": draws, **model_groups(fit.model, draws, fit.seed, *asked)}
        return tree(groups, fit.model, fit.family.name, self.chains)

    def __str__(self) -> str:
        lines = [
            f"{self.method} correction of {self.fit.name!r} ({self.fit.family.name}): "
            f"{len(self):,} draws in {self.seconds:.1f} s",
            f"  verdict   {self.verdict}. {self.reason}",
        ]
        if self.log_evidence is not None:
            lines.append(f"  log Z     {self.log_evidence}")
        lines += [f"  {name:<9} {value:.4g}" for name, value in self.told.items()]
        lines += [f"  tried     {name}: {why}" for name, why in self.tried]
        return "\n".join(lines)
