"""A fit: q, and what is known of its distance from the posterior."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import jax
import numpy as np
from jaxtyping import Float, PyTree

from infimum.answer import advice as advice_text
from infimum.answer.expectation import Expectation, expectation
from infimum.answer.initial import MOST_MASS, MOST_STARTS, Inits, inits, inverse_mass_matrix
from infimum.answer.proposal import Proposal
from infimum.answer.record import Route, StartReport, Work
from infimum.answer.unseen import Beyond
from infimum.base.errors import coded
from infimum.base.extras import required
from infimum.base.program import double_precision
from infimum.base.seeds import CHECK_STREAM, SAMPLE_STREAM, Seed, generator
from infimum.checks import quantities, weights
from infimum.checks.weights import Estimate
from infimum.families._distribution import Distribution
from infimum.families._family import Family
from infimum.objective.draws import fresh_draws, log_density
from infimum.solvers._solver import Reason
from infimum.target.datatree import told, tree
from infimum.target.model import DENSITY, Model
from infimum.target.space import Space, columns, positions
from infimum.target.target import Target

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr


SUMMARY_NUMBERS = 10_000_000
"""Constrained numbers held at once for a summary (80 MB). Of more quantities the moments are still
taken over all draws, a chunk at a time, and the quantiles over fewer."""

MOST_UNKNOWN = 0.25
"""Share of its quantities of which nothing is known that a fit may have and still be used."""

PROPOSALS = 4
"""Draws of q among the proposals for one importance-resampled draw."""


@dataclass(frozen=True, eq=False)
class Fit:
    """The q of a family that is nearest to a target, and how near it is.

    Attributes
    ----------
    family, q
        The family and its member, a distribution over R^d.
    space
        The bijection between R^d and the parameters.
    name, seed
        What the target is called, and the seed of everything random.
    reason
        Why the fit stopped.
    starts
        How each start ended; they agree if the problem has one optimum.
    work
        Gradients, batched calls and seconds.
    proposal
        What the importance weights are made with: q, a wider version of it, other optima.
    n_draws
        Number n of fresh draws from q that ELBO, k̂ and ESS rest on.
    log_p, log_q, log_r
        log p̂, log q and log r at n draws from q and the proposal's others, shape (m,).
    trace
        (gradients so far, estimated ELBO) of the winning start.
    model
        What the source knows beyond log p̂: names of axes, data, predictions.
    target
        What was fitted; None in a fit loaded from disk.
    stored
        Constrained draws of the proposal, in a loaded fit that can't make new ones.
    path
        (gradients so far, loss, predicted decrease, q or None) of the winning start; not saved.
    route
        The climb that chose this fit; None for a fit of one family.
    beyond
        What was found of p* where weights are larger than at any draw; None where it was not looked
        for, because weights are not to be trusted anyway, or nothing is known.
    """

    family: Family
    q: Distribution
    space: Space
    name: str
    seed: Seed
    reason: Reason
    starts: tuple[StartReport, ...]
    work: Work
    proposal: Proposal = field(repr=False)
    n_draws: int
    log_p: Float[np.ndarray, " m"] = field(repr=False)
    log_q: Float[np.ndarray, " m"] = field(repr=False)
    log_r: Float[np.ndarray, " m"] = field(repr=False)
    trace: tuple[tuple[int, float], ...] = ()
    model: Model = field(default=DENSITY, repr=False)
    target: Target | None = field(default=None, repr=False)
    stored: PyTree = field(default=None, repr=False)
    path: tuple[Any, ...] = field(default=(), repr=False)
    route: Route | None = None
    beyond: Beyond | None = field(default=None, repr=False)

    # ---- how near ------------------------------------------------------------------------------

    @property
    def log_w(self) -> Float[np.ndarray, " n"]:
        """log p̂ - log q at n fresh draws from q, in nats."""
        return (self.log_p - self.log_q)[: self.n_draws]

    @property
    def log_weights(self) -> Float[np.ndarray, " m"]:
        """log p̂ - log r at the draws of the proposal, in nats."""
        return self.log_p - self.log_r

    @functools.cached_property
    def elbo(self) -> Estimate:
        """E_q[log p̂ - log q] <= log Z, from fresh draws."""
        return weights.elbo(self.log_w)

    @functools.cached_property
    def log_evidence(self) -> Estimate:
        """log Z by importance sampling from the proposal.

        What lies beyond the weights is a part of its standard error. Not to be trusted where the
        verdict is "unreliable".
        """
        seen = weights.log_evidence(self.log_weights, self.log_q - self.log_r)
        return Estimate(seen.value, float(np.hypot(seen.se, self.missed))) if self.missed else seen

    @functools.cached_property
    def kl(self) -> Estimate:
        """KL[q ‖ p*] = log Z - ELBO: the distance that is left, in nats."""
        return weights.kl(self.log_w, self.log_weights, self.log_q - self.log_r)

    @functools.cached_property
    def ess(self) -> float:
        """Effective number of q's n draws after reweighting."""
        return weights.ess(self.log_w)

    @functools.cached_property
    def proposal_ess(self) -> float:
        """Effective number of the proposal's draws: what log Z and weighted draws rest on."""
        return weights.ess(self.log_weights)

    @functools.cached_property
    def khat(self) -> float:
        """Pareto tail index of the importance weights (PSIS)."""
        return weights.khat(self.log_w)

    @property
    def zero_fraction(self) -> float:
        """Share of q's draws at which p̂ = 0."""
        return float(np.mean(self.log_p[: self.n_draws] == -np.inf))

    @property
    def rivals(self) -> int:
        """Other optima that starts found, with an ELBO within 5 nats of this one."""
        return len(self.proposal.others)

    @property
    def missed(self) -> float:
        """Part of Z that was found beyond the largest weight; 0 where it was not looked for."""
        return 0.0 if self.beyond is None else self.beyond.mass

    @functools.cached_property
    def trusted(self) -> bool:
        if self.reason in (Reason.IMPROPER, Reason.INTERRUPTED) or self.missed > quantities.UNSEEN:
            return False
        return quantities.trusted(self.log_w, self.log_weights, self.reason.converged)

    @functools.cached_property
    def verdict(self) -> str:
        """What to use: "good", q as it is; "reweight", weighted draws; "unreliable", neither."""
        if not self.trusted:
            return "unreliable"
        if self.zero_fraction > advice_text.MOST_ZERO:
            return "reweight"
        rows = self.verdicts[self.space.judged]
        if np.mean(rows == "unreliable") > MOST_UNKNOWN:
            return "unreliable"
        return "good" if np.all(rows == "good") else "reweight"

    @functools.cached_property
    def verdicts(self) -> np.ndarray:
        """Of each quantity."""
        limit = quantities.heavy(self.log_w, self.log_weights)
        return quantities.verdicts(self.comparison, self.trusted, limit, self._moved)

    @property
    def lacking(self) -> np.ndarray:
        """Which judged quantities a part of p* beyond the weights would change."""
        return np.asarray(self.space.judged & (np.asarray(self._moved) > quantities.KNOWN))

    @property
    def _moved(self) -> Float[np.ndarray, " k"] | float:
        """By how much it would change each quantity."""
        return 0.0 if self.beyond is None else self.beyond.lacking

    @functools.cached_property
    def advice(self) -> str:
        """What to do next."""
        return advice_text.advice(self)

    # ---- draws ---------------------------------------------------------------------------------

    def sample(
        self,
        n: int = 1000,
        *,
        seed: Seed = 0,
        weighted: bool = False,
        backend: Literal["numpy", "jax", "torch"] = "numpy",
    ) -> PyTree:
        """Exactly n constrained draws.

        Parameters
        ----------
        n
            Number of draws.
        seed
            The same seed gives the same draws.
        weighted
            Importance-resample: draws from p* as far as the weights can tell. Some draws may
            repeat.
        backend
            Whose arrays to return.

        Returns
        -------
        The parameters' pytree of float64 arrays, with what the model derives from them, each with
        a leading axis of length n. Memory is that of the answer and a constant.

        Raises
        ------
        ValueError
            If n is not positive; if a fit loaded from disk is asked for what needs its model.
        """
        if not isinstance(n, int | np.integer) or n < 1:
            raise ValueError(coded("E302", f"n is {n!r}, expected a positive number of draws"))
        if backend not in ("numpy", "jax", "torch"):
            raise ValueError(
                coded("E306", f"backend is {backend!r}, expected 'numpy', 'jax' or 'torch'")
            )
        if weighted:
            draws = self._resampled(int(n), seed)
        elif not self.constrains:
            draws = self._stored(int(n), generator(seed, SAMPLE_STREAM))
        else:
            chunks = fresh_draws(self.q, int(n), seed, SAMPLE_STREAM)
            draws = _gather(int(n), (self.space.draws(z) for z, _ in chunks))
        return draws if backend == "numpy" else converted(draws, backend)

    def log_prob(self, draws: PyTree) -> Float[np.ndarray, " n"]:
        """log q on the constrained space, in nats.

        Parameters
        ----------
        draws
            Parameters as `sample` returns them, with a leading axis n; or one point without it.

        Returns
        -------
        Shape (n,), or a scalar array for one point.
        """
        z, log_jacobian = self.space.free(draws)
        values = log_density(self.q, np.atleast_2d(z)) - log_jacobian
        return np.asarray(values if z.ndim == 2 else values[0])

    def at_hand(self) -> Target:
        """The target.

        Raises
        ------
        ValueError
            If the fit was loaded from disk: a file holds no code.
        """
        if self.target is None:
            raise ValueError(
                coded(
                    "E401",
                    "this fit was loaded from disk, without its target: fit again, or build the "
                    "target and use dataclasses.replace(fit, target=target)",
                )
            )
        return self.target

    @property
    def constrains(self) -> bool:
        """Whether the bijection is at hand; a loaded fit may have stored draws only."""
        return self.stored is None

    def check_chunks(self) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """The proposal's draws z with log q and log r there, chunk by chunk: those of `log_p`."""
        return self.proposal.draws(self.n_draws, self.seed, CHECK_STREAM)

    def _check_draws(self, n: int) -> PyTree:
        """The first n constrained check draws: those that `log_w` belongs to."""
        if not self.constrains:
            return jax.tree_util.tree_map(lambda x: x[:n], self.stored)
        return _gather(n, (self.space.draws(z) for z, *_ in _first(n, self.check_chunks())))

    def _all_check_draws(self) -> PyTree:
        """Every constrained draw of the proposal: those that `log_weights` belongs to."""
        if not self.constrains:
            return self.stored
        return _gather(len(self.log_p), (self.space.draws(z) for z, *_ in self.check_chunks()))

    def points(self, n: int, *, seed: Seed = 0, weighted: bool = False) -> Float[np.ndarray, "n d"]:
        """Exactly n unconstrained draws: what `sample` makes draws of.

        Raises
        ------
        ValueError
            If a fit loaded from disk has none; if draws can't be reweighted.
        """
        if not self.constrains:
            raise ValueError(
                coded(
                    "E401",
                    "this file stores constrained draws only: use sample, or the original fit",
                )
            )
        if not weighted:
            return np.concatenate([z for z, _ in fresh_draws(self.q, n, seed, SAMPLE_STREAM)])
        _, chunks, order = self._chosen(n, seed)
        return np.concatenate(list(chunks))[order]

    def _chosen(self, n: int, seed: Seed) -> tuple[np.ndarray, Iterator[np.ndarray], np.ndarray]:
        """Which proposals n weighted draws are, ascending; their points; a random order for them.

        The points are made once more, chunk by chunk, as they are asked for.
        """
        if self.target is None or not self.constrains:
            size, source, log_w = self.n_draws, (self.seed, CHECK_STREAM), self.log_weights
        else:
            size, source = max(self.n_draws, PROPOSALS * n), (seed, SAMPLE_STREAM)
            chunks = self.proposal.evaluated(self.target, size, *source)
            log_w = np.concatenate([log_p - log_r for _, log_p, _, log_r in chunks])
        probabilities = weights.normalised(log_w)
        if np.isnan(probabilities).any():
            raise ValueError(
                coded(
                    "E404",
                    "these draws can't be reweighted: the density is undefined, or zero, at draws "
                    "from q. " + self.advice,
                )
            )
        rng = generator(seed, SAMPLE_STREAM, 0, 0, 0)
        chosen = np.sort(rng.choice(len(log_w), size=n, p=probabilities))
        points = _picked(chosen, self.proposal.draws(size, *source))
        return chosen, points, rng.permutation(n)

    def _resampled(self, n: int, seed: Seed) -> PyTree:
        """N weighted draws, constrained chunk by chunk."""
        chosen, chunks, order = self._chosen(n, seed)
        if self.constrains:
            picked = _gather(n, (self.space.draws(z) for z in chunks))
        else:
            picked = jax.tree_util.tree_map(lambda x: x[chosen], self.stored)
        return jax.tree_util.tree_map(lambda x: x[order], picked)

    def _stored(self, n: int, rng: np.random.Generator) -> PyTree:
        available = self.n_draws
        if n > available:
            raise ValueError(
                coded(
                    "E403",
                    f"this file stores {available} draws, because constraining needs the model's "
                    f"own code; {n} were asked for. Use the original fit, or build the target "
                    "again",
                )
            )
        chosen = rng.permutation(available)[:n]
        return jax.tree_util.tree_map(lambda x: x[chosen], self.stored)

    # ---- tables --------------------------------------------------------------------------------

    @functools.cached_property
    def _proposed(self) -> tuple[Float[np.ndarray, "m k"], np.ndarray]:
        """Quantities at the proposal's draws, and which draws: a part of them if there are many."""
        every = -(-len(self.log_p) * len(self.space.names) // SUMMARY_NUMBERS)
        rows = np.arange(0, len(self.log_p), every)
        if not self.constrains:
            return columns(self.stored)[rows], rows
        kept = (columns(self.space.draws(z)) for z in _picked(rows, self.check_chunks()))
        return np.asarray(_gather(len(rows), kept)), rows

    @functools.cached_property
    def _quantity_draws(self) -> Float[np.ndarray, "n k"]:
        """Check draws of every scalar quantity from q, as one matrix."""
        values, rows = self._proposed
        return values[rows < self.n_draws]

    @functools.cached_property
    def comparison(self) -> quantities.Comparison:
        """q against the reweighted draws, quantity by quantity."""
        if self.constrains and len(self.log_p) * len(self.space.names) > SUMMARY_NUMBERS:
            draws = (columns(self.space.draws(z)) for z, *_ in self.check_chunks())
            return quantities.compare(draws, self.n_draws, self.log_weights)
        values, rows = self._proposed
        n = int(np.sum(rows < self.n_draws))
        return quantities.compare([values], n, self.log_weights[rows])

    def summary(self, names: Sequence[str] | None = None) -> pd.DataFrame:
        """A row for each scalar quantity.

        Parameters
        ----------
        names
            Quantities or parameters to show; all of them by default.

        Returns
        -------
        DataFrame with columns mean, sd, 5%, 50%, 95% of q; weighted_mean and weighted_sd, corrected
        by reweighting; mcse, the Monte Carlo standard error of weighted_mean; mean_error, q's error
        of the mean in posterior sds, and sd_error, its relative error of the sd; verdict.
        """
        import pandas as pd

        compared = self.comparison
        low, middle, high = np.quantile(self._quantity_draws, [0.05, 0.5, 0.95], axis=0)
        columns = {
            "mean": compared.mean,
            "sd": compared.sd,
            "5%": low,
            "50%": middle,
            "95%": high,
            "weighted_mean": compared.weighted_mean,
            "weighted_sd": compared.weighted_sd,
            "mcse": compared.mcse,
            "mean_error": compared.mean_error,
            "sd_error": compared.sd_error,
            "verdict": self.verdicts,
        }
        table = pd.DataFrame(columns, index=self.space.names)
        return table if names is None else table.iloc[self.positions(names)]

    def expect(self, function: Callable[[PyTree], Any]) -> Expectation:
        """Mean and sd of any function of the draws under q, and corrected by reweighting.

        Parameters
        ----------
        function
            Takes draws as `sample` returns them, with a leading axis, and gives an array with that
            leading axis. It is called for some draws at a time.

        Returns
        -------
        Fields mean, sd, weighted_mean, weighted_sd, mcse, mean_error, sd_error and verdict, each of
        the shape of the function's value at one draw; and reason, which says what is wrong where a
        verdict is "unreliable".

        Examples
        --------
        >>> from infimum import Target, fit
        >>> target = Target(lambda z: -0.5 * (z**2).sum(), np.zeros(2))
        >>> fit(target, "fullrank").expect(lambda z: z[:, 0] > 0).verdict
        'good'
        """
        if not callable(function):
            raise TypeError(
                coded(
                    "E101",
                    f"{function!r} is not a function of the draws: give one, such as "
                    'lambda p: p["mu"] > 0; of single quantities summary() tells',
                )
            )
        if self.constrains:
            chunks = map(function, (self.space.draws(z) for z, *_ in self.check_chunks()))
        else:
            chunks = map(function, [self.stored])
        reason = "" if self.trusted else self.advice
        limit = quantities.heavy(self.log_w, self.log_weights)
        beyond = None
        if self.beyond is not None and len(self.beyond.z) and self.constrains:
            beyond = (function(self.space.draws(self.beyond.z)), self.beyond.mass)
        return expectation(chunks, self.n_draws, self.log_weights, limit, reason, beyond)

    def positions(self, names: Sequence[str]) -> list[int]:
        """Where these quantities stand; a parameter's name stands for all of its entries."""
        return positions(self.space.names, names)

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
            zip(self._labels, jax.tree_util.tree_leaves(self._check_draws(n)), strict=True)
        )
        stats = {"lp": self.log_p, "log_q": self.log_q, "log_weight": self.log_p - self.log_q}
        sampled: dict[str, Mapping[str, np.ndarray]] = {
            "posterior": draws,
            "sample_stats": {k: x[:n] for k, x in stats.items()},
        }
        sampled |= told(self.model, draws, self.seed, posterior_predictive, log_likelihood)
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
        from arviz_stats.loo import loo_approximate_posterior

        tree = self.to_arviz(log_likelihood=True)
        stats = tree["sample_stats"]
        log_p, log_q = stats["lp"].to_numpy().ravel(), stats["log_q"].to_numpy().ravel()
        return loo_approximate_posterior(tree, log_p, log_q, pointwise, var_name)

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
            raise ValueError(
                coded("E302", f"chains is {chains!r}, expected a positive number of chains")
            )
        weighted = self.verdict != "unreliable"
        z = self.points(MOST_STARTS * int(chains), seed=seed, weighted=weighted)
        return inits(z, int(chains), self.space, self.target)

    def inverse_mass_matrix(self, dense: bool | None = None) -> np.ndarray:
        """Covariance of the unconstrained coordinates, for samplers that take one.

        Parameters
        ----------
        dense
            Whether a matrix (d, d) or its diagonal (d,); by default dense up to d = 200, but for
            families of independent coordinates.
        """
        d, independent = self.q.dim, self.family.name == "meanfield"
        dense = (d <= MOST_MASS and not independent) if dense is None else dense
        weighted = self.trusted and self.constrains
        return inverse_mass_matrix(
            self.q, dense, lambda n: self.points(n, seed=self.seed, weighted=weighted)
        )

    # ---- files and faces -----------------------------------------------------------------------

    def save(self, path: str | Path) -> Path:
        """Write a zip of plain arrays and JSON that `infimum.load` reads without the model."""
        from infimum.answer.file import save

        return save(self, Path(path))

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
        return advice_text.rows(self)

    def text(self, width: int = advice_text.WIDTH) -> str:
        """What `print` shows, in so many columns."""
        return advice_text.text(self, width)

    def __str__(self) -> str:
        return self.text()

    def _repr_html_(self) -> str:
        return advice_text.table(self)


