"""The order of a Stan program's numbers: its own, and that of all other sources."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from infimum.base.extras import required
from infimum.sources.stan.bridge import CompiledModel, Engine
from infimum.target.space import Leaf

MOST_TRACED = 2000
"""Largest d for which the coordinates of a matrix are put in row order, as all other sources have
them. It takes d evaluations of the constraining transform to find out which entry each moves."""

LOG_LIKELIHOOD = "log_lik"
"""By convention, name of the generated quantity with log p(x_n | z) of each observation."""

RANDOMNESS_PROBES = 8
"""Points at which generated quantities are made with two seeds, to see which are random."""

Variables = dict[str, tuple[tuple[int, ...], np.ndarray]]
"""Each variable's shape, and the columns of its entries in row order among all constrained
entries."""


class Order:
    """Translates z into Stan's unconstrained vector, and Stan's constrained vector into draws.

    z has the parameters in the order of their names, and each in row order, as in every other
    source. Stan has them in the order of declaration, and matrices by columns.

    Attributes
    ----------
    order
        Coordinate i of z is Stan's coordinate order[i], shape (d,).
    leaves
        Every variable with its shape: parameters, transformed parameters, generated quantities.
    free_names
        A name for each coordinate of z: `L[1, 0]` if it moves that entry alone, else `L~3`.
    coordinates
        Place in z of each scalar that one coordinate moves alone.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.model = model = engine.model
        self.variables = variables_of(model.param_names(include_tp=True, include_gq=True))
        self.n_params = model.param_num()
        random_columns = self._random_columns()
        self.leaves = [
            Leaf(
                name,
                shape,
                derived=not self._is_parameter(place),
                noisy=name.startswith(LOG_LIKELIHOOD)
                or not random_columns.isdisjoint(place.tolist()),
            )
            for name, (shape, place) in self.variables.items()
        ]
        bases = [name.split(".")[0].split(":")[0] for name in model.param_unc_names()]
        single = self._single_entries() if len(bases) <= MOST_TRACED else {}
        self.order = np.array(
            sorted(range(len(bases)), key=lambda i: (bases[i], single.get(i, (0, i))[0], i))
        )
        self._inverse_order = np.argsort(self.order)
        named = {i: scalar for i, (_, scalar) in single.items()}
        counts: dict[str, int] = {}
        self.free_names = []
        for i in self.order:
            place = counts[bases[i]] = counts.get(bases[i], -1) + 1
            self.free_names.append(named.get(i, f"{bases[i]}~{place}"))
        self.coordinates = {named[i]: place for place, i in enumerate(self.order) if i in named}

    def _random_columns(self) -> set[int]:
        """Columns that change with the seed while the point stays the same."""
        model = self.model
        if model.param_num(include_gq=True) == self.n_params:
            return set()
        columns: set[int] = set()
        for z in np.random.default_rng(0).uniform(
            -1, 1, (RANDOMNESS_PROBES, model.param_unc_num())
        ):
            try:
                first, second = (
                    model.param_constrain(
                        z, include_tp=True, include_gq=True, rng=model.new_rng(seed)
                    )
                    for seed in (1, 2)
                )
            except RuntimeError:  # Stan cannot compute them here
                continue
            columns |= set(np.flatnonzero((first != second) & ~np.isnan(first)).tolist())
        return columns

    def _is_parameter(self, place: np.ndarray) -> bool:
        """Whether a variable in these columns is a parameter: Stan has the parameters first."""
        return bool(place.size) and int(place.min()) < self.n_params

    def _single_entries(self) -> dict[int, tuple[int, str]]:
        """For each coordinate that moves one entry, and is alone to move it: which entry that is.

        Returns
        -------
        The entry's place in its variable in row order, and its name, by Stan's coordinate.
        """
        rng = np.random.default_rng(0)
        z = rng.uniform(-1, 1, self.model.param_unc_num())
        here = self.engine.parameters(z)
        movers: dict[int, list[int]] = {}
        alone: dict[int, int] = {}
        for i in range(len(z)):
            there = self.engine.parameters(z + 0.1 * (np.arange(len(z)) == i))
            entries = np.flatnonzero(there != here)
            for entry in entries:
                movers.setdefault(int(entry), []).append(i)
            if len(entries) == 1:
                alone[i] = int(entries[0])
        scalars: dict[int, tuple[int, str]] = {}
        for leaf, (_, place) in zip(self.leaves, self.variables.values(), strict=True):
            for rank, (entry, scalar) in enumerate(zip(place, leaf.scalars(), strict=True)):
                scalars[int(entry)] = rank, scalar
        return {i: scalars[entry] for i, entry in alone.items() if movers[entry] == [i]}

    def draws(self, z: np.ndarray) -> dict[str, np.ndarray]:
        """Every variable at the rows of z."""
        return self.read(self.model, z)

    def read(self, model: CompiledModel, z: np.ndarray, seed: int = 0) -> dict[str, np.ndarray]:
        """Every variable at the rows of z, of this model or of one with other data.

        Derived quantities are NaN if Stan cannot compute them. Random ones depend on the point and
        the seed alone: a draw has the same ones wherever it is read.
        """
        generates = model.param_num(include_gq=True) > model.param_num()
        rows = []
        for row in np.ascontiguousarray(z[:, self._inverse_order]):
            rng = model.new_rng(zlib.crc32(row.tobytes(), seed)) if generates else None
            try:
                rows.append(
                    model.param_constrain(row, include_tp=True, include_gq=generates, rng=rng)
                )
            except RuntimeError:
                params = self.engine.parameters(row)
                n_derived = model.param_num(include_tp=True, include_gq=True) - len(params)
                rows.append(np.concatenate([params, np.full(n_derived, np.nan)]))
        flat = np.array(rows)
        variables = self.variables
        if model is not self.model:
            variables = variables_of(model.param_names(include_tp=True, include_gq=True))
        return {
            name: flat[:, place].reshape(len(z), *shape)
            for name, (shape, place) in variables.items()
        }

    def free_values(self, flat: np.ndarray) -> np.ndarray:
        """z at parameters that stand side by side, by name and in row order."""
        params = sorted(
            (name, place)
            for name, (_, place) in self.variables.items()
            if self._is_parameter(place)
        )
        places = np.concatenate([place for _, place in params])
        entries = np.empty(flat.shape)
        entries[:, places] = flat
        return np.array([self.model.param_unconstrain(row) for row in entries])[:, self.order]

    def invert(self, flat: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """z, and the log-Jacobian there."""
        z = self.free_values(flat)
        rows = np.ascontiguousarray(z[:, self._inverse_order])
        return z, np.array([self.engine.log_jacobian(row) for row in rows])


def variables_of(columns: Sequence[str]) -> Variables:
    """The variables that these names of constrained entries belong to.

    The parts of tuples and complex numbers are variables of their own, under Stan's dotted names.
    """
    stanio: Any = required("stanio", "stan")
    variables: Variables = {}
    for name, variable in stanio.parse_header(",".join(columns)).items():
        own = np.arange(variable.start_idx, variable.end_idx)
        if variable.type is stanio.reshape.VariableType.SCALAR:
            shape = tuple(variable.dimensions)
            variables[name] = shape, np.ravel(own.reshape(shape, order="F"))
        else:
            variables |= {columns[i]: ((), np.array([i])) for i in own}
    return variables
