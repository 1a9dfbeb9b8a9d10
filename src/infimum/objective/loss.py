"""The objective KL[q ‖ p̂] = E_q[log q - log p̂], and the draws it is estimated with.

loss = E_q[log q - log p̂] in nats is minimised; ELBO = -loss <= log Z.

If p̂ = 0 on part of the space, no q with full support has a finite loss. The loss is then that of q
restricted to S = {p̂ > 0}: E_q[log q - log p̂ | S] - log q(S). If p̂ > 0 everywhere, this is the loss
above.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

OUTSIDE_PENALTY = 10.0
"""Nats that a search adds, times the share of draws where p̂ = 0, so that q moves into the region of
positive density, and does not only take the right shape there."""


class Outcome(NamedTuple):
    """The loss of q over a batch of draws, and which draws it could not use.

    Attributes
    ----------
    loss
        Estimate of KL[q ‖ p̂] in nats, with `OUTSIDE_PENALTY` times the share of draws of zero
        density; inf if it can't be formed.
    inside
        Which draws have positive density, shape (n,).
    undefined
        Index of the first draw whose density or gradient is NaN or +inf; None if there is none.
    spread
        Standard deviation of log q − log p̂ over the draws inside, in nats; NaN if the loss can't be
        formed.
    """

    loss: float
    inside: np.ndarray
    undefined: int | None = None
    spread: float = np.nan


def outcome(
    log_q: Float[np.ndarray, " n"],
    log_p: Float[np.ndarray, " n"],
    gradient: Float[np.ndarray, "n d"] | None = None,
    counted: Float[np.ndarray, " n"] | None = None,
) -> Outcome:
    """The loss over draws from q, with draws of zero or undefined density set apart.

    Parameters
    ----------
    log_q, log_p
        log q and log p̂ at the draws, in nats.
    gradient
        Gradient of log p̂ there, if it will be used.
    counted
        Weight of each draw, if they are drawn in strata; the weights sum to one.
    """
    zero = log_p == -np.inf
    fine = np.isfinite(log_p)
    if gradient is not None:
        fine &= np.isfinite(gradient).all(axis=1)
    undefined = np.flatnonzero(~fine & ~zero)
    inside = ~zero
    if undefined.size or not inside.any():
        return Outcome(np.inf, inside, int(undefined[0]) if undefined.size else None)
    share = float(np.average(inside, weights=counted))
    kept = None if counted is None else counted[inside]
    log_ratio = log_q[inside] - log_p[inside]
    loss = np.average(log_ratio, weights=kept)
    loss += -np.log(share) + OUTSIDE_PENALTY * (1 - share)
    with np.errstate(over="ignore", invalid="ignore"):
        spread = float(log_ratio.std())
    return Outcome(float(loss), inside, None, spread)
