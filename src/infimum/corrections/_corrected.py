"""The contract of corrections: draws from p*, with a verdict on each of their quantities."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import jax
import numpy as np
from jaxtyping import Float, PyTree

from infimum.answer.advice import quantity_names
from infimum.answer.resampling import converted
from infimum.base.deprecation import RenamedAttribute
from infimum.base.errors import coded_error
from infimum.base.seeds import SAMPLE_STREAM, Seed, generator
from infimum.checks.quantities import MOST_NOISE, MOST_UNKNOWN, heavy_share
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
    """Draws from p* that a correction made of a fit, with their verdicts.

    Attributes
    ----------
    fit
        The fit that was corrected.
    method
        Name of the correction.
    z
        Unconstrained draws of equal weight, shape (n, d); several chains stand one after another.
    noise
        Function of the values (n, k) of k quantities at these draws: the Monte Carlo standard
        errors of their means, shape (k,); NaN or infinite if they are not known.
    log_evidence
        log Z, if the correction estimates it.
    trusted
        Whether the correction as a whole can be believed.
    why
        The reason for `trusted`, in words.
    chains
        Number of chains in `z`; 1 if the draws are independent.
    numbers
        Numbers that describe how the correction went, by name.
    seconds
        Time that the correction took.
    attempts
        The corrections that were tried before this one, as (method, why it was not used).
    own_draws
        Whether `z` are draws of the fit's own proposal. They are never better trusted than the fit,
        as a whole and quantity by quantity.
    heaviest
        Function without arguments. It returns the largest share that one draw has of the variance
        of each quantity, shape (k,), and the limit of that share. By default those of `z`.
    """

    fit: Fit
    method: str
    z: Float[np.ndarray, "n d"] = field(repr=False)
    noise: Callable[[np.ndarray], np.ndarray] = field(repr=False)
    log_evidence: Estimate | None = None
    trusted: bool = True
    why: str = ""
    chains: int = 1
    numbers: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    attempts: tuple[tuple[str, str], ...] = ()
    own_draws: bool = False
    heaviest: Callable[[], tuple[np.ndarray, float]] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        assessment = self.fit.assessment
        doubt = assessment.doubt if self.own_draws else assessment.refusal
        if doubt:
            object.__setattr__(self, "trusted", False)
            if not self.why.startswith(doubt):
                object.__setattr__(self, "why", f"{doubt} {self.why}".strip())
        if assessment.refusal:
            object.__setattr__(self, "log_evidence", None)

    told = RenamedAttribute("numbers")
    tried = RenamedAttribute("attempts")

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
        """Exactly n constrained draws in random order; all of them by default.

        Parameters
        ----------
        n
            Number of draws.
        seed
            The same seed gives the same draws.
        backend
            Whose arrays to return.

        Raises
        ------
        ValueError
            If the correction has made fewer than n draws.
        """
        n = len(self) if n is None else n
        if not isinstance(n, int | np.integer) or not 1 <= n <= len(self):
            raise coded_error(
                ValueError,
                "E403",
                f"n is {n!r}; this correction made {len(self)} draws: correct the fit again "
                "with more",
            )
        chosen = generator(seed, SAMPLE_STREAM).permutation(len(self))[:n]
        picked = jax.tree_util.tree_map(lambda x: x[chosen], self.draws)
        return picked if backend == "numpy" else converted(picked, backend)

    def summary(self, names: Sequence[str] | None = None) -> pd.DataFrame:
        """A row for each scalar quantity.

        Returns
        -------
        DataFrame with columns mean, sd, 5%, 50%, 95%; mcse, the Monte Carlo standard error of the
        mean; moved, the difference to q's mean in sds; verdict. A quantity is "good" if mcse is at
        most 0.05 sd, no single draw makes up too much of the variance, and the correction as a
        whole can be believed; otherwise it is "unreliable".
        """
        import pandas as pd

        values = self._values
        low, middle, high = np.quantile(values, [0.05, 0.5, 0.95], axis=0)
        mean_of_q = self.fit.summary()["mean"].to_numpy()
        with np.errstate(divide="ignore", invalid="ignore"):
            moved = np.where(self._sd > 0, (values.mean(axis=0) - mean_of_q) / self._sd, 0.0)
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
        """The verdict of each scalar quantity, "good" or "unreliable", shape (k,)."""
        return np.where(self._known & ~self._heavy, "good", "unreliable")

    @functools.cached_property
    def _known(self) -> np.ndarray:
        """Which quantities have a known mean, shape (k,)."""
        with np.errstate(invalid="ignore"):
            known = (self._mcse <= MOST_NOISE * self._sd) | (self._sd == 0)
        known = self.trusted & known & np.isfinite(self._values).all(axis=0)
        return np.asarray(known & ~self.fit.assessment.doubted if self.own_draws else known)

    @functools.cached_property
    def _heavy(self) -> np.ndarray:
        """Which quantities have an unknown sd: too few draws make up too much of their variance."""
        if self.heaviest is not None:
            share, limit = self.heaviest()
            return np.asarray(share > limit)
        with np.errstate(invalid="ignore", divide="ignore"):
            square = (self._values - self._values.mean(axis=0)) ** 2
            largest = square.max(axis=0) / square.sum(axis=0)
            effective = np.clip((self._sd / self._mcse) ** 2, 1.0, len(self))
            heavy = largest > heavy_share(effective, int(self.fit.space.judged.sum()))
            # Chains stay in a tail for a while: then many draws share what one has seen.
            noise = self.noise(square) / (2 * square.mean(axis=0))
            return np.asarray(heavy | (noise > MOST_NOISE))

    @functools.cached_property
    def reason(self) -> str:
        """The reason for the verdict, in words."""
        heavy = np.flatnonzero(self._heavy & self.fit.space.judged)
        if not self.trusted or not len(heavy):
            return self.why
        names = quantity_names(self.fit.assessment, heavy)
        return f"{self.why} Few draws decide the sd of {names}, of {len(heavy)} in all."

    @functools.cached_property
    def verdict(self) -> Trust:
        """The verdict of all draws: "good" if every mean and at least 3 of 4 sds are known."""
        judged = self.fit.space.judged
        unknown = np.mean(self._heavy[judged]) > MOST_UNKNOWN
        good = self.trusted and bool(np.all(self._known[judged])) and not unknown
        return "good" if good else "unreliable"

    def to_arviz(
        self, *, posterior_predictive: bool = False, log_likelihood: bool = False
    ) -> xr.DataTree:
        """The draws as ArviZ's DataTree, chain by chain, with the groups of a sampler.

        Parameters
        ----------
        posterior_predictive, log_likelihood
            Whether to add these groups; as for `Fit.to_arviz`.
        """
        leaves = jax.tree_util.tree_leaves(self.draws)
        draws = {leaf.label: x for leaf, x in zip(self.fit.space.leaves, leaves, strict=True)}
        fit, flags = self.fit, (posterior_predictive, log_likelihood)
        groups = {"posterior": draws, **model_groups(fit.model, draws, fit.seed, *flags)}
        return tree(groups, fit.model, fit.family.name, self.chains)

    def __str__(self) -> str:
        lines = [
            f"{self.method} correction of {self.fit.name!r} ({self.fit.family.name}): "
            f"{len(self):,} draws in {self.seconds:.1f} s",
            f"  verdict   {self.verdict}. {self.reason}",
        ]
        if self.log_evidence is not None:
            lines.append(f"  log Z     {self.log_evidence}")
        lines += [f"  {name:<9} {value:.4g}" for name, value in self.numbers.items()]
        lines += [f"  tried     {name}: {why}" for name, why in self.attempts]
        return "\n".join(lines)
