"""Chains of NUTS: their quantities side by side, and how well they mix."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from arviz_stats.base.array import BaseArray


def quantities(draws: Any) -> np.ndarray:
    """Scalar quantities side by side, those left out that never move.

    Parameters
    ----------
    draws
        Pytree of arrays whose leading axes are chains and draws.

    Returns
    -------
    Shape (chains, draws, quantities).
    """
    leaves = [np.asarray(x) for x in jax.tree_util.tree_leaves(draws)]
    columns = np.concatenate([x.reshape(*x.shape[:2], -1) for x in leaves], axis=2)
    return columns[:, :, np.ptp(columns, axis=(0, 1)) > 0]


def bulk_ess(columns: np.ndarray) -> np.ndarray:
    """Bulk ESS of each quantity."""
    return _each(columns, lambda x: BaseArray().ess(x, chain_axis=0, draw_axis=1, method="bulk"))


def r_hat(columns: np.ndarray) -> np.ndarray:
    """Rank-normalised R-hat of each quantity."""
    return _each(columns, lambda x: BaseArray().rhat(x, chain_axis=0, draw_axis=1, method="rank"))


def _each(columns: np.ndarray, statistic: Callable[[np.ndarray], Any]) -> np.ndarray:
    return np.array([float(statistic(columns[:, :, i])) for i in range(columns.shape[2])])