def converted(draws: PyTree, backend: str) -> PyTree:
    """Arrays of another library."""
    if backend == "torch":
        return jax.tree_util.tree_map(required("torch", "torch").from_numpy, draws)
    with double_precision():
        return jax.tree_util.tree_map(jax.numpy.asarray, draws)


def _first(n: int, chunks: Iterable[tuple[np.ndarray, ...]]) -> Iterator[tuple[np.ndarray, ...]]:
    """The first n rows of the chunks."""
    for chunk in chunks:
        yield tuple(part[:n] for part in chunk)
        n -= len(chunk[0])
        if n <= 0:
            return


def _picked(chosen: np.ndarray, chunks: Iterable[tuple[np.ndarray, ...]]) -> Iterator[np.ndarray]:
    """Rows of the chunks' points by their numbers, in ascending order."""
    start = 0
    for z, *_ in chunks:
        low, high = np.searchsorted(chosen, [start, start + len(z)])
        if high > low:
            yield z[chosen[low:high] - start]
        start += len(z)


def _gather(n: int, chunks: Any) -> PyTree:
    """Chunks of draws in arrays allocated once."""
    answer: Any = None
    start = 0
    for chunk in chunks:
        if answer is None:
            answer = jax.tree_util.tree_map(lambda x: np.empty((n, *x.shape[1:])), chunk)
        rows = len(jax.tree_util.tree_leaves(chunk)[0])
        for whole, part in zip(
            jax.tree_util.tree_leaves(answer), jax.tree_util.tree_leaves(chunk), strict=True
        ):
            whole[start : start + rows] = part
        start += rows
    return answer
