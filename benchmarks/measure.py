"""Measure a Gaussian q on its own terms: its ELBO by fresh draws, and its errors against draws."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np

import infimum

DRAWS = 20_000
"""Base draws of every ELBO; the same ones for every q on a posterior."""

DRAWS_SEED = 20_260_101
"""No fit sees these random numbers."""

SCREENS = (64, 512, 4096)
"""A q this many draws find clearly too far is not evaluated with all of them."""

NEAR = 0.1
"""Nats from the best known ELBO that count as having arrived."""


class Estimate(NamedTuple):
    """A Monte Carlo estimate and its standard error, in nats."""

    value: float
    se: float

    def __str__(self) -> str:
        return f"{self.value:.3f} ± {self.se:.3f}"


class Normal(Protocol):
    """What is asked of a q: z = push(ε) is a draw if ε is standard normal."""

    def push(self, eps: np.ndarray) -> np.ndarray:
        """Draws, shape (n, d), from base draws of that shape."""

    def log_det(self) -> float:
        """log |det dz/dε|."""


@dataclass(frozen=True)
class Gaussian:
    """N(mean, L Lᵀ), for methods whose answer is no infimum distribution."""

    mean: np.ndarray
    factor: np.ndarray

    @classmethod
    def from_root(cls, mean: np.ndarray, root: np.ndarray) -> Gaussian:
        """From any A with covariance A Aᵀ; L is lower triangular, so that base draws pair up."""
        if not np.isfinite(root).all():
            return cls(mean, root)
        upper = np.linalg.qr(root.T, mode="r")
        return cls(mean, (upper * np.sign(np.diag(upper))[:, None]).T)

    @classmethod
    def from_covariance(cls, mean: np.ndarray, covariance: np.ndarray) -> Gaussian:
        """From a covariance; one that is not positive definite gives NaN, and so a NaN ELBO."""
        try:
            return cls(mean, np.linalg.cholesky(covariance))
        except np.linalg.LinAlgError:
            return cls(mean, np.full_like(covariance, np.nan))

    def push(self, eps: np.ndarray) -> np.ndarray:
        """z = mean + L ε."""
        return self.mean + eps @ self.factor.T

    def log_det(self) -> float:
        """Sum of the log diagonal of L."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return float(np.log(np.abs(np.diag(self.factor))).sum())


class Judge:
    """Compares every q on one target with the same base draws, so that their errors cancel.

    Parameters
    ----------
    target
        Gives log p̂. Its own program computes it; which draws are judged, and what q is there, is
        computed here.
    """

    def __init__(self, target: infimum.Target) -> None:
        self.target = target
        rng = np.random.default_rng(DRAWS_SEED)
        self.eps = rng.standard_normal((DRAWS, target.dim))

    def log_w(self, q: Normal, n: int = DRAWS) -> np.ndarray:
        """log p̂ - log q at the first n draws; the mean of these is the ELBO."""
        eps = self.eps[:n]
        z = np.asarray(q.push(eps))
        log_q = -0.5 * (eps**2).sum(axis=1) - q.log_det() - 0.5 * eps.shape[1] * np.log(2 * np.pi)
        log_p = np.full(n, np.nan)
        sound = np.isfinite(z).all(axis=1)
        if sound.any():
            log_p[sound] = self.target.values(z[sound])
        return log_p - log_q

    def first_within(self, path: Sequence[Normal], best: np.ndarray, nats: float) -> int | None:
        """Index of the first q whose ELBO is less than `nats` below that of the best.

        Parameters
        ----------
        path
            The q of a method, in its order.
        best
            Log weights of the best q, all `DRAWS` of them.
        """
        for index, q in enumerate(path):
            if self._within(q, best, nats):
                return index
        return None

    def _within(self, q: Normal, best: np.ndarray, nats: float) -> bool:
        for n in SCREENS:
            behind = gap(self.log_w(q, n), best[:n])
            if np.isnan(behind.value) or behind.value - 5 * behind.se > nats:
                return False
        return gap(self.log_w(q), best).value <= nats


def mean(values: np.ndarray) -> Estimate:
    """The mean with its standard error; NaN or -inf if any value is."""
    if not np.isfinite(values).all():
        return Estimate(float(np.sum(values)), float("nan"))
    return Estimate(float(values.mean()), float(values.std(ddof=1) / np.sqrt(len(values))))


def gap(log_w: np.ndarray, best: np.ndarray) -> Estimate:
    """ELBO of the best minus that of another q, over the same base draws."""
    return mean(best - log_w)


def choose(candidates: Sequence[np.ndarray]) -> int:
    """Index of the log weights with the highest mean."""
    return int(np.argmax([np.nan_to_num(mean(w).value, nan=-np.inf) for w in candidates]))


class Errors(NamedTuple):
    """The largest errors over all scalar quantities.

    Attributes
    ----------
    mean
        |mean - reference mean| in reference sds.
    sd
        |sd / reference sd - 1|.
    """

    mean: float
    sd: float


def errors(draws: Mapping[str, np.ndarray], reference: Mapping[str, np.ndarray]) -> Errors:
    """Compare means and sds of draws with those of the reference draws, by name."""
    if set(draws) != set(reference):
        raise ValueError(
            f"draws have the quantities {sorted(draws)}, the reference has {sorted(reference)}"
        )
    means, sds = [], []
    for name, known in reference.items():
        sd = known.std(ddof=1)
        means.append(abs(draws[name].mean() - known.mean()) / sd)
        sds.append(abs(draws[name].std(ddof=1) / sd - 1))
    return Errors(float(np.max(means)), float(np.max(sds)))
