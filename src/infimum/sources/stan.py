"""Stan models, compiled by BridgeStan, as targets."""

from __future__ import annotations

import functools
import json
import os
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from infimum._errors import coded
from infimum._extras import required
from infimum._foreign import Foreign, Guarded, check_gradient
from infimum._model import Arrays, Model
from infimum._space import Leaf, SourceSpace, columns
from infimum._target import Target

OLDEST = (2, 5)
"""First version of BridgeStan whose interface this uses as it is."""

MOST_TRACED = 2000
"""Coordinates up to which those of a matrix are put in row order, as all other sources have them:
finding out takes as many evaluations of the constraining transform."""

NAMED = 8
"""Parameters that a message names, of many."""

TRIED = 8
"""Points at which generated quantities are made with two seeds, to see which are random."""

REPLICATED = ("_rep", "_pred", "_tilde")
"""By convention: `y_rep` among the generated quantities is drawn anew as the data `y` were."""

LOG_LIKELIHOOD = "log_lik"
"""By convention: the generated quantity with log p(x_n | z) of each observation."""


def from_stan(stan_model: Any, data: Any = None) -> Target:
    """The posterior of a Stan model.

    Draws have parameters, transformed parameters and generated quantities under Stan's names, as
    arrays of Stan's shapes. Gradients of a batch run in parallel threads where the model was
    compiled with ``STAN_THREADS``. An error that Stan raises inside the density counts as zero
    density there; the first message is shown with the fit.

    Parameters
    ----------
    stan_model
        A `bridgestan.StanModel`; or the path of a ``.stan`` file, which BridgeStan compiles where
        its toolchain is installed, or of the library it has made of one.
    data
        For a path: a dict, a JSON string, or the path of a ``.json`` file.

    Raises
    ------
    ImportError
        Without BridgeStan.
    TypeError, ValueError
        If it is not such a model, was compiled by BridgeStan before 2.5, has no parameter, or its
        gradient is wrong.
    FileNotFoundError
        If a path leads nowhere, or BridgeStan's toolchain is not installed.
    """
    model = _compiled(stan_model, data)
    version = model.model_version()
    if tuple(version)[:2] < OLDEST:
        told = ".".join(map(str, version))
        raise ValueError(
            coded(
                "E630",
                f"the Stan model was compiled with BridgeStan {told}, this needs "
                f"{'.'.join(map(str, OLDEST))} or later: compile it again",
            )
        )
    if model.param_unc_num() == 0:
        raise ValueError(
            coded(
                "E122",
                f"Stan model {model.name()!r} has no parameter: there is nothing to infer. Declare "
                "one in its parameters block",
            )
        )
    order = _Order(model)
    threaded = "stan_threads=true" in model.model_info().lower()
    code = Guarded.of_points(
        order.gradient,
        model.param_unc_num(),
        order.value,
        failed=-np.inf,
        threads=(os.cpu_count() or 1) if threaded else 1,
    )
    space = SourceSpace(
        order.leaves, order.free_names, order.draws, order.invert, order.coordinates
    )
    density = Foreign(code.reordered(order.order))
    check_gradient(density, space.free_names)
    density.failures.clear()
    return Target.of(space, density, _name(model), model=StanModel(model, order))


def _compiled(given: Any, data: Any) -> Any:
    bridgestan = required("bridgestan", "stan")
    if isinstance(given, str | os.PathLike):
        path = Path(given)
        if not path.is_file():
            raise FileNotFoundError(
                coded(
                    "E901", f"there is no file {path}: give a Stan program, or one that is compiled"
                )
            )
        if path.suffix == ".stan" and not bridgestan.compile.get_bridgestan_path(download=False):
            raise FileNotFoundError(
                coded(
                    "E630",
                    f"{path} must be compiled, and BridgeStan's toolchain is not installed: see "
                    "https://roualdes.github.io/bridgestan for how to install it, and set "
                    "BRIDGESTAN to its folder",
                )
            )
        return bridgestan.StanModel(str(path), data)
    needed = ("log_density_gradient", "param_constrain", "param_unc_num", "model_version")
    if not all(hasattr(given, name) for name in needed):
        raise TypeError(
            coded("E601", f"from_stan takes a bridgestan.StanModel or a path, not {given!r}")
        )
    if data is not None:
        raise TypeError(
            coded("E603", "a StanModel has its data already: give data with a path only")
        )
    return given


