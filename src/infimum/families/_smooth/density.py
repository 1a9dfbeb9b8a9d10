"""A density of several coordinates: the exponential of a smooth function, drawn by rejection.

q(u) ∝ min(exp s(u), exp(c) t(u)) within a box, with s through values and slopes that were computed,
t a Student t around it, and a ceiling c that is passed by little of the mass. A draw of t is kept
with the share that q has of exp(c) t: so draws and densities are exact, whatever s is. As u is
nearly standard normal, s is nowhere taken to be above a normal of twice the sd.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from scipy.special import gammaincinv, ndtri

from infimum.families._family import arrays_below
from infimum.families._host import HostOnly
from infimum.families._smooth import radial
from infimum.families._smooth.warp import Warp
from infimum.gaussian.student_t import StudentT

FREEDOM = 6.0
"""Degrees of freedom of the t: tails heavier than those of a marginal of scales."""

TURNS = 5
"""Times that the t is fitted to q's weighted draws."""

PILOTS, FEW_PILOTS = 2**14, 2**12
"""Draws of the t from which the ceiling and the norm are taken: the norm's error is near 2e-3. And
those that the t is fitted to, which are enough to draw points from."""

ABOVE = 1e-3
"""Share of q's mass that may lie above the ceiling."""

LEAST_EFFECTIVE = 50
"""Effective draws a dimension below which the weights that the t is fitted to are made even."""

WIDER = 1.1
"""By how much the t is wider than the weighted draws."""

LIMIT, LIMIT_SD = 1.0, 2.0
"""Nats above the largest value, and the sd of the normal, that s is held below: what is farther out
and higher is nothing but a function that has left its points."""


class SmoothDensity(HostOnly):
    """A density of z = θ, as one of u.

    Attributes
    ----------
    warp
        The coordinates u of θ.
    u, coefficients
        The points and coefficients of s, as of `radial.through`; shape (n, h) the points.
    reach
        Half the width of the box in u.
    mean, factor
        Of the t in u, shapes (h,) and (h, h).
    ceiling, log_norm
        c, and the log of the integral of min(exp s, exp(c) t).
    """

    warp: Warp
    u: np.ndarray
    coefficients: np.ndarray
    reach: np.ndarray
    mean: np.ndarray
    factor: np.ndarray
    ceiling: np.ndarray
    log_norm: np.ndarray

    @classmethod
    def through(
        cls,
        warp: Warp,
        u: Float[np.ndarray, "n h"],
        values: Float[np.ndarray, " n"],
        slopes: Float[np.ndarray, "n h"],
        reach: float,
        n_pilots: int = PILOTS,
    ) -> SmoothDensity:
        """The density of u whose log has these values, up to a constant, and slopes by u."""
        coefficients = radial.through(u, values - values.max(), slopes)
        h = u.shape[1]
        even = _even_draws(h)
        mean, factor = np.zeros(h), np.eye(h)
        for turn in range(TURNS):
            t = StudentT(mean, factor, FREEDOM)
            x = mean + even[: n_pilots if turn == TURNS - 1 else FEW_PILOTS] @ factor.T
            logs = _smooth(coefficients, u, reach, x) - t.log_prob(x)
            mean, factor = _moments(x, logs, LEAST_EFFECTIVE * h)
        ceiling = _ceiling(logs)
        top = logs.max()
        log_norm = top + np.log(np.exp(np.minimum(logs, ceiling) - top).mean())
        return cls(
            warp,
            u,
            coefficients,
            np.asarray(float(reach)),
            np.asarray(t.mean),
            np.asarray(t.factor),
            np.asarray(ceiling),
            np.asarray(log_norm),
        )

    @classmethod
    def from_arrays(cls, arrays: dict[str, np.ndarray]) -> SmoothDensity:
        """From its arrays by name."""
        own = {name: x for name, x in arrays.items() if "/" not in name}
        return cls(Warp(**arrays_below("warp", arrays)), **own)

    @property
    def dim(self) -> int:
        """h."""
        return int(np.shape(self.u)[-1])

    @property
    def near(self) -> StudentT:
        """t."""
        return StudentT(self.mean, self.factor, FREEDOM)

    @property
    def acceptance(self) -> float:
        """Share of the t's draws that are kept."""
        return float(np.exp(self.log_norm - self.ceiling))

    def draw_inside(self, rng: np.random.Generator, n: int) -> Float[np.ndarray, "n h"]:
        """n draws of u."""
        kept: list[np.ndarray] = []
        while sum(map(len, kept)) < n:
            u = self.near.draw(rng, 4 * n)
            share = self.height(u) - self.ceiling - self.near.log_prob(u)
            kept.append(u[np.log(rng.random(len(u))) < share])
        return np.concatenate(kept)[:n]

    def draw(self, rng: np.random.Generator, n: int) -> Float[np.ndarray, "n h"]:
        """n independent draws."""
        return np.asarray(self.warp.theta(self.draw_inside(rng, n)))

    def log_density(self, z: Float[np.ndarray, "n h"]) -> Float[np.ndarray, " n"]:
        """log q(θ); -inf outside of the box."""
        u = self.warp.u(z)
        return np.asarray(self.height(u) - self.log_norm - self.warp.stretch(u)[1])

    def height(self, u: Float[np.ndarray, "n h"]) -> Float[np.ndarray, " n"]:
        """log of the density of u, up to a constant."""
        smooth = _smooth(self.coefficients, self.u, self.reach, u)
        return np.minimum(smooth, self.ceiling + self.near.log_prob(u))


