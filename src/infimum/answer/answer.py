"""The answer: q, what is known of its distance from p*, its draws, and its tables."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from jaxtyping import Float, PyTree

from infimum.answer.advice import advice
from infimum.answer.assessment import Assessment
from infimum.answer.expectation import Expectation, expect
from infimum.answer.proposal import Proposal
from infimum.answer.record import Route, StartReport, Work
from infimum.answer.resampling import converted, points, resampled, some_stored
from infimum.answer.structure import known_structure
from infimum.answer.weighed import WeighedDraws, gather
from infimum.base.deprecation import RenamedAttribute
from infimum.base.errors import coded_error
from infimum.base.seeds import SAMPLE_STREAM, Seed
from infimum.checks import quantities
from infimum.checks.weights import Estimate
from infimum.families._distribution import Distribution
from infimum.families._family import Family
from infimum.objective.draws import fresh_draws, log_density
from infimum.solvers._solver import Reason
from infimum.structure.structure import Structure
from infimum.target.model import DENSITY, Model
from infimum.target.space import Space, positions
from infimum.target.target import Target

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False)
class Answer:
    """The q of a family that is nearest to a target, and how near it is.

    Attributes
    ----------
    family
        The family.
    name
        What the target is called.
    assessment
        What weights, draws and unseen mass say of q.
    starts
        How each start ended; they agree if the problem has one optimum.
    work
        Gradients, batched calls and seconds.
    trace
        (gradients so far, estimated ELBO) of the winning start.
    model
        What the source knows beyond log p̂: names of axes, data, predictions.
    target
        What was fitted; None in a fit loaded from disk.
    path
        (gradients so far, loss, predicted decrease, q or None) of the winning start; not saved.
    route
        The climb that chose this fit; None for a fit of one family.
    """

    family: Family
    name: str
    assessment: Assessment = field(repr=False)
    starts: tuple[StartReport, ...]
    work: Work
    trace: tuple[tuple[int, float], ...] = ()
    model: Model = field(default=DENSITY, repr=False)
    target: Target | None = field(default=None, repr=False)
    path: tuple[Any, ...] = field(default=(), repr=False)
    route: Route | None = None
    _n_colours: int | None = field(default=None, repr=False)

    # ---- q and how near it is ------------------------------------------------------------------

    @property
    def q(self) -> Distribution:
        """The member of the family: a distribution over R^d."""
        return self.weighed.q

    @property
    def weighed(self) -> WeighedDraws:
        """The draws that every estimate rests on, with their densities."""
        return self.assessment.draws

    @property
    def proposal(self) -> Proposal:
        """What importance weights are made with: q, a wider version of it, other optima."""
        return self.weighed.proposal

    @property
    def space(self) -> Space:
        """The bijection between R^d and the parameters."""
        return self.weighed.space

    @property
    def seed(self) -> Seed:
        """The seed of everything random."""
        return self.weighed.seed

    @property
    def reason(self) -> Reason:
        """Why the fit stopped."""
        return self.assessment.reason

    @property
    def n_draws(self) -> int:
        """Number n of fresh draws from q that ELBO, k̂ and ESS rest on."""
        return self.weighed.n

    @property
    def log_p(self) -> Float[np.ndarray, " m"]:
        """log p̂ at n draws from q and the proposal's others, in nats, shape (m,)."""
        return self.weighed.log_p

    @property
    def log_q(self) -> Float[np.ndarray, " m"]:
        """log q at the same draws."""
        return self.weighed.log_q

    @property
    def log_r(self) -> Float[np.ndarray, " m"]:
        """The proposal's log density at the same draws."""
        return self.weighed.log_r

    @property
    def log_w(self) -> Float[np.ndarray, " n"]:
        """log p̂ - log q at n fresh draws from q, in nats."""
        return self.weighed.log_w

    @property
    def log_weights(self) -> Float[np.ndarray, " m"]:
        """log p̂ - log r at the draws of the proposal, in nats."""
        return self.weighed.log_weights

    @property
    def elbo(self) -> Estimate:
        """E_q[log p̂ - log q] <= log Z, from fresh draws."""
        return self.assessment.elbo

    @property
    def log_evidence(self) -> Estimate:
        """log Z by importance sampling; not to be trusted if the verdict is "unreliable"."""
        return self.assessment.log_evidence

    @property
    def kl(self) -> Estimate:
        """KL[q ‖ p*] = log Z - ELBO, in nats: the gap that is left."""
        return self.assessment.kl

    @property
    def ess(self) -> float:
        """Effective number of q's n draws after reweighting."""
        return self.assessment.ess

    @property
    def proposal_ess(self) -> float:
        """Effective number of the proposal's draws: what log Z and weighted draws rest on."""
        return self.assessment.proposal_ess

    @property
    def khat(self) -> float:
        """Pareto tail index of the importance weights (PSIS)."""
        return self.assessment.khat

    @property
    def zero_fraction(self) -> float:
        """Share of q's draws at which p̂ = 0."""
        return self.assessment.zero_fraction

    @property
    def rivals(self) -> int:
        """Other optima that starts found, with an ELBO within 5 nats of this one."""
        return len(self.proposal.others)

    @property
    def unseen_mass(self) -> float:
        """Share of Z found where weights exceed those of all draws; 0 if it was not looked for."""
        return self.assessment.unseen_mass

    @property
    def trusted(self) -> bool:
        """Whether the weights can be believed at all."""
        return self.assessment.trusted

    @property
    def verdict(self) -> str:
        """What to use: "good", q as it is; "reweight", weighted draws; "unreliable", neither."""
        return self.assessment.verdict

    @property
    def verdicts(self) -> np.ndarray:
        """The verdict of each scalar quantity, shape (k,)."""
        return self.assessment.verdicts

    @property
    def comparison(self) -> quantities.Comparison:
        """q against the reweighted draws, quantity by quantity."""
        return self.assessment.comparison

    @functools.cached_property
    def structure(self) -> Structure | None:
        """What hangs on what: pattern, colours, scales, blocks; None if q does not know it."""
        return known_structure(self.q, self.space.free_names, self._n_colours)

    @functools.cached_property
    def advice(self) -> str:
        """What to do next."""
        return advice(self.assessment, self.work, self.family)

    beyond = RenamedAttribute("assessment.unseen")
    missed = RenamedAttribute("unseen_mass")
    lacking = RenamedAttribute("assessment.affected")
    stored = RenamedAttribute("weighed.stored")
    check_chunks = RenamedAttribute("weighed.chunks")

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
            raise coded_error(
                ValueError, "E302", f"n is {n!r}, expected a positive number of draws"
            )
        if backend not in ("numpy", "jax", "torch"):
            raise coded_error(
                ValueError, "E306", f"backend is {backend!r}, expected 'numpy', 'jax' or 'torch'"
            )
        if weighted:
            draws = resampled(self.weighed, self.target, int(n), seed)
        elif not self.constrains:
            draws = some_stored(self.weighed, int(n), seed)
        else:
            chunks = fresh_draws(self.q, int(n), seed, SAMPLE_STREAM)
            draws = gather(int(n), (self.space.draws(z) for z, _ in chunks))
        return draws if backend == "numpy" else converted(draws, backend)

    def log_prob(self, draws: PyTree) -> Float[np.ndarray, "*n"]:
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
            raise coded_error(
                ValueError,
                "E401",
                "this fit was loaded from disk, without its target: fit again, or build the "
                "target and use dataclasses.replace(fit, target=target)",
            )
        return self.target

    @property
    def constrains(self) -> bool:
        """Whether the bijection is at hand; a loaded fit may have stored draws only."""
        return self.weighed.stored is None

    def points(self, n: int, *, seed: Seed = 0, weighted: bool = False) -> Float[np.ndarray, "n d"]:
        """Exactly n unconstrained draws: what `sample` makes draws of.

        Raises
        ------
        ValueError
            If a fit loaded from disk has none; if draws can't be reweighted.
        """
        return points(self.weighed, self.target, n, seed, weighted)

    # ---- tables --------------------------------------------------------------------------------

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
        low, middle, high = np.quantile(self.assessment.quantity_draws, [0.05, 0.5, 0.95], axis=0)
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
            raise coded_error(
                TypeError,
                "E101",
                f"{function!r} is not a function of the draws: give one, such as "
                'lambda p: p["mu"] > 0; of single quantities summary() tells',
            )
        return expect(function, self.assessment, "" if self.trusted else self.advice)

    def positions(self, names: Sequence[str]) -> list[int]:
        """Where these quantities stand; a parameter's name stands for all of its entries."""
        return positions(self.space.names, names)
