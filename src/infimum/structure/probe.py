"""The pattern of a symmetric matrix that can only be multiplied with: a few coded products.

Columns are thrown into B buckets at random. A bucket's three products, with random weights, with
those times the column's number, and with those times a random mark, hold in each row the sum over
the row's entries in that bucket. Where the row has one entry there, the second product over the
first is its column, and the third confirms it. What is known is subtracted, from the row and from
its mirror image, which leaves more buckets with one entry. Rows that stay unresolved are many
entries long: where they are few their columns are fetched outright. Where they are many the columns
are thrown again, and where that does not help, into twice as many buckets.

The idea is that of sparse graph codes (Pawar & Ramchandran 2013), for rows of a matrix.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

FEWEST_BUCKETS = 8
"""Buckets to begin with: rows of up to about a dozen entries are read in one go."""

THROWS = 3
"""Independent throws into buckets: with three, a row of as many entries as buckets is resolved."""

DIRECT = 64
"""Up to this dimension the matrix is simply multiplied with the identity."""

AT_ONCE = 2**23
"""Numbers in the products asked for together: 64 MB."""

NOTHING = 1e-10
"""Part of a row's largest product below which what is left is rounding."""

AGREE = 1e-7
"""Relative difference within which a mark confirms an entry; marks differ by more almost surely."""

PASSES = 60
"""Most passes over what is left of one set of throws; each resolves at least one entry."""


def probed(
    times: Callable[[np.ndarray], np.ndarray], dim: int, rng: np.random.Generator
) -> np.ndarray:
    """Rows and columns of entries that are not zero, shape (2, n).

    Parameters
    ----------
    times
        H v for each row of v (n, d).
    """
    known = _Known(dim)
    buckets, before = FEWEST_BUCKETS, dim
    throws: list[_Throw] = []
    while True:
        if dim <= DIRECT or 3 * THROWS * buckets >= dim:
            known.fetch(times, np.arange(dim))
            return known.pairs
        for _ in range(1 if throws else THROWS):
            throws.append(_Throw(times, dim, buckets, known, rng))
        for _ in range(PASSES):
            if not sum(throw.resolve(known, throws) for throw in throws):
                break
        left = np.flatnonzero(np.any([throw.unresolved() for throw in throws], axis=0))
        if len(left) <= 3 * THROWS * buckets:
            known.fetch(times, left)
            return known.pairs
        if len(left) > before / 2:
            buckets, throws = 2 * buckets, []
        before = len(left)


class _Known:
    """Entries found so far, each with its mirror image."""

    def __init__(self, dim: int) -> None:
        self.dim = dim
        self.keys = self._sorted = np.zeros(0, np.int64)
        self.values = np.zeros(0)

    @property
    def pairs(self) -> np.ndarray:
        """Rows and columns."""
        return np.stack([self.keys // self.dim, self.keys % self.dim])

    def add(self, rows: np.ndarray, columns: np.ndarray, values: np.ndarray) -> np.ndarray:
        """Keep entries and their mirror images; gives the places, among all, of the new ones."""
        keys = np.concatenate([rows * self.dim + columns, columns * self.dim + rows])
        keys, first = np.unique(keys, return_index=True)
        values = np.concatenate([values, values])[first]
        place = np.searchsorted(self._sorted, keys)  # np.isin hashes: it took seven times as long
        fresh = np.append(self._sorted, -1)[place] != keys
        before = len(self.keys)
        self.keys = np.concatenate([self.keys, keys[fresh]])
        self._sorted = np.sort(self.keys)
        self.values = np.concatenate([self.values, values[fresh]])
        return np.arange(before, len(self.keys))

    def fetch(self, times: Callable[[np.ndarray], np.ndarray], columns: np.ndarray) -> None:
        """Whole columns, by a product each."""
        each = max(1, AT_ONCE // self.dim)
        for start in range(0, len(columns), each):
            some = columns[start : start + each]
            seeds = np.zeros((len(some), self.dim))
            seeds[np.arange(len(some)), some] = 1.0
            images = times(seeds)
            which, rows = np.nonzero(images)
            self.add(rows, some[which], images[which, rows])


class _Throw:
    """One throw of the columns into buckets, and what is left of its products."""

    def __init__(
        self,
        times: Callable[[np.ndarray], np.ndarray],
        dim: int,
        buckets: int,
        known: _Known,
        rng: np.random.Generator,
    ) -> None:
        self.dim = dim
        self.bucket = rng.integers(buckets, size=dim)
        self.weights = np.empty((3, dim))
        self.weights[0] = rng.choice([-1.0, 1.0], dim) * rng.uniform(0.5, 1.5, dim)
        self.weights[1] = self.weights[0] * (1 + np.arange(dim)) / dim
        self.weights[2] = self.weights[0] * rng.uniform(0.5, 1.5, dim)
        self.left = np.empty((3, buckets, dim))
        each = max(1, AT_ONCE // dim)
        jobs = [(k, b) for k in range(3) for b in range(buckets)]
        for start in range(0, len(jobs), each):
            some = jobs[start : start + each]
            seeds = np.stack([np.where(self.bucket == b, self.weights[k], 0.0) for k, b in some])
            for (k, b), image in zip(some, times(seeds), strict=True):
                self.left[k, b] = image
        self.noise = NOTHING * np.abs(self.left).max(axis=(0, 1))
        self.subtract(known, np.arange(len(known.keys)))

    def subtract(self, known: _Known, places: np.ndarray) -> None:
        """Take known entries out of the products."""
        rows, columns = known.keys[places] // self.dim, known.keys[places] % self.dim
        cells = self.bucket[columns] * self.dim + rows
        for k in range(3):
            terms = known.values[places] * self.weights[k, columns]
            flat = self.left[k].reshape(-1)
            flat -= np.bincount(cells, terms, minlength=flat.size)

    def resolve(self, known: _Known, throws: list[_Throw]) -> int:
        """Read what stands alone, and take it out of every throw; how many entries were new."""
        first, second, third = self.left
        filled = np.abs(first) > self.noise
        bucket, row = np.nonzero(filled)
        one = first[bucket, row]
        column = np.rint(second[bucket, row] / one * self.dim) - 1
        possible = (column >= 0) & (column < self.dim)
        bucket, row, one = bucket[possible], row[possible], one[possible]
        column = column[possible].astype(np.int64)
        alone = self.bucket[column] == bucket
        for k, sums in ((1, second), (2, third)):
            expected = one * self.weights[k, column] / self.weights[0, column]
            alone &= np.abs(sums[bucket, row] - expected) <= AGREE * np.abs(expected)
        row, column, one = row[alone], column[alone], one[alone]
        new = known.add(row, column, one / self.weights[0, column])
        for throw in throws:
            throw.subtract(known, new)
        return len(new)

    def unresolved(self) -> np.ndarray:
        """Which rows have something left, shape (d,)."""
        return np.asarray((np.abs(self.left) > self.noise).any(axis=(0, 1)))
