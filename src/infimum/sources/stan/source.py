"""Stan programs as targets."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, cast

import numpy as np

from infimum.base.deprecation import warn_renamed
from infimum.base.errors import coded_error
from infimum.base.extras import required
from infimum.sources.stan.bridge import CompiledModel, Engine
from infimum.sources.stan.compiled import (
    LIBRARIES,
    Compiled,
    compiled_library,
    compiled_program,
)
from infimum.sources.stan.data import Data
from infimum.sources.stan.interpreted import (
    interpreted_model,
    interpreted_program,
    is_interpreted,
)
from infimum.sources.stan.model import StanModel
from infimum.sources.stan.order import Order
from infimum.sources.stan.program import Folders, read_program
from infimum.target.foreign import ForeignDensity
from infimum.target.gradient_check import check_gradient
from infimum.target.guarded import GuardedCode
from infimum.target.space import SourceSpace
from infimum.target.target import Target

ENGINES = ("stanli", "bridgestan")

NEAR, FAR = 16, 100
"""Points at which a start is looked for: those of CmdStan come after those of a fit."""

COMPARED = 8
"""Points at which the value alone is compared with the value that comes with the gradient."""


def from_stan(
    program: Any = None,
    data: Data = None,
    engine: str | None = None,
    *,
    include_paths: Folders = None,
    stan_model: Any = None,
) -> Target:
    """The posterior of a Stan program.

    Draws have parameters, transformed parameters and generated quantities under Stan's names, as
    arrays of Stan's shapes. A point at which Stan raises an error has density zero; the first
    message is shown with the fit. If it raises one at 16 points of [-1, 1]^d, a fit begins where
    CmdStan would, in [-2, 2]^d. Gradients of a batch run in parallel threads if one takes more
    than 0.1 ms, or if BridgeStan compiled the program with ``STAN_THREADS``.

    log p̂ has all of its constants. stanli drops those of ``~``, as CmdStan does, so they are added:
    the program is run once more with ``target += foo_lpdf(x | a) - foo_lupdf(x | a)`` after each
    ``x ~ foo(a)``, and the difference, which is the same everywhere, is the constant. If it is not
    the same everywhere, ``target.model.unknown_constant`` names the statement.

    Requires: at least one parameter. By convention a generated quantity `y_rep` replicates the data
    `y`, and `log_lik` holds log p(x_n | z); predictions and `fit.loo()` use these.

    Parameters
    ----------
    program
        The path of a ``.stan`` file, or the text of a program; the path of a library that
        BridgeStan compiled; or a `bridgestan.StanModel` or `stanli.Model`, which has its data.
    data
        A dict of numbers, lists, NumPy or JAX arrays; JSON text; or the path of a ``.json`` file.
        What the program does not declare is left out.
    engine
        "stanli" runs the program without a compiler, and is the default (extra `stan`).
        "bridgestan" compiles it, for which BridgeStan needs its C++ toolchain (extra
        `bridgestan`).
    include_paths
        A folder or several, in which files that the program includes are searched before the
        program's own folder.
    stan_model
        The old name of `program`.

    Raises
    ------
    ImportError
        Without the library of the engine.
    TypeError, ValueError
        If the program does not compile, has no parameter, or has a wrong gradient; if the data do
        not suit it, or are not finite; if BridgeStan before 2.5 compiled it; or if there is no such
        engine.
    FileNotFoundError
        If a path leads nowhere, or BridgeStan's toolchain is not installed.

    Notes
    -----
    Which constants Stan drops: Stan Reference Manual, "Statements", section "Distribution
    statements".
    """
    if stan_model is not None:
        warn_renamed("from_stan(stan_model=...)", "from_stan(program=...)")
        program = stan_model
    run = _engine(program, data, engine, include_paths)
    model = run.model
    if model.param_unc_num() == 0:
        raise coded_error(
            ValueError,
            "E122",
            f"Stan model {model.name()!r} has no parameter: there is nothing to infer. Declare "
            "one in its parameters block",
        )
    order = Order(run)
    code = GuardedCode.of_points(
        run.gradient,
        model.param_unc_num(),
        run.value if _same_values(run) else lambda z: run.gradient(z)[0],
        failed=-np.inf,
        threads=run.threads,
    )
    space = SourceSpace(
        order.leaves, order.free_names, order.draws, order.invert, order.coordinates
    )
    density = ForeignDensity(code.reordered(order.order))
    check_gradient(density, space.free_names)
    example = _far_start(density)
    density.failures.clear()
    return Target.of(space, density, _name(model), example=example, model=StanModel(run, order))


def _require(engine: str) -> None:
    """Raise ImportError, before any work, if a library of this engine is missing."""
    extra = "stan" if engine == "stanli" else engine
    for library in ("bridgestan", *(["stanli"] if engine == "stanli" else [])):
        required(library, extra)


def _engine(program: object, data: Data, engine: str | None, include_paths: Folders) -> Engine:
    """The program with its data, ready to be evaluated."""
    if engine is not None and engine not in ENGINES:
        raise coded_error(
            ValueError, "E634", f"engine is {engine!r}, expected 'stanli' or 'bridgestan'"
        )
    if isinstance(program, str | os.PathLike):
        if str(program).endswith(LIBRARIES):
            if engine == "stanli":
                raise coded_error(
                    ValueError,
                    "E634",
                    f"engine is 'stanli', which cannot run the compiled library {program}: give "
                    "the program itself, or leave engine out",
                )
            return compiled_library(Path(program), data)
        _require(engine or "stanli")
        source = read_program(program, include_paths)
        build = compiled_program if engine == "bridgestan" else interpreted_program
        return build(source, data)
    needed = ("log_density_gradient", "param_constrain", "param_unc_num", "model_version")
    ready = all(hasattr(program, name) for name in needed)
    if not ready and not (hasattr(program, "log_prob_grad") and hasattr(program, "unconstrain")):
        raise coded_error(
            TypeError,
            "E601",
            "from_stan takes the path or text of a program, a bridgestan.StanModel or a "
            f"stanli.Model, not {program!r}",
        )
    if data is not None:
        raise coded_error(
            TypeError,
            "E603",
            "a compiled Stan model has its data already: give data only with a program",
        )
    return (
        interpreted_model(program)
        if is_interpreted(program)
        else Compiled(cast(CompiledModel, program))
    )


def _same_values(engine: Engine) -> bool:
    """Whether log p̂ alone is the number that comes with the gradient.

    An adaptive ODE solver takes other steps for a gradient, so that the two differ by its
    tolerance. Then values are taken from gradients, for one number at one point.
    """
    rng = np.random.default_rng(0)
    for z in rng.uniform(-1, 1, (COMPARED, engine.model.param_unc_num())):
        try:
            pair = np.array([engine.value(z), engine.gradient(z)[0]])
        except RuntimeError:  # Stan cannot compute it here
            continue
        if np.isfinite(pair).all() and not np.ptp(pair) <= 1e-9 * max(1.0, np.abs(pair).max()):
            return False
    return True


def _far_start(density: ForeignDensity) -> np.ndarray | None:
    """A point of finite density among CmdStan's initial points, if there is none near the origin.

    Fits begin in [-1, 1]^d, and CmdStan in [-2, 2]^d. None if fits find points by themselves.
    """
    rng = np.random.default_rng(0)
    for points in (rng.uniform(-1, 1, (NEAR, density.dim)), rng.uniform(-2, 2, (FAR, density.dim))):
        for z in points:
            log_p, gradient = density(z[None])
            if np.isfinite(log_p[0]) and np.isfinite(gradient[0]).all():
                return None if len(points) == NEAR else z
    return None


def _name(model: CompiledModel) -> str:
    """Name of the program, without the ending that the compiler gives it."""
    return str(model.name()).removesuffix("_model")
