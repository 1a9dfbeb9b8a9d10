"""Partially non-centred: a Gaussian in coordinates that are centred as far as the data say."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar, NamedTuple

import equinox as eqx
import numpy as np

from infimum.base.errors import UnsuitableError, coded_error
from infimum.families._dense import (
    FactorChart,
    decrement,
    factor_error,
    factor_of,
    mean_and_factor,
    natural_step,
    raw_of,
    solve,
)
from infimum.families._distribution import (
    LARGEST_DENSE,
    Chart,
    Distribution,
    Gaussian,
    NaturalPushforward,
    Rows,
)
from infimum.families._family import Adaptive, Branching, Left, Promise
from infimum.families.noncentred.warp import Warp
from infimum.gaussian.factor import lower_factor
from infimum.gaussian.stack import LOG_2PI
from infimum.target.model import Hierarchical
from infimum.target.target import Target

EXTREME_LOG_ODDS = 4.0
"""Largest log-odds of a start's centring: at 0 and at 1 the loss has no slope in the angle."""

LEAST_INFORMATION = 0.1
"""Added to the Fisher information of `value` and `angle`, in their own units. If they hardly
matter, the search moves them by a unit a step."""


class Noncentred(Branching, Adaptive):
    """Q = {z = T(ζ), ζ ~ N(m, LLᵀ)}, T a learned partial non-centring of a hierarchy.

    Take a coordinate z_j with location μ and scale σ given the others, which the data inform
    through θ = a + b·z_j. The family treats it as if a single observation `value` of θ, with some
    error e, were all that the data say of it:

        w = b²σ²/(b²σ² + e²),  mean = μ + w·(value - a - bμ)/b,  sd = σ·√(1 - w)
        z_j = mean + sd·(ζ_j - mean°)/sd°

    with ° at reference values of μ, σ, a and b, where w° = sin²(angle/2). w → 1 is the centred
    model, w → 0 the non-centred one; both are members. w changes with σ, as it does in the
    posterior: for a normal likelihood, z_j given the others is exact. `value` and `angle` are
    learned for each j.

    Papaspiliopoulos, Roberts & Sköld (2003) for partial non-centring with such weights; Gorinova,
    Moore & Hoffman (2020) for learning it, there with z = μ + σ^(1-λ)(ζ - λμ) and a constant λ.

    Requires: a NumPyro model with a location-scale hierarchy, at most `LARGEST_DENSE` dimensions.
    It starts from a Gaussian.

    Attributes
    ----------
    entries
        How many coordinates are partially non-centred; `adapted` finds them.
    """

    name: ClassVar[str] = "noncentred"
    below: ClassVar[str | None] = "fullrank"
    entries: int = 0
    warp: Any = eqx.field(static=True, default=None, repr=False)

    def adapted(self, target: Target, rng: np.random.Generator) -> Noncentred:
        """The family with the location-scale hierarchy of the target's model."""
        if not isinstance(target.model, Hierarchical):
            raise coded_error(
                UnsuitableError,
                "E210",
                f"target {target.name!r} tells no location-scale hierarchy: state the model "
                'with infimum.from_numpyro, or take family="fullrank"',
            )
        if target.dim > LARGEST_DENSE:
            raise coded_error(
                UnsuitableError,
                "E211",
                f"d = {target.dim} is more than {LARGEST_DENSE}, too many for a dense factor: "
                'take "sparse" or "lowrank"',
            )
        hierarchy = target.model.hierarchy(target.space, rng)
        if hierarchy is None:
            raise coded_error(
                UnsuitableError,
                "E210",
                f"model {target.name!r} has no site whose location or scale depends on other "
                "sites, and none that is scaled by other sites: there is nothing to "
                'non-centre, take family="fullrank"',
            )
        return Noncentred(len(hierarchy.index), Warp(hierarchy, target, rng))

    def init(self, mean: np.ndarray, scale: np.ndarray) -> PartlyCentred:
        """The member nearest to N(mean, diag(scale²)), centred as the model is."""
        mean, scale = np.asarray(mean, float), np.asarray(scale, float)
        if self.warp is None:
            return PartlyCentred.plain(mean, np.diag(scale))
        return self._as_stated(mean, np.diag(scale), 1.0)

    def start_from(self, q: Distribution) -> PartlyCentred:
        """The member nearest to q, centred as the model is."""
        if isinstance(q, PartlyCentred) and q.warp is self.warp:
            return q
        mean, factor = mean_and_factor(q, "noncentred")
        if self.warp is None:
            return PartlyCentred.plain(mean, factor)
        return self._as_stated(mean, factor, 1.0)

    def starts_from(self, q: Distribution) -> list[Distribution]:
        """Starts centred as the model is, the opposite way, and by what the data say around q."""
        first = self.start_from(q)
        if self.warp is None or not isinstance(q, Gaussian):
            return [first]
        mean, factor = mean_and_factor(q, "noncentred")
        guess = self._placed(mean, factor, *self.warp.guess(mean, factor))
        return [first, self._as_stated(mean, factor, -1.0), guess]

    def _as_stated(self, mean: np.ndarray, factor: np.ndarray, sign: float) -> PartlyCentred:
        stated = np.where(self.warp.hierarchy.centred, EXTREME_LOG_ODDS, -EXTREME_LOG_ODDS)
        return self._placed(mean, factor, sign * stated)

    def _placed(
        self,
        mean: np.ndarray,
        factor: np.ndarray,
        log_odds: np.ndarray,
        value: np.ndarray | None = None,
    ) -> PartlyCentred:
        """The member of these centrings that is nearest to N(mean, LLᵀ), by its sigma points."""
        # T⁻¹ at mean ± each column of L: half the differences are a root of ζ's covariance.
        warp = self.warp
        reference = warp.reference(mean)
        if value is None:
            value = reference[2] + reference[3] * mean[warp.hierarchy.index]
        numbers = value, 2 * np.arctan(np.exp(0.5 * log_odds)), reference
        ahead, behind = (warp.backward(mean + s * factor.T, numbers) for s in (1.0, -1.0))
        centre = warp.backward(mean[None], numbers)[0]
        root = 0.5 * (ahead - behind).T
        return PartlyCentred(centre, raw_of(lower_factor(root)), *numbers, warp)

    def from_arrays(self, arrays: dict[str, np.ndarray]) -> PartlyCentred:
        """From `mean`, `raw`, `value`, `angle` and `reference`."""
        return PartlyCentred(**arrays, warp=self.warp)

    def n_parameters(self, dim: int) -> int:
        """d + d(d + 1)/2, and 2 for each entry."""
        return dim + dim * (dim + 1) // 2 + 2 * self.entries

    def promise(self, left: Left, dim: int) -> Promise:
        """Six tenths of the shape: of 0.23 nats (eight schools, non-centred) 0.09 stayed."""
        return Promise(0.6 * left.shape, 1e3 * (dim + 2), 3.0)


