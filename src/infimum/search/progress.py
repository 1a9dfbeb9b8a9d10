"""Progress: what a running fit reports to its display and to the user's callback."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass
class Progress:
    """One report of a running fit.

    Attributes
    ----------
    stage
        "begun" if the fit will take long; then "starting", "fitting", "reading" (all rows),
        "checking", "scouting" (for other modes); or "skipped" if a rung of a climb is too large.
    running
        Number of starts that are still moving.
    loss
        Lowest estimate of KL[q ‖ p̂] so far, in nats; the ELBO is its negative.
    n_calls, n_gradients
        Batched calls of the target, and gradients in them, over all starts.
    noise
        Standard error of that estimate in nats, as if the draws were independent; structured draws
        are more precise. NaN if it is not known.
    family
        Name of the family that is being fitted.
    note
        Why the rung is skipped, or how long the fit will take.
    rung
        Number of this fit in its climb, from 1.
    kl
        Estimate of KL[q ‖ p*] of the last rung, in nats; NaN if none has been fitted.
    seconds
        Time since the call began.
    to_go
        Seconds that this fit is expected to need from now on, without compilation; 0 once it takes
        longer than expected, NaN if nothing is known. For nine fits it was off by a factor of 5 at
        most either way, and least if a gradient is expensive.
    left
        Seconds that are left of the climb's budget; infinite if it has none.
    """

    stage: str
    running: int
    loss: float
    n_calls: int
    n_gradients: int
    noise: float = np.nan
    family: str = ""
    note: str = ""
    rung: int = 1
    kl: float = np.nan
    seconds: float = 0.0
    to_go: float = np.nan
    left: float = np.inf


Watch = Callable[[Progress], Any]
"""Takes each report; a true return value asks the fit to stop."""
