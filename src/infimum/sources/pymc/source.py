"""PyMC models as targets."""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import jax

from infimum.base.errors import coded_error
from infimum.base.extras import required
from infimum.sources.pymc.graphs import Graphs
from infimum.sources.pymc.model import PyMCModel
from infimum.target.foreign import ForeignDensity
from infimum.target.gradient_check import check_gradient
from infimum.target.guarded import GuardedCode
from infimum.target.target import Target


def from_pymc(model: Any = None) -> Target:
    """The posterior of a PyMC model.

    Its log density goes through PyMC's JAX backend. If a part of the graph has no JAX form, it goes
    through PyMC's own compiled value and gradient. Draws have the model's free variables and
    deterministics under their names; dims and coords reach `fit.to_arviz()`.

    Requires: at least one free variable; no discrete one, no `pm.Minibatch`, and the default
    transform of every bounded variable.

    Parameters
    ----------
    model
        `pymc.Model`; inside a ``with pm.Model():`` block it may be left out.

    Raises
    ------
    ImportError
        Without PyMC.
    TypeError
        If it is not a PyMC model, or has a discrete free variable.
    ValueError
        If it has no free variable, a bounded one without a transform, or a minibatch.

    Examples
    --------
    >>> import pymc as pm
    >>> with pm.Model() as model:
    ...     mu = pm.Normal("mu", 0.0, 5.0)
    ...     y = pm.Normal("y", mu, 1.0, observed=[1.0, 2.0])
    >>> from_pymc(model).names
    ['mu']
    """
    pm = required("pymc", "pymc")
    with _configuration_kept():
        importlib.import_module("pymc.sampling.jax")
    model = pm.modelcontext(model)
    if not isinstance(model, pm.Model):
        raise coded_error(TypeError, "E601", f"from_pymc takes a pymc.Model, not {model!r}")
    free = _free_variables(model)
    name = model.name or "PyMC model"
    graphs = Graphs(model, free)
    try:
        log_p = graphs.jax([model.logp()])
        known = PyMCModel(model, graphs)
        return Target.of(graphs.space(), lambda z: log_p(z)[0], name, model=known)
    except Exception as error:  # PyTensor and JAX refuse a graph with errors of many types
        graphs = Graphs(model, free, f"{type(error).__name__}: {error}")
    pair, value = graphs.value_and_gradient(), graphs.value()
    density = ForeignDensity(GuardedCode.of_points(pair, graphs.dim, value))
    check_gradient(density, graphs.free_names)
    return Target.of(graphs.space(), density, name, model=PyMCModel(model, graphs))


def _free_variables(model: Any) -> list[Any]:
    """The free variables in the order of their names; an error if one cannot be fitted."""
    from pymc.distributions.transforms import _default_transform

    free = sorted(model.free_RVs, key=lambda rv: rv.name)
    discrete = [rv.name for rv in free if rv.dtype[:3] in ("int", "uin", "boo")]
    if discrete:
        only = "only discrete free variables" if len(discrete) == len(free) else "discrete variable"
        raise coded_error(
            TypeError,
            "E120",
            f"the model has {only} {', '.join(map(repr, discrete))}: sum them out, with "
            "pm.Mixture or pymc_extras.marginalize",
        )
    if not free:
        raise coded_error(
            ValueError,
            "E122",
            "the model has no free variable: there is nothing to infer. Give it one that is "
            "not observed",
        )
    for rv in free:
        default = _default_transform(rv.owner.op, rv)
        if model.rvs_to_transforms[rv] is None and default is not None:
            raise coded_error(
                ValueError,
                "E620",
                f"variable {rv.name!r} has no transform although its distribution is bounded, "
                f"so that log p̂ is undefined outside: leave default_transform as it is "
                f"({default.name})",
            )
    _check_no_minibatch(model)
    return free


def _check_no_minibatch(model: Any) -> None:
    """Refuse a model whose data change from call to call, also inside a nested graph."""
    from pymc.data import MinibatchIndexRV
    from pytensor.graph.traversal import ancestors

    observed = [model.rvs_to_values[rv] for rv in model.observed_RVs]
    for variable in ancestors([*observed, *model.basic_RVs]):
        node = variable.owner
        inner = getattr(getattr(node, "op", None), "fgraph", None)
        ops = [node.op] if node else []
        ops += [n.op for n in inner.toposort()] if inner is not None else []
        if any(isinstance(op, MinibatchIndexRV) for op in ops):
            raise coded_error(
                ValueError,
                "E109",
                "the model uses pm.Minibatch, so that its log density changes from call to "
                "call: give it the whole data",
            )


@contextmanager
def _configuration_kept() -> Iterator[None]:
    """Restore JAX's configuration: PyMC's JAX module sets precision and devices for the process."""
    flags = os.environ.get("XLA_FLAGS")
    double = jax.config.read("jax_enable_x64")
    try:
        yield
    finally:
        jax.config.update("jax_enable_x64", double)
        if flags is None:
            os.environ.pop("XLA_FLAGS", None)
        else:
            os.environ["XLA_FLAGS"] = flags
