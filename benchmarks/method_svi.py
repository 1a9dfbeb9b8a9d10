"""Run NumPyro's stochastic variational inference with its own Gaussian guides."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from numpyro.distributions import constraints
from numpyro.infer import SVI, Trace_ELBO, autoguide

import infimum
from benchmarks.measure import Gaussian
from benchmarks.methods import Point, Run

STEPS = 10_000
LEARNING_RATE = 1e-2

EVERY = 25
"""Steps between the stored q; "first within" is that coarse."""

GUIDES = {
    "AutoNormal": autoguide.AutoNormal,
    "AutoMultivariateNormal": autoguide.AutoMultivariateNormal,
}


def run(
    model: Callable[..., Any],
    args: tuple[Any, ...],
    target: infimum.Target,
    guide_name: str,
    seed: int,
) -> Run:
    """10,000 steps of Adam on the one-particle ELBO, as ``SVI.run`` takes them.

    Parameters
    ----------
    target
        The same posterior, for the order of the unconstrained coordinates. A guide fixes the
        supports of its first trace, so where one support depends on other parameters the model
        becomes ``target.log_p`` over R^d.
    guide_name
        A key of `GUIDES`.
    """
    names = [leaf.name for leaf in target.space.leaves]
    flat = bool(target.space.dependent)
    if flat:
        model, args, names = _over_the_reals(target), (), ["z"]
    began, cpu = time.perf_counter(), time.process_time()
    guide = GUIDES[guide_name](model)
    svi = SVI(model, guide, numpyro.optim.Adam(LEARNING_RATE), loss=Trace_ELBO())
    state = svi.init(jax.random.key(seed), *args)
    jax.block_until_ready(jax.tree_util.tree_leaves(state.optim_state))
    initialised = time.perf_counter()
    steps = jax.jit(lambda state: _steps(svi, args, state)).lower(state).compile()
    compiled = time.perf_counter()
    state, params = jax.block_until_ready(steps(state))
    ended, cpu = time.perf_counter(), time.process_time() - cpu

    if not flat:
        _check_coordinates(guide, svi.get_params(state), names, target)
    path = [
        Point(
            _gaussian(guide, {k: np.asarray(v[i]) for k, v in params.items()}, names),
            n := (i + 1) * EVERY,
            n,
            compiled - began + (ended - compiled) * n / STEPS,
        )
        for i in range(STEPS // EVERY)
    ]
    seconds = (initialised - began, compiled - initialised, ended - compiled)
    return Run(f"NumPyro {guide_name}", path, *seconds, cpu)


def _steps(svi: SVI, args: tuple[Any, ...], state: Any) -> tuple[Any, dict[str, jax.Array]]:
    """All steps in one compiled scan, with the guide's parameters after every few."""

    def step(state: Any, _: None) -> tuple[Any, jax.Array]:
        return svi.update(state, *args)

    def few(state: Any, _: None) -> tuple[Any, dict[str, jax.Array]]:
        state, _ = jax.lax.scan(step, state, None, length=EVERY)
        return state, svi.get_params(state)

    return jax.lax.scan(few, state, None, length=STEPS // EVERY)


def _over_the_reals(target: infimum.Target) -> Callable[[], None]:
    def model() -> None:
        z = numpyro.sample("z", dist.ImproperUniform(constraints.real_vector, (), (target.dim,)))
        numpyro.factor("log_p", target.log_p(z))

    return model


def _gaussian(guide: Any, params: dict[str, np.ndarray], names: list[str]) -> Gaussian:
    """A guide's q in the target's order of coordinates."""
    if isinstance(guide, autoguide.AutoNormal):
        mean, sd = (
            np.concatenate([np.ravel(params[f"{name}_auto_{what}"]) for name in names])
            for what in ("loc", "scale")
        )
        return Gaussian(mean, np.diag(sd))
    places = guide._unpack_latent(np.arange(guide.latent_dim))
    order = np.concatenate([np.ravel(places[name]) for name in names])
    return Gaussian.from_root(params["auto_loc"][order], params["auto_scale_tril"][order])


def _check_coordinates(
    guide: Any, params: dict[str, jax.Array], names: list[str], target: infimum.Target
) -> None:
    """Guide and target must mean the same by a point of R^d, or the ELBOs can't be compared."""
    q = _gaussian(guide, {k: np.asarray(v) for k, v in params.items()}, names)
    if not np.isfinite(q.mean).all():
        return
    here, there = target.constrain(q.mean), guide.median(params)
    for name in names:
        if not jnp.allclose(here[name], there[name], rtol=1e-6, atol=1e-9):
            raise AssertionError(f"guide and target disagree on {name!r}: {there} and {here}")
