"""TODO."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from infimum.base.extras import required
from infimum.target.space import Leaf

MOST_TRACED = 2000
"""Coordinates up to which those of a matrix are put in row order, as all other sources have them:
finding out takes as many evaluations of the constraining transform."""

NAMED = 8
"""Parameters that a message names, of many."""


class Order:
    """z against Stan's unconstrained vector, and draws against its constrained one.

    z has the parameters in the order of their names and each in row order, as every other source
    has them; Stan has them as declared, and matrices by columns.
    """

    def __init__(self, model: Any) -> None:
        self.model = model
        stanio = required("stanio", "stan")
        columns = model.param_names(include_tp=True, include_gq=True)
        self.variables = variables_of(stanio, columns)
        self.n_params = model.param_num()
        random = self._random()
        self.leaves = [
            Leaf(
                name,
                shape,
                derived=not self._is_parameter(place),
                noisy=name.startswith(LOG_LIKELIHOOD) or not random.isdisjoint(place.tolist()),
            )
            for name, (shape, place) in self.variables.items()
        ]
        bases = [name.split(".")[0].split(":")[0] for name in model.param_unc_names()]
        moved = self._moved() if len(bases) <= MOST_TRACED else {}
        self.order = np.array(
            sorted(range(len(bases)), key=lambda i: (bases[i], moved.get(i, (0, i))[0], i))
        )
        self.back = np.argsort(self.order)
        named = {i: scalar for i, (_, scalar) in moved.items()}
        counts: dict[str, int] = {}
        self.free_names = []
        for i in self.order:
            place = counts[bases[i]] = counts.get(bases[i], -1) + 1
            self.free_names.append(named.get(i, f"{bases[i]}~{place}"))
        self.coordinates = {named[i]: place for place, i in enumerate(self.order) if i in named}

    def _random(self) -> set[int]:
        """Columns that another seed changes at one and the same point."""
        model = self.model
        if model.param_num(include_gq=True) == self.n_params:
            return set()
        found: set[int] = set()
        for z in np.random.default_rng(0).uniform(-1, 1, (TRIED, model.param_unc_num())):
            try:
                first, second = (
                    model.param_constrain(
                        z, include_tp=True, include_gq=True, rng=model.new_rng(seed)
                    )
                    for seed in (1, 2)
                )
            except RuntimeError:  # Stan can't compute them here
                continue
            found |= set(np.flatnonzero((first != second) & ~np.isnan(first)).tolist())
        return found

    def _is_parameter(self, place: np.ndarray) -> bool:
        return bool(place.size) and int(place.min()) < self.n_params

    def _moved(self) -> dict[int, tuple[int, str]]:
        """Of each coordinate that moves one entry alone, which is moved by it alone: its place."""
        rng = np.random.default_rng(0)
        z = rng.uniform(-1, 1, self.model.param_unc_num())
        here = self.model.param_constrain(z)
        movers: dict[int, list[int]] = {}
        alone: dict[int, int] = {}
        for i in range(len(z)):
            there = self.model.param_constrain(z + 0.1 * (np.arange(len(z)) == i))
            entries = np.flatnonzero(there != here)
            for entry in entries:
                movers.setdefault(int(entry), []).append(i)
            if len(entries) == 1:
                alone[i] = int(entries[0])
        scalars: dict[int, tuple[int, str]] = {}
        for leaf, (_, place) in zip(self.leaves, self.variables.values(), strict=True):
            for rank, (entry, scalar) in enumerate(zip(place, leaf.scalars(), strict=True)):
                scalars[int(entry)] = rank, scalar
        return {i: scalars[e] for i, e in alone.items() if movers[e] == [i]}

    def gradient(self, z: np.ndarray) -> tuple[float, np.ndarray]:
        """log p̂ and its gradient at one point in Stan's order, constants included."""
        pair: tuple[float, np.ndarray] = self.model.log_density_gradient(
            z, propto=False, jacobian=True
        )
        return pair

    def value(self, z: np.ndarray) -> float:
        """log p̂ at one point in Stan's order."""
        return float(self.model.log_density(z, propto=False, jacobian=True))

    def draws(self, z: np.ndarray) -> dict[str, np.ndarray]:
        """Every variable."""
        return self.read(self.model, z)

    def read(self, model: Any, z: np.ndarray, seed: int = 0) -> dict[str, np.ndarray]:
        """The variables of a model with these parameters; NaN where Stan can't compute them.

        Random generated quantities are a function of the point and the seed.
        """
        generates = model.param_num(include_gq=True) > model.param_num()
        rows = []
        for row in np.ascontiguousarray(z[:, self.back]):
            rng = model.new_rng(zlib.crc32(row.tobytes(), seed)) if generates else None
            try:
                rows.append(
                    model.param_constrain(row, include_tp=True, include_gq=generates, rng=rng)
                )
            except RuntimeError:
                known = model.param_constrain(row)
                rest = model.param_num(include_tp=True, include_gq=True) - len(known)
                rows.append(np.concatenate([known, np.full(rest, np.nan)]))
        flat = np.array(rows)
        variables = self.variables
        if model is not self.model:
            columns = model.param_names(include_tp=True, include_gq=True)
            variables = variables_of(required("stanio", "stan"), columns)
        return {
            name: flat[:, place].reshape(len(z), *shape)
            for name, (shape, place) in variables.items()
        }

    def free_values(self, flat: np.ndarray) -> np.ndarray:
        """z of the parameters side by side, by name and in row order."""
        params = sorted(
            (name, place)
            for name, (_, place) in self.variables.items()
            if self._is_parameter(place)
        )
        places = np.concatenate([place for _, place in params])
        stan = np.empty(flat.shape)
        stan[:, places] = flat
        return np.array([self.model.param_unconstrain(row) for row in stan])[:, self.order]

    def invert(self, flat: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """z, and log |det| there: the density with the Jacobian against that without."""
        z = self.free_values(flat)
        log_jacobian = [
            self.value(row) - self.model.log_density(row, propto=False, jacobian=False)
            for row in np.ascontiguousarray(z[:, self.back])
        ]
        return z, np.array(log_jacobian)


def variables_of(
    stanio: Any, columns: Sequence[str]
) -> dict[str, tuple[tuple[int, ...], np.ndarray]]:
    """Each variable's shape, and the columns of its entries in row order.

    The parts of tuples and complex numbers are variables of their own, under Stan's dotted names.
    """
    found: dict[str, tuple[tuple[int, ...], np.ndarray]] = {}
    for name, variable in stanio.parse_header(",".join(columns)).items():
        own = np.arange(variable.start_idx, variable.end_idx)
        if variable.type is stanio.reshape.VariableType.SCALAR:
            shape = tuple(variable.dimensions)
            found[name] = shape, np.ravel(own.reshape(shape, order="F"))
        else:
            found |= {columns[i]: ((), np.array([i])) for i in own}
    return found


LOG_LIKELIHOOD = "log_lik"
"""By convention: the generated quantity with log p(x_n | z) of each observation."""


TRIED = 8
"""Points at which generated quantities are made with two seeds, to see which are random."""
