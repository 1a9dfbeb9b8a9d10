"""The pattern of a symmetric matrix that is known by its products only, from a few coded ones.

Columns are thrown into B buckets at random. Each bucket has three products: with random weights of
its columns, with the weights times the columns' numbers, and with the weights times random marks.
In each row a product holds the sum over the row's entries in that bucket. If there is one entry,
the second product over the first is its column, and the third confirms it. Known entries are
subtracted from the row and, by symmetry, from their mirror images, which leaves more buckets with
one entry.

Rows that stay unresolved have many entries. If they are few, their columns are fetched by a product
each. If they are many, the columns are thrown again; if that does not halve the number of
unresolved rows, into twice as many buckets.

The idea is that of sparse graph codes (Pawar & Ramchandran 2013), for rows of a matrix.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

FEWEST_BUCKETS = 8
"""Buckets at the beginning: they resolve rows of up to about a dozen entries."""

FIRST_THROWS = 3
"""Independent throws into buckets: three resolve a row of as many entries as there are buckets."""

LARGEST_FETCHED = 64
"""Largest d for which the matrix is simply multiplied with the identity."""

MOST_ENTRIES = 2**21
"""Entries above which a matrix is not sparse. That of a horseshoe prior on 5,966 coefficients of
one regression has seventy times as many, and took minutes to find dense."""

NUMBERS_PER_CALL = 2**23
"""Numbers in the vectors that are multiplied together: 64 MB."""

ROUNDING = 1e-10
"""Remainder of a product, as a part of the row's largest, that is taken for rounding."""

MARK_ERROR = 1e-7
"""Relative difference up to which a mark confirms an entry. Other marks differ by more, almost
surely."""

MOST_PASSES = 60
"""Most passes over one set of throws; each resolves at least one entry."""


def probe(
    times: Callable[[np.ndarray], np.ndarray],
    dim: int,
    rng: np.random.Generator,
    noise: np.ndarray | None = None,
) -> np.ndarray | None:
    """Rows and columns of the entries that are not zero, shape (2, n); None if they are too many.

    Parameters
    ----------
    times
        H v for each row of v (n, d).
    noise
        Error of each row of a product with entries near 1, shape (d,); by default only rounding.
    """
    entries = _Entries(dim, np.zeros(dim) if noise is None else noise)
    buckets, before = FEWEST_BUCKETS, dim
    throws: list[_Throw] = []
    while True:
        if dim * buckets > MOST_ENTRIES:
            return None
        if dim <= LARGEST_FETCHED or 3 * FIRST_THROWS * buckets >= dim:
            entries.fetch(times, np.arange(dim))
            return entries.pairs
        for _ in range(1 if throws else FIRST_THROWS):
            throws.append(_Throw(times, dim, buckets, entries, rng))
        for _ in range(MOST_PASSES):
            if not sum(throw.resolve(entries, throws) for throw in throws):
                break
        unresolved_rows = np.flatnonzero(np.any([throw.unresolved() for throw in throws], axis=0))
        if len(unresolved_rows) <= 3 * FIRST_THROWS * buckets:
            entries.fetch(times, unresolved_rows)
            return entries.pairs
        if len(unresolved_rows) > before / 2:
            buckets, throws = 2 * buckets, []
        before = len(unresolved_rows)


class _Entries:
    """Entries that are known, each with its mirror image."""

    def __init__(self, dim: int, noise: np.ndarray) -> None:
        self.dim = dim
        self.noise = noise
        self.keys = self._sorted = np.zeros(0, np.int64)
        self.values = np.zeros(0)

    @property
    def pairs(self) -> np.ndarray:
        """Rows and columns of the known entries, shape (2, n)."""
        return np.stack([self.keys // self.dim, self.keys % self.dim])

    def add(self, rows: np.ndarray, columns: np.ndarray, values: np.ndarray) -> np.ndarray:
        """Add entries and their mirror images; returns the places of the new ones among all."""
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
        """Add whole columns, each by one product with a unit vector."""
        each = max(1, NUMBERS_PER_CALL // self.dim)
        for start in range(0, len(columns), each):
            some = columns[start : start + each]
            seeds = np.zeros((len(some), self.dim))
            seeds[np.arange(len(some)), some] = 1.0
            images = times(seeds)
            place, rows = np.nonzero(np.abs(images) > self.noise)
            self.add(rows, some[place], images[place, rows])


class _Throw:
    """One throw of the columns into buckets: its products, less all known entries."""

    def __init__(
        self,
        times: Callable[[np.ndarray], np.ndarray],
        dim: int,
        buckets: int,
        entries: _Entries,
        rng: np.random.Generator,
    ) -> None:
        self.dim = dim
        self.bucket = rng.integers(buckets, size=dim)
        self.weights = np.empty((3, dim))
        self.weights[0] = rng.choice([-1.0, 1.0], dim) * rng.uniform(0.5, 1.5, dim)
        self.weights[1] = self.weights[0] * (1 + np.arange(dim)) / dim
        self.weights[2] = self.weights[0] * rng.uniform(0.5, 1.5, dim)
        self.remainders = np.empty((3, buckets, dim))
        each = max(1, NUMBERS_PER_CALL // dim)
        jobs = [(k, b) for k in range(3) for b in range(buckets)]
        for start in range(0, len(jobs), each):
            some = jobs[start : start + each]
            seeds = np.stack([np.where(self.bucket == b, self.weights[k], 0.0) for k, b in some])
            for (k, b), image in zip(some, times(seeds), strict=True):
                self.remainders[k, b] = image
        self.noise = entries.noise
        self.rounding = np.maximum(ROUNDING * np.abs(self.remainders).max(axis=(0, 1)), self.noise)
        self.subtract(entries, np.arange(len(entries.keys)))

    def subtract(self, entries: _Entries, places: np.ndarray) -> None:
        """Take some of the known entries out of the products."""
        rows, columns = entries.keys[places] // self.dim, entries.keys[places] % self.dim
        cells = self.bucket[columns] * self.dim + rows
        for k in range(3):
            terms = entries.values[places] * self.weights[k, columns]
            flat = self.remainders[k].reshape(-1)
            flat -= np.bincount(cells, terms, minlength=flat.size)

    def resolve(self, entries: _Entries, throws: list[_Throw]) -> int:
        """Read entries that stand alone, and take them out of every throw; returns their number."""
        first, second, third = self.remainders
        filled = np.abs(first) > self.rounding
        bucket, row = np.nonzero(filled)
        one = first[bucket, row]
        column = np.rint(second[bucket, row] / one * self.dim) - 1
        possible = (column >= 0) & (column < self.dim)
        bucket, row, one = bucket[possible], row[possible], one[possible]
        column = column[possible].astype(np.int64)
        alone = self.bucket[column] == bucket
        for k, sums in ((1, second), (2, third)):
            expected = one * self.weights[k, column] / self.weights[0, column]
            error = MARK_ERROR * np.abs(expected) + self.noise[row]
            alone &= np.abs(sums[bucket, row] - expected) <= error
        row, column, one = row[alone], column[alone], one[alone]
        new = entries.add(row, column, one / self.weights[0, column])
        for throw in throws:
            throw.subtract(entries, new)
        return len(new)

    def unresolved(self) -> np.ndarray:
        """Whether entries are left in each row, shape (d,)."""
        return np.asarray((np.abs(self.remainders) > self.rounding).any(axis=(0, 1)))
