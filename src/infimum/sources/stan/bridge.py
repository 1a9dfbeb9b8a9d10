"""What runs a Stan program: BridgeStan's `StanModel` as a type, and the density of one."""

from __future__ import annotations

import abc
import json
import warnings
from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np

from infimum.base.extras import required

MANIFEST = "__stanli"
"""Name under which the program travels in the data of a model that stanli runs."""


@runtime_checkable
class CompiledModel(Protocol):
    """A compiled Stan program with its data.

    Unconstrained points are vectors z in Stan's own order, shape (d,). Constrained ones are all
    entries of the program's variables side by side, matrices by columns: parameters first, then
    transformed parameters (`include_tp`), then generated quantities (`include_gq`).
    """

    data: str
    lib_path: str

    def name(self) -> str:
        """Name of the program."""

    def model_version(self) -> tuple[int, int, int]:
        """Version of BridgeStan that compiled it."""

    def model_info(self) -> str:
        """Flags that it was compiled with, as text."""

    def param_num(self, *, include_tp: bool = False, include_gq: bool = False) -> int:
        """Number of constrained entries."""

    def param_unc_num(self) -> int:
        """d."""

    def param_names(self, *, include_tp: bool = False, include_gq: bool = False) -> list[str]:
        """A name such as `L.2.1` for each constrained entry."""

    def param_unc_names(self) -> list[str]:
        """A name for each coordinate of z."""

    def param_constrain(
        self,
        z: np.ndarray,
        *,
        include_tp: bool = False,
        include_gq: bool = False,
        rng: Any = None,
    ) -> np.ndarray:
        """The constrained entries at z; raises RuntimeError if they cannot be computed."""

    def param_unconstrain(self, entries: np.ndarray) -> np.ndarray:
        """z at the constrained parameters."""

    def log_density(self, z: np.ndarray, *, propto: bool, jacobian: bool) -> float:
        """log p̂ at z."""

    def log_density_gradient(
        self, z: np.ndarray, *, propto: bool, jacobian: bool
    ) -> tuple[float, np.ndarray]:
        """log p̂ and its gradient at z."""

    def new_rng(self, seed: int) -> Any:
        """Random numbers for generated quantities."""


def entries_of(model: CompiledModel) -> dict[str, object]:
    """The model's data, without what travels among them."""
    data = json.loads(model.data) if model.data else {}
    data.pop(MANIFEST, None)
    return dict(data)


def with_data(model: CompiledModel, text: str) -> CompiledModel:
    """The same program with other data, given as JSON text.

    Raises
    ------
    RuntimeError
        If the data do not suit the program.
    """
    bridgestan = required("bridgestan", "stan")
    own = json.loads(model.data) if model.data else {}
    if MANIFEST in own:
        text = json.dumps({**json.loads(text), MANIFEST: own[MANIFEST]})
    with warnings.catch_warnings():
        # The first model with this library has warned already, if there is a reason.
        warnings.filterwarnings("ignore", message="The version of the compiled model")
        seed = getattr(model, "seed", 1234)
        other: CompiledModel = bridgestan.StanModel(model.lib_path, text, seed=seed, warn=False)
    return other


class Engine(abc.ABC):
    """Evaluates log p̂ of a program with its data, at points in Stan's own order.

    Attributes
    ----------
    model
        The program with its data, which knows names and computes draws.
    threads
        How many points to evaluate at once.
    unknown_constant
        Why the additive constant of log p̂ is not known; None if it is.
    data_names
        What the program declares as data; None if that is not known.
    """

    model: CompiledModel
    threads: int = 1
    unknown_constant: str | None = None
    data_names: Sequence[str] | None = None

    @abc.abstractmethod
    def gradient(self, z: np.ndarray) -> tuple[float, np.ndarray]:
        """log p̂ and its gradient, constants included."""

    @abc.abstractmethod
    def value(self, z: np.ndarray) -> float:
        """log p̂, constants included."""

    @abc.abstractmethod
    def log_jacobian(self, z: np.ndarray) -> float:
        """log |det dparams/dz|."""

    @abc.abstractmethod
    def parameters(self, z: np.ndarray) -> np.ndarray:
        """The constrained entries of the parameters alone, which can always be computed."""
