"""The expectation of any function of the draws, with its own verdict."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, PyTree

from infimum.answer.assessment import Assessment
from infimum.checks import events, quantities, weights
from infimum.checks.weights import Estimate


@dataclass(frozen=True, eq=False)
class Expectation:
    """A function's mean and sd, an entry for each number of its value at one draw.

    Attributes
    ----------
    mean, sd
        Under q.
    weighted_mean, weighted_sd, mcse
        Corrected by reweighting, and the Monte Carlo standard error of that mean. For a function
        whose values are all 0, or all 1, mcse is what the probability of the event, or of its
        complement, is below (by the rule of three).
    mean_error, sd_error
        q's error of the mean in posterior sds, and of the sd relative to it.
    verdict
        "good", "reweight" or "unreliable"; an array of these if the value is an array.
    reason
        Why something is unreliable; empty if nothing is.
    """

    mean: float | np.ndarray
    sd: float | np.ndarray
    weighted_mean: float | np.ndarray
    weighted_sd: float | np.ndarray
    mcse: float | np.ndarray
    mean_error: float | np.ndarray
    sd_error: float | np.ndarray
    verdict: str | np.ndarray
    reason: str = ""

    def __str__(self) -> str:
        reason = f" ({self.reason})" if self.reason else ""
        if np.ndim(self.mean):
            shown = np.array2string(np.asarray(self.mean), precision=4, threshold=20)
            return f"mean under q {shown}, verdicts {', '.join(np.unique(self.verdict))}{reason}"
        return (
            f"mean {self.mean:.4g} and sd {self.sd:.4g} under q; corrected "
            f"{Estimate(float(self.weighted_mean), float(self.mcse))} and {self.weighted_sd:.4g}: "
            f"{self.verdict}{reason}"
        )


FIELDS = ("mean", "sd", "weighted_mean", "weighted_sd", "mcse", "mean_error", "sd_error")


class _UnfitError(ValueError):
    """The function's values can't be averaged."""


def expect(function: Callable[[PyTree], Any], assessment: Assessment, reason: str) -> Expectation:
    """The expectation of a function of constrained draws.

    Parameters
    ----------
    reason
        Why the weights can't be believed; empty if they can.
    """
    draws, unseen = assessment.draws, assessment.unseen
    if draws.stored is None:
        values = map(function, (draws.space.draws(z) for z, *_ in draws.chunks()))
    else:
        values = map(function, [draws.stored])
    outside = None
    if unseen is not None and len(unseen.z) and draws.stored is None:
        outside = (function(draws.space.draws(unseen.z)), unseen.mass)
    heavy = quantities.heavy_limit(draws.log_w, draws.log_weights)
    return expectation(values, draws.n, draws.log_weights, heavy, reason, outside)


def expectation(
    chunks: Iterable[Any],
    n: int,
    log_w: Float[np.ndarray, " m"],
    heavy: float,
    reason: str,
    outside: tuple[Any, float] | None = None,
) -> Expectation:
    """From the function's values at a proposal's draws, the first n of them q's.

    Parameters
    ----------
    chunks
        Its values at some draws at a time.
    log_w
        Log weights of all draws.
    heavy
        Share of a variance above which one draw decides it.
    reason
        Why the weights can't be believed; empty if they can.
    outside
        Its values at draws of the unseen mass, and the share of Z that these stand for.
    """
    shape: tuple[int, ...] = ()
    rows, is_event = 0, np.ones(1, bool)

    def flat() -> Iterator[np.ndarray]:
        nonlocal shape, rows, is_event
        for chunk in chunks:
            values = _numbers(chunk)
            shape = values.shape[1:] if values.ndim else ()
            rows += len(values) if values.ndim else 0
            values = values.reshape(len(values), -1) if values.ndim else values.reshape(1, 1)
            is_event = is_event & ((values == 0) | (values == 1)).all(axis=0)
            yield values

    try:
        compared = quantities.compare(flat(), n, log_w)
        if rows != len(log_w):
            raise _UnfitError(f"its value has no leading axis of draws: {rows}, not {len(log_w)}")
    except ValueError as unfit:
        nothing = dict.fromkeys(FIELDS, float("nan"))
        return Expectation(**nothing, verdict="unreliable", reason=f"the function: {unfit}")
    shift = _shift(compared, outside)
    verdict = quantities.verdicts(compared, not reason, heavy, shift)
    verdict = np.where(is_event, events.event_verdicts(compared, not reason, shift), verdict)
    bounds = np.where(is_event, events.bounds(compared, weights.ess(log_w)), np.nan)
    compared = compared._replace(mcse=np.where(np.isnan(bounds), compared.mcse, bounds))
    numbers = {name: getattr(compared, name).reshape(shape)[()] for name in FIELDS}
    if not (np.isfinite(compared.mean).all() and np.isfinite(compared.mean_error).all()):
        reason = "the function is NaN or infinite at some draws"
    elif not reason:
        reason = _doubt(verdict == "unreliable", shift, is_event, bounds)
    shaped = verdict.reshape(shape)
    return Expectation(**numbers, verdict=shaped if shape else str(shaped), reason=reason)


def _shift(
    compared: quantities.Comparison, outside: tuple[Any, float] | None
) -> Float[np.ndarray, " k"]:
    """What the unseen mass would change."""
    if outside is None:
        return np.zeros(len(compared.mean))
    values = _numbers(outside[0])
    return quantities.shift(compared, values.reshape(len(values), -1), outside[1])


def _doubt(
    unknown: Bool[np.ndarray, " k"],
    shift: Float[np.ndarray, " k"],
    is_event: Bool[np.ndarray, " k"],
    bounds: Float[np.ndarray, " k"],
) -> str:
    """Why something is unknown though the weights can be believed; empty if nothing is."""
    if np.any(shift > quantities.MOST_NOISE):
        return "unseen mass of p* would change it"
    if np.isfinite(bounds).any():
        return (
            "no draw, or every draw, sees an event: its probability, or that of its complement, is "
            f"below {np.nanmin(bounds):.2g}"
        )
    if np.any(unknown & is_event):
        return "too few draws see the event"
    if np.any(unknown):
        return "too few draws determine its mean or sd, because its tails are heavy"
    return ""


def _numbers(chunk: Any) -> np.ndarray:
    """As float64; booleans count as 0 and 1."""
    try:
        values = np.asarray(chunk)
    except (TypeError, ValueError, RuntimeError) as error:
        raise _UnfitError(f"its value is no array of numbers ({error})") from error
    if values.dtype.kind not in "biuf":
        raise _UnfitError(f"its value has dtype {values.dtype}, not real numbers")
    return values.astype(np.float64)