def _smooth(
    coefficients: np.ndarray, points: np.ndarray, reach: float | np.ndarray, u: np.ndarray
) -> Float[np.ndarray, " n"]:
    """s at each row of u, held below its limit; -inf outside of the box."""
    highest = LIMIT - 0.5 * (u**2).sum(axis=1) / LIMIT_SD**2
    s = np.minimum(radial.at(coefficients, points, u), highest)
    return np.where((np.abs(u) < reach).all(axis=1), s, -np.inf)


def _even_draws(h: int) -> Float[np.ndarray, "n h"]:
    """Draws of the standard t, spread evenly (Sobol')."""
    from scipy.stats import qmc  # slow to import

    even = qmc.Sobol(h + 1, rng=np.random.default_rng(0)).random(PILOTS)
    even = np.clip(even, np.finfo(float).eps, 1 - np.finfo(float).eps)
    radii = np.sqrt(0.5 * FREEDOM / gammaincinv(0.5 * FREEDOM, even[:, :1]))
    return np.asarray(ndtri(even[:, 1:]) * radii)


def _moments(
    x: Float[np.ndarray, "n h"], logs: Float[np.ndarray, " n"], least: float
) -> tuple[Float[np.ndarray, " h"], Float[np.ndarray, "h h"]]:
    """Mean and a wide factor of the weighted points; weights of few effective ones are evened."""
    power = 1.0
    while True:
        weight = np.exp(power * (logs - logs.max()))
        if weight.sum() ** 2 / (weight**2).sum() >= least or power < 1e-3:
            break
        power *= 0.7
    weight /= weight.sum()
    mean = weight @ x
    away = x - mean
    covariance = (weight[:, None] * away).T @ away
    return mean, WIDER * np.linalg.cholesky(covariance + 1e-9 * np.eye(len(mean)))


def _ceiling(logs: Float[np.ndarray, " n"]) -> float:
    """The log weight above which lies a small share of the mass."""
    ascending = np.sort(logs)
    weight = np.exp(ascending - ascending[-1])
    # What a ceiling at each weight would cut off from those above it.
    above = np.cumsum(weight[::-1])[::-1] - weight * np.arange(len(weight), 0, -1)
    return float(ascending[np.argmax(above <= ABOVE * weight.sum())])