class PartlyCentred(NaturalPushforward):
    """z = T(ζ), ζ ~ N(m, LLᵀ), with each entry centred by its own part.

    Attributes
    ----------
    mean, raw
        m, and L with the logarithm of its diagonal.
    value, angle
        The observation that stands for the data on each entry, and how much it counts, shape (k,).
    reference
        μ°, log σ°, a° and b°, shape (4, k).
    warp
        The model's part of T; without it there are neither draws nor densities of q.
    """

    portable: ClassVar[bool] = False
    flat: ClassVar[bool] = True
    mean: Any
    raw: Any
    value: Any
    angle: Any
    reference: Any
    warp: Any = eqx.field(static=True, default=None, repr=False)

    @classmethod
    def plain(cls, mean: np.ndarray, factor: np.ndarray) -> PartlyCentred:
        """A Gaussian without a hierarchy."""
        none = np.zeros(0)
        return cls(mean, raw_of(factor), none, none, np.zeros((4, 0)))

    @property
    def dim(self) -> int:
        """The dimension d."""
        return int(self.mean.shape[-1])

    @property
    def factor(self) -> Any:
        """L, shape (d, d)."""
        return factor_of(self.raw)

    @property
    def centring(self) -> Any:
        """w° of each entry, shape (k,): 1 is centred, 0 is non-centred."""
        return np.asarray(np.sin(0.5 * np.asarray(self.angle)) ** 2)

    @property
    def _numbers(self) -> tuple[Any, Any, Any]:
        return self.value, self.angle, self.reference

    def _warped(self) -> Warp | None:
        """The model's part of T; None if there is no entry."""
        if self.warp is None and self.value.shape[-1]:
            raise coded_error(
                ValueError,
                "E401",
                "this q is made with the model's own code, which a file does not hold: use the "
                "original fit, or fit again",
            )
        return self.warp

    def _zeta(self, eps: Rows) -> Rows:
        return self.mean + eps @ self.factor.T

    def push(self, eps: Rows) -> Rows:
        """T(m + L ε)."""
        warp = self._warped()
        return self._zeta(eps) if warp is None else warp.forward(self._zeta(eps), self._numbers)[0]

    def pull_back(self, z: Rows) -> Rows:
        """L⁻¹(T⁻¹(z) - m)."""
        warp = self._warped()
        zeta = z if warp is None else warp.backward(z, self._numbers)
        return solve(self.factor, zeta - self.mean)

    def log_prob_base(self, eps: Rows) -> Rows:
        """log N(ε; 0, I) - log |det L| - log |det T'|."""
        xp = eps.__array_namespace__()
        warp = self._warped()
        log_det = xp.diag(self.raw).sum()
        if warp is not None:
            log_det = log_det + warp.forward(self._zeta(eps), self._numbers)[1]
        return -0.5 * (eps**2).sum(-1) - log_det - 0.5 * self.dim * LOG_2PI

    def slope(self, eps: np.ndarray, score: np.ndarray) -> np.ndarray:
        """Lᵀ times the gradient of log p̂(T(ζ)) + log |det T'| in ζ."""
        return self.parts(eps, score).zeta @ self.factor

    def natural_step(self, pull: np.ndarray, curvature: np.ndarray, rho: float) -> PartlyCentred:
        """The member whose Gaussian has made the step; T stays."""
        mean, factor = natural_step(self.mean, self.factor, pull, curvature, rho)
        return dataclasses.replace(self, mean=mean, raw=raw_of(factor))

    def decrement(self, pull: np.ndarray, curvature: np.ndarray) -> float:
        """Nats by the curvature in ζ's whitened coordinates."""
        return decrement(pull, curvature)

    def parts(self, eps: np.ndarray, score: np.ndarray) -> _Parts:
        """Gradients of log p̂(z) + log |det T'| at each draw, in ζ, in value and in angle."""
        warp = self._warped()
        if warp is None:
            none = np.zeros((len(score), 0))
            return _Parts(score, none, none)
        of_zeta, bend, growth = warp.gradient(self._zeta(eps), self._numbers, score)
        rows = np.tile(warp.hierarchy.index, 2)
        rest = growth - bend * of_zeta[:, rows]
        precise = solve(self.factor[::-1, ::-1].T, eps[:, ::-1])[:, ::-1]
        return _Parts(of_zeta, rest, bend * precise[:, rows] - growth)

    def curvature(self, eps: np.ndarray, score: np.ndarray) -> np.ndarray:
        """Fisher information of each value and of each angle, shape (2k,)."""
        return np.asarray((self.parts(eps, score).own ** 2).mean(axis=0))

    def units(self) -> np.ndarray:
        """Units of `value` and `angle`, shape (2k,)."""
        _, log_scale, _, slope = self.reference
        scale = np.abs(slope) * np.exp(log_scale) * np.sqrt(1 - self.centring)
        return np.concatenate([scale, np.ones(len(scale))])

    def chart(self, curvature: np.ndarray | None) -> Chart:
        """Whitened coordinates of the Gaussian; value and angle by their Fisher information."""
        return _NoncentredChart(self, curvature)

    def sampling_error(self, eps: np.ndarray, score: np.ndarray) -> float:
        """Nats by the variance of the gradient over antithetic pairs, each part in its units."""
        parts = self.parts(eps, score)
        half = len(eps) // 2
        whitened = parts.zeta @ self.factor
        paired = 0.5 * (parts.rest[:half] + parts.rest[half:])
        paired = paired * _steps(self, (parts.own**2).mean(axis=0))
        return factor_error(eps, whitened, whitened) + 0.5 * float(paired.var(axis=0).sum()) / half


