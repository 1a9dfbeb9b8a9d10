"""A target and what is true of it: its moments and log Z, known or by reference draws."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import infimum
from benchmarks.database import load_data, load_reference
from benchmarks.posteriors import Posterior

LOG_Z = 3.0
"""In nats, of every synthetic target: not zero, so that a lost constant shows."""

MEAN, SD = 0.1, 0.1
"""True sds by which a mean, and part by which an sd, may be off: what "good" promises."""

NEAR = 0.5
"""Part of these bounds within which an answer is so near that it should not have to be refused."""

ERRORS = 3.0
"""Standard errors of reference draws that do not count as an error of a fit: one quantity of the
hundred is expected above 2.6."""


@dataclass(frozen=True)
class Truth:
    """A target, and what is true of it.

    Attributes
    ----------
    name
        What reports call it.
    target
        What is fitted.
    names
        The scalar quantities of which the truth is known, as `Fit.summary` names them.
    means, sds
        True mean and sd of each, shape (k,), in the quantity's own unit; NaN or infinite where the
        moment does not exist.
    log_z
        In nats; NaN where it is not known, or does not exist.
    mean_noise, sd_noise
        Part of an error that the truth's own uncertainty explains: of means in sds, of sds relative
        to them, shape (k,) or one number for all.
    improper
        Whether the density can't be integrated: then nothing said of it is true.
    hidden
        Whether it has a mode that no search can be expected to find.
    """

    name: str
    target: infimum.Target
    names: tuple[str, ...]
    means: np.ndarray
    sds: np.ndarray
    log_z: float = float("nan")
    mean_noise: np.ndarray | float = 0.0
    sd_noise: np.ndarray | float = 0.0
    improper: bool = False
    hidden: bool = False

    def off(self, means: np.ndarray, sds: np.ndarray) -> np.ndarray:
        """Errors (k, 2): of the mean in true sds, of the sd relative to it, beyond the truth's own.

        Infinite where there is no true moment, and where the answer is not a number.
        """
        with np.errstate(all="ignore"):
            mean = np.maximum(np.abs(means - self.means) / self.sds - self.mean_noise, 0.0)
            sd = np.maximum(np.abs(sds / self.sds - 1) - self.sd_noise, 0.0)
            known = np.isfinite(self.means) & np.isfinite(self.sds) & np.isfinite(mean + sd)
        return np.where(known[:, None], np.stack([mean, sd], axis=1), np.inf)


def within(errors: Sequence[float], part: float = 1.0) -> bool:
    """Whether the errors of a mean and an sd are within this part of the bounds."""
    return bool(errors[0] <= part * MEAN and errors[1] <= part * SD)


def made(
    name: str,
    log_density: Callable[[Any], Any],
    example: Any,
    means: Any,
    sds: Any,
    support: Any = None,
    **more: Any,
) -> Truth:
    """A target of the normalised `log_density`, with `LOG_Z` added."""
    target = infimum.Target(lambda z: LOG_Z + log_density(z), example, support, name=name)
    k = len(target.names)
    means, sds = np.broadcast_to(means, k), np.broadcast_to(sds, k)
    return Truth(name, target, tuple(target.names), means, sds, **{"log_z": LOG_Z, **more})


def reference(folder: Path, posterior: Posterior) -> Truth:
    """One of posteriordb, whose truth is that of its reference draws, with their standard errors.

    Quantities that the reference draws do not hold are left out, such as the whitened values of
    the Poisson Gaussian process.
    """
    data = load_data(folder, posterior.name)
    target = infimum.from_numpyro(posterior.model, *posterior.arguments(data))
    known = _with_standardised(load_reference(folder, posterior.name))
    theirs = {name: _counted_from_one(name) for name in target.names}
    names = tuple(name for name in target.names if theirs[name] in known)
    draws = np.stack([known[theirs[name]] for name in names], axis=1)
    means, sds = draws.mean(axis=0), draws.std(axis=0, ddof=1)
    kurtosis = np.mean(((draws - means) / sds) ** 4, axis=0)
    return Truth(
        posterior.name,
        target,
        names,
        means,
        sds,
        mean_noise=ERRORS / np.sqrt(len(draws)),
        sd_noise=ERRORS * np.sqrt((kurtosis - 1) / (4 * len(draws))),
    )


def _counted_from_one(name: str) -> str:
    """Posteriordb's name of a quantity: its vectors begin at 1, ours at 0."""
    return re.sub(r"\[(\d+)\]$", lambda found: f"[{int(found[1]) + 1}]", name)


def _with_standardised(draws: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """With t = (θ - μ)/τ where there are θ, μ and τ: what non-centred eight schools are stated in.

    The centred model has no quantity of this name, and its t is not asked for.
    """
    known = dict(draws)
    if {"mu", "tau", "theta[1]"} <= set(draws):
        known |= {
            name.replace("theta", "t"): (value - draws["mu"]) / draws["tau"]
            for name, value in draws.items()
            if name.startswith("theta[")
        }
    return known
