"""The part of BridgeStan's `StanModel` that is used here, as a type."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import numpy as np


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