class _Parts(NamedTuple):
    """Gradients at each of n draws.

    Attributes
    ----------
    zeta, rest
        Gradient of log p̂(z) + log |det T'| in ζ, shape (n, d), and in value and angle, shape
        (n, 2k).
    own
        Gradient of log q at fixed z in value and angle, shape (n, 2k).
    """

    zeta: np.ndarray
    rest: np.ndarray
    own: np.ndarray


def _steps(q: PartlyCentred, information: np.ndarray | None) -> np.ndarray:
    """What one unit of the chart moves value and angle by: their sds, if they matter."""
    units = q.units()
    own = 1.0 if information is None else information * units**2
    return units / np.sqrt(own + LEAST_INFORMATION)


class _NoncentredChart(Chart):
    """Coordinates of mean and factor, then value and angle in steps of `_steps`."""

    def __init__(self, q: PartlyCentred, information: np.ndarray | None) -> None:
        self.q = q
        self.gaussian = FactorChart(q.mean, q.factor)
        self.steps = _steps(q, information)
        self.size = self.gaussian.size + len(self.steps)

    def move(self, theta: np.ndarray) -> PartlyCentred:
        gaussian, rest = np.split(theta, [self.gaussian.size])
        mean, factor = self.gaussian.move(gaussian)
        value, angle = np.split(rest * self.steps, 2)
        q = self.q
        return PartlyCentred(
            mean, raw_of(factor), q.value + value, q.angle + angle, q.reference, q.warp
        )

    def pull(self, theta: np.ndarray, eps: np.ndarray, score: np.ndarray) -> np.ndarray:
        parts = self.move(theta).parts(eps, score)
        gaussian = self.gaussian.pull(theta[: self.gaussian.size], eps, parts.zeta, parts.zeta)
        return np.concatenate([gaussian, -parts.rest.mean(axis=0) * self.steps])
