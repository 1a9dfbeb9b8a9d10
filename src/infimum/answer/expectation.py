"""The expectation of a function of the draws: under q, corrected, and how far to believe it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from infimum.checks import quantities
from infimum.checks.weights import Estimate


@dataclass(frozen=True, eq=False)
class Expectation:
    """A function's mean and sd, an entry for each number of its value at one draw.

    Attributes
    ----------
    mean, sd
        Under q.
    weighted_mean, weighted_sd, mcse
        Corrected by reweighting, and the Monte Carlo standard error of that mean.
    mean_error, sd_error
        q's error of the mean in posterior sds, and of the sd relative to it.
    verdict
        "good", "reweight" or "unreliable"; an array of these where the value is one.
    reason
        Why something is unreliable; empty if nothing is.
    """

    mean: Any
    sd: Any
    weighted_mean: Any
    weighted_sd: Any
    mcse: Any
    mean_error: Any
    sd_error: Any
    verdict: Any
    reason: str = ""

    def __str__(self) -> str:
        said = f" ({self.reason})" if self.reason else ""
        if np.ndim(self.mean):
            shown = np.array2string(np.asarray(self.mean), precision=4, threshold=20)
            return f"mean under q {shown}, verdicts {', '.join(np.unique(self.verdict))}{said}"
        return (
            f"mean {self.mean:.4g} and sd {self.sd:.4g} under q; corrected "
            f"{Estimate(float(self.weighted_mean), float(self.mcse))} and {self.weighted_sd:.4g}: "
            f"{self.verdict}{said}"
        )


FIELDS = ("mean", "sd", "weighted_mean", "weighted_sd", "mcse", "mean_error", "sd_error")


class _UnfitError(ValueError):
    """The function's values can't be averaged."""


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
        Part of a variance above which one draw decides it.
    reason
        Why the weights can't be believed; empty if they can.
    outside
        Its values at draws of the unseen mass, and the share of Z that these stand for.
    """
    shape: tuple[int, ...] = ()
    seen = 0

    def flat() -> Iterator[np.ndarray]:
        nonlocal shape, seen
        for chunk in chunks:
            values = _numbers(chunk)
            shape = values.shape[1:] if values.ndim else ()
            seen += len(values) if values.ndim else 0
            yield values.reshape(len(values), -1) if values.ndim else values.reshape(1, 1)

    try:
        compared = quantities.compare(flat(), n, log_w)
        if seen != len(log_w):
            raise _UnfitError(f"its value has no leading axis of draws: {seen}, not {len(log_w)}")
    except ValueError as unfit:
        nothing = dict.fromkeys(FIELDS, float("nan"))
        return Expectation(**nothing, verdict="unreliable", reason=f"the function: {unfit}")
    shift = np.zeros(len(compared.mean))
    if outside is not None:
        values = _numbers(outside[0])
        shift = quantities.shift(compared, values.reshape(len(values), -1), outside[1])
    verdict = quantities.verdicts(compared, not reason, heavy, shift)
    if not (np.isfinite(compared.mean).all() and np.isfinite(compared.mean_error).all()):
        reason = "the function is NaN or infinite at some draws"
    elif not reason and np.any(shift > quantities.KNOWN):
        reason = "a part of p* that is beyond the weights seen would change it"
    elif not reason and np.any(verdict == "unreliable"):
        reason = "few draws decide its mean or sd: its tails are too heavy for so many"
    told = {name: getattr(compared, name).reshape(shape)[()] for name in FIELDS}
    said = verdict.reshape(shape)
    return Expectation(**told, verdict=said if shape else str(said), reason=reason)


def _numbers(chunk: Any) -> np.ndarray:
    """As float64; booleans count as 0 and 1."""
    try:
        values = np.asarray(chunk)
    except (TypeError, ValueError, RuntimeError) as error:
        raise _UnfitError(f"its value is no array of numbers ({error})") from error
    if values.dtype.kind not in "biuf":
        raise _UnfitError(f"its value has dtype {values.dtype}, not real numbers")
    return values.astype(np.float64)
