"""TODO."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass
class Progress:
    """What a fit tells while it runs.

    Attributes
    ----------
    stage
        "begun", of a fit that will take long; "starting", "fitting", "reading" all rows, or
        "checking"; or "skipped", of a rung that is too large for a climb.
    running
        Starts still on their way.
    loss
        Lowest estimate of KL[q ‖ p̂] so far, in nats; the ELBO is its negative.
    n_calls, n_gradients
        Batched calls of the target, and gradients in them, over all starts.
    noise
        Standard error of that estimate in nats, as if its draws were independent, which structured
        ones better; NaN where it is not known.
    family
        Name of the family that is being fitted.
    note
        Why it is skipped, or how long it will take.
    rung
        Which fit of a climb it is, from 1.
    kl
        Estimate of KL[q ‖ p*] of the last rung, in nats; NaN where none has been fitted.
    seconds
        Since the call began.
    to_go
        Seconds that this fit is expected to take yet, compilation not counted; 0 from where it
        takes longer, NaN where nothing is expected. Of nine fits it was off by a factor of 5 at
        most either way, and least where a gradient is dear.
    left
        Seconds of the climb's budget that are left; infinite where it has none.
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