def _name(model: Any) -> str:
    return str(model.name()).removesuffix("_model")


class _Order:
    """z against Stan's unconstrained vector, and draws against its constrained one.

    z has the parameters in the order of their names and each in row order, as every other source
    has them; Stan has them as declared, and matrices by columns.
    """

    def __init__(self, model: Any) -> None:
        self.model = model
        stanio = required("stanio", "stan")
        columns = model.param_names(include_tp=True, include_gq=True)
        self.variables = _variables(stanio, columns)
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
            variables = _variables(required("stanio", "stan"), columns)
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


def _variables(
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


class StanModel(Model):
    """A Stan model, with what its generated quantities say by convention."""

    library = "stan"

    def __init__(self, model: Any, order: _Order) -> None:
        self.model = model
        self._order = order

    @functools.cached_property
    def _data(self) -> dict[str, np.ndarray]:
        given = json.loads(self.model.data) if self.model.data else {}
        arrays = {name: np.asarray(value) for name, value in given.items()}
        return {name: array for name, array in arrays.items() if array.dtype.kind in "biuf"}

    @functools.cached_property
    def _replicated(self) -> list[str]:
        generated = [leaf.name for leaf in self._order.leaves if leaf.derived]
        return [name for name in generated if name.endswith(REPLICATED)]

    def dims(self) -> dict[str, Sequence[str]]:
        """Stan has none."""
        return {}

    def coords(self) -> dict[str, Sequence[Any]]:
        """Stan has none."""
        return {}

    def observed(self) -> dict[str, np.ndarray]:
        """Data that a generated quantity replicates: `y` where there is `y_rep`."""
        bases = {name.rpartition("_")[0] for name in self._replicated}
        return {name: array for name, array in self._data.items() if name in bases}

    def constant(self) -> dict[str, np.ndarray]:
        """All other data."""
        observed = self.observed()
        return {name: array for name, array in self._data.items() if name not in observed}

    def predict(
        self, draws: Arrays, seed: int, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> dict[str, np.ndarray]:
        """Generated quantities anew, of this model or of one with other data."""
        if kwargs or len(args) > 1:
            raise TypeError(
                coded(
                    "E434",
                    "new data for a Stan model are one dict, one .json file, or one other "
                    "bridgestan.StanModel",
                )
            )
        model = args[0] if args else self.model
        if isinstance(model, dict | str | os.PathLike):
            bridgestan = required("bridgestan", "stan")
            model = bridgestan.StanModel(self.model.lib_path, model, warn=False)
        if not hasattr(model, "param_constrain"):
            raise TypeError(
                coded(
                    "E434",
                    f"new data for a Stan model are a dict, the path of a .json file, or another "
                    f"bridgestan.StanModel, not {model!r}",
                )
            )
        theirs, ours = model.param_unc_names(), self.model.param_unc_names()
        if theirs != ours:
            raise ValueError(
                coded(
                    "E434",
                    f"the other Stan model has other parameters, {', '.join(theirs[:NAMED])}, not "
                    f"{', '.join(ours[:NAMED])}: give one that differs in its data only",
                )
            )
        params = [leaf.name for leaf in self._order.leaves if not leaf.derived]
        z = self._order.free_values(
            columns({name: np.asarray(draws[name], np.float64) for name in params})
        )
        made = self._order.read(model, z, seed)
        before = model.param_names(include_tp=True)
        transformed = _variables(required("stanio", "stan"), before)
        generated = {
            name: x
            for name, x in made.items()
            if name not in transformed and not name.startswith(LOG_LIKELIHOOD)
        }
        if not generated:
            raise ValueError(
                coded(
                    "E431",
                    "the Stan model has no generated quantities: draw them there, for instance "
                    "y_rep = normal_rng(mu, sigma)",
                )
            )
        return generated

    def log_likelihood(self, draws: Arrays) -> dict[str, np.ndarray]:
        """The generated quantities called `log_lik`, or `log_lik_y`."""
        names = [name for name in draws if name.startswith(LOG_LIKELIHOOD)]
        if not names:
            raise ValueError(
                coded(
                    "E432",
                    "the Stan model has no log_lik among its generated quantities: compute it "
                    "there, for instance log_lik[n] = normal_lpdf(y[n] | mu, sigma)",
                )
            )
        only = next(iter(self.observed()), "y")
        return {
            name.removeprefix(LOG_LIKELIHOOD).strip("_") or only: np.asarray(draws[name])
            for name in names
        }
