"""Hubs and groups: how the coordinates of a sparse Gaussian fall apart.

Hubs are the few coordinates without which the others fall apart into small groups. Given the hubs,
the groups are independent of each other.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import scipy.sparse
from jaxtyping import Float, Int

from infimum.base.errors import UnsuitableError, coded_error
from infimum.corrections.blocks.polar import LARGEST_GROUP
from infimum.families._distribution import SparseGaussian
from infimum.structure.structure import block_labels

MOST_HUBS = 8
"""Most hubs. The fit of their marginal has no gradient, and takes about three times d²/2 values a
step."""


class Split(NamedTuple):
    """Hubs, and groups that are independent of each other given the hubs.

    Attributes
    ----------
    hubs
        Coordinates of the hubs in z, shape (h,).
    groups
        Coordinates of each group, shape (n, k). A group with fewer than k is filled up with d, the
        number of a coordinate that does not exist: it is treated as standard normal.
    root
        Lower triangles R, shape (n, k, k): the covariance of a group under q given the hubs is
        R Rᵀ.
    slope
        How much q's conditional means move with the hubs, shape (n, k, h).
    """

    hubs: Int[np.ndarray, " h"]
    groups: Int[np.ndarray, "n k"]
    root: Float[np.ndarray, "n k k"]
    slope: Float[np.ndarray, "n k h"]


def split_of(q: SparseGaussian) -> Split:
    """The fewest hubs without which only small groups are coupled; q says what is coupled.

    The coordinates with most neighbours are tried first.

    Raises
    ------
    UnsuitableError
        If `MOST_HUBS` are not enough.
    """
    d, (row, column) = q.dim, np.asarray(q.edges)
    order = np.argsort(-np.bincount(np.concatenate([row, column]), minlength=d), kind="stable")
    for count in range(1, min(MOST_HUBS, d - 1) + 1):
        local = np.ones(d, bool)
        local[order[:count]] = False
        label = block_labels(np.asarray(q.edges), local)
        if int(np.bincount(label).max()) <= LARGEST_GROUP:
            return _split(q, np.sort(order[:count]), np.flatnonzero(local), label)
    raise coded_error(
        UnsuitableError,
        "E806",
        f"more than {LARGEST_GROUP} coordinates are coupled to each other even without the "
        f"{MOST_HUBS} that have most neighbours: blocks is for small groups that depend on few "
        "hubs. Use another correction",
    )


def _split(
    q: SparseGaussian,
    hubs: Int[np.ndarray, " h"],
    local: Int[np.ndarray, " l"],
    label: Int[np.ndarray, " l"],
) -> Split:
    """The groups of local coordinates with these labels, and q's conditionals given the hubs."""
    d, size = q.dim, int(np.bincount(label).max())
    groups = np.full((label.max() + 1, size), d)
    by_group = np.argsort(label, kind="stable")
    first = np.searchsorted(label[by_group], label[by_group])
    groups[label[by_group], np.arange(len(local)) - first] = local[by_group]
    values, (row, column) = q.precision(), np.asarray(q.edges)
    across = scipy.sparse.coo_matrix((values[d:], (row, column)), shape=(d + 1, d + 1))
    precision = (across + across.T + scipy.sparse.diags(np.append(values[:d], 1.0))).tocsr()
    # The covariance given the hubs is the inverse of each group's block of the precision.
    pairs = np.broadcast_arrays(groups[:, :, None], groups[:, None, :])
    within = precision[pairs[0].ravel(), pairs[1].ravel()]
    missing = (groups == d)[:, :, None] & (groups == d)[:, None, :]
    block = np.where(missing, np.eye(size), np.asarray(within).reshape(*groups.shape, size))
    with_hubs = precision[groups.ravel()][:, hubs].toarray().reshape(*groups.shape, len(hubs))
    covariance = np.linalg.inv(block)
    return Split(hubs, groups, np.linalg.cholesky(covariance), -covariance @ with_hubs)
