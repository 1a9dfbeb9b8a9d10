"""Stan programs, compiled by BridgeStan, as targets."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from infimum.base.errors import coded_error
from infimum.base.extras import required
from infimum.sources.stan.bridge import CompiledModel
from infimum.sources.stan.model import StanModel
from infimum.sources.stan.order import Order
from infimum.target.foreign import ForeignDensity
from infimum.target.gradient_check import check_gradient
from infimum.target.guarded import GuardedCode
from infimum.target.space import SourceSpace
from infimum.target.target import Target

OLDEST_BRIDGESTAN = (2, 5)
"""First version of BridgeStan that has the interface used here."""


def from_stan(stan_model: Any, data: Any = None) -> Target:
    """The posterior of a Stan model.

    Draws have parameters, transformed parameters and generated quantities under Stan's names, as
    arrays of Stan's shapes. If the model was compiled with ``STAN_THREADS``, gradients of a batch
    run in parallel threads. A point at which Stan raises an error has density zero; the first
    message is shown with the fit.

    Requires: BridgeStan 2.5 or later, and at least one parameter. By convention a generated
    quantity `y_rep` replicates the data `y`, and `log_lik` holds log p(x_n | z); predictions and
    `fit.loo()` use these.

    Parameters
    ----------
    stan_model
        A `bridgestan.StanModel`; or the path of a ``.stan`` file, for which BridgeStan needs its
        toolchain, or of the library that BridgeStan compiled from it.
    data
        For a path: a dict, a JSON string, or the path of a ``.json`` file.

    Raises
    ------
    ImportError
        Without BridgeStan.
    TypeError, ValueError
        If it is not such a model, was compiled by BridgeStan before 2.5, has no parameter, or has a
        wrong gradient.
    FileNotFoundError
        If a path leads nowhere, or BridgeStan's toolchain is not installed.
    """
    model = _compiled(stan_model, data)
    version = tuple(model.model_version())
    if version[:2] < OLDEST_BRIDGESTAN:
        raise coded_error(
            ValueError,
            "E630",
            f"the Stan model was compiled with BridgeStan {'.'.join(map(str, version))}, "
            f"this needs {'.'.join(map(str, OLDEST_BRIDGESTAN))} or later: compile it again",
        )
    if model.param_unc_num() == 0:
        raise coded_error(
            ValueError,
            "E122",
            f"Stan model {model.name()!r} has no parameter: there is nothing to infer. Declare "
            "one in its parameters block",
        )
    order = Order(model)
    threaded = "stan_threads=true" in model.model_info().lower()
    code = GuardedCode.of_points(
        order.gradient,
        model.param_unc_num(),
        order.value,
        failed=-np.inf,
        threads=(os.cpu_count() or 1) if threaded else 1,
    )
    space = SourceSpace(
        order.leaves, order.free_names, order.draws, order.invert, order.coordinates
    )
    density = ForeignDensity(code.reordered(order.order))
    check_gradient(density, space.free_names)
    density.failures.clear()
    return Target.of(space, density, _name(model), model=StanModel(model, order))


def _compiled(stan_model: Any, data: Any) -> CompiledModel:
    """The model itself, or that of a path with its data."""
    bridgestan = required("bridgestan", "stan")
    if isinstance(stan_model, str | os.PathLike):
        path = Path(stan_model)
        if not path.is_file():
            raise coded_error(
                FileNotFoundError,
                "E901",
                f"there is no file {path}: give a Stan program, or a compiled one",
            )
        if path.suffix == ".stan" and not bridgestan.compile.get_bridgestan_path(download=False):
            raise coded_error(
                FileNotFoundError,
                "E630",
                f"{path} must be compiled, and BridgeStan's toolchain is not installed: see "
                "https://roualdes.github.io/bridgestan for how to install it, and set "
                "BRIDGESTAN to its folder",
            )
        model: CompiledModel = bridgestan.StanModel(str(path), data)
        return model
    needed = ("log_density_gradient", "param_constrain", "param_unc_num", "model_version")
    if not all(hasattr(stan_model, name) for name in needed):
        raise coded_error(
            TypeError,
            "E601",
            f"from_stan takes a bridgestan.StanModel or a path, not {stan_model!r}",
        )
    if data is not None:
        raise coded_error(
            TypeError, "E603", "a StanModel has its data already: give data only with a path"
        )
    compiled: CompiledModel = stan_model
    return compiled


def _name(model: CompiledModel) -> str:
    """Name of the program, without the ending that the compiler gives it."""
    return str(model.name()).removesuffix("_model")
