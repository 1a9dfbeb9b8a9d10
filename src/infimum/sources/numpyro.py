"""NumPyro models as targets."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpyro import handlers
from numpyro.distributions.distribution import Unit
from numpyro.infer.initialization import init_to_uniform
from numpyro.infer.util import log_density
from numpyro.primitives import Messenger

from infimum import supports as S
from infimum._bijection import Bijection
from infimum._extras import required
from infimum._hierarchy import Hierarchy
from infimum._location_scale import find
from infimum._model import Arrays, Hierarchical
from infimum._program import double_precision
from infimum._target import Target

Trace = dict[str, dict[str, Any]]

KEYS = 8
"""Random keys under which a deterministic site must be the same, in models with discrete sites."""

CHUNK = 64
"""Draws that predictions are made for at a time: the model's arrays are held once for each."""


def from_numpyro(model: Callable[..., Any], *args: Any, **kwargs: Any) -> Target:
    """The posterior of a NumPyro model given its arguments.

    Every latent continuous site becomes a parameter under its own name, with the site's support;
    a support that depends on other sites is followed. Deterministic sites are part of every draw.
    Discrete latent sites are summed out by NumPyro's enumeration where they are finite;
    deterministic sites that depend on them are then left out. A subsampled plate is evaluated
    whole; where the data given are a subsample already, with the plate's scaling.

    Parameters
    ----------
    model
        NumPyro model function.
    *args, **kwargs
        What the model is called with, observations included.

    Raises
    ------
    TypeError
        If the model is not a function, needs an argument that is not given, or has a discrete
        latent site that can't be enumerated.
    ValueError
        If the model has no continuous latent site, or a `numpyro.param`.
    ImportError
        If sites must be enumerated and funsor is not installed.

    Examples
    --------
    >>> import numpyro, numpyro.distributions as dist
    >>> def model(y):
    ...     mu = numpyro.sample("mu", dist.Normal(0.0, 5.0))
    ...     numpyro.sample("y", dist.Normal(mu, 1.0), obs=y)
    >>> from_numpyro(model, np.array([1.0, 2.0])).names
    ['mu']
    """
    if not callable(model):
        raise TypeError(f"from_numpyro takes a model function, not {model!r}")
    name = getattr(model, "__name__", "model")
    try:
        inspect.signature(model).bind(*args, **kwargs)
    except TypeError as error:
        raise TypeError(
            f"model {name!r}: {error}. Give it what it is called with: "
            "from_numpyro(model, *args, **kwargs)"
        ) from None
    with double_precision():
        args, kwargs = jax.tree_util.tree_map(_lift, (args, kwargs))
        call = _call(model, args, kwargs)
        sites = _read(call)
        _check(sites, name)
        supports = {site: _support(call, site, c) for site, (_, c) in sites.latent.items()}
        derived = _derived(call, sites) if sites.deterministic else None
        space = Bijection(
            {site: np.zeros(shape) for site, (shape, _) in sites.latent.items()}, supports, derived
        )
    density = _enumerated(call, sites.depth) if sites.discrete else _plain(call)
    return Target.of(space, density, name, model=NumPyroModel(call, sites))


# ---- running the model ----------------------------------------------------------------------


@dataclass(frozen=True)
class _Call:
    """The model with its arguments, seeded; with its subsampled plates whole if that works."""

    model: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    whole: bool = True

    def arguments(self) -> dict[str, Any]:
        """What the model is called with, by name."""
        return dict(inspect.signature(self.model).bind(*self.args, **self.kwargs).arguments)

    def prepared(self) -> Callable[..., Any]:
        """The model as everything here runs it."""
        model = handlers.seed(self.model, jax.random.key(0))
        return _Whole(model) if self.whole else model

    def trace(self, values: Arrays, key: Any = 0, observe: bool = True) -> Trace:
        """Run the model with some latent sites given and the others random.

        Parameters
        ----------
        observe
            Whether observed sites keep their data, or are drawn anew.
        """
        guess = init_to_uniform(radius=1.0)

        def fill(site: dict[str, Any]) -> Any:
            if site["name"] in values:
                return values[site["name"]]
            return guess(site) if observe and _continuous(site) else None

        model = self.model if observe else _Unobserved(self.model)
        key = jax.random.key(key) if isinstance(key, int) else key
        filled = handlers.substitute(handlers.seed(model, key), substitute_fn=fill)
        filled = _Whole(filled) if self.whole else filled
        traced: Trace = handlers.trace(filled).get_trace(*self.args, **self.kwargs)
        return traced


class _Whole(Messenger):
    """Takes all of a subsampled plate."""

    def process_message(self, msg: dict[str, Any]) -> None:
        if msg["type"] == "plate":
            size = msg["args"][0]
            msg["args"] = (size, size)
            msg["value"] = jnp.arange(size)


class _Unobserved(Messenger):
    """Draws observed sites anew, as many values as there are data."""

    def process_message(self, msg: dict[str, Any]) -> None:
        if msg["type"] == "sample" and _observed(msg):
            fn, shape = msg["fn"], jnp.shape(msg["value"])
            batch = jnp.broadcast_shapes(fn.batch_shape, shape[: len(shape) - fn.event_dim])
            msg["fn"] = fn if batch == fn.batch_shape else fn.expand(batch)
            msg["value"] = None
            msg["is_observed"] = False


def _observed(site: dict[str, Any]) -> bool:
    """Whether a site holds data; a factor does not."""
    fn = site["fn"]
    while hasattr(fn, "base_dist"):
        fn = fn.base_dist
    return site["type"] == "sample" and site["is_observed"] and not isinstance(fn, Unit)


def _latent(site: dict[str, Any]) -> bool:
    return site["type"] == "sample" and not site["is_observed"]


def _continuous(site: dict[str, Any]) -> bool:
    return _latent(site) and not site["fn"].support.is_discrete


def _lift(leaf: Any) -> Any:
    """Make NumPy arrays data of the program, in their own precision."""
    return jnp.asarray(leaf) if isinstance(leaf, np.ndarray) else leaf


def _call(model: Callable[..., Any], args: Any, kwargs: Any) -> _Call:
    """Plates are taken whole, unless the data do not reach that far."""
    call = _Call(model, args, kwargs, whole=False)
    sizes: list[bool] = []

    def visit() -> None:
        sites = call.trace({}).values()
        sizes.extend(s["args"][0] != s["args"][1] for s in sites if s["type"] == "plate")

    jax.eval_shape(visit)
    if not any(sizes):
        return call
    whole = _Call(model, args, kwargs)
    try:
        jax.eval_shape(lambda: log_density(whole.prepared(), args, kwargs, _values(whole))[0])
    except (TypeError, ValueError, IndexError):
        return call
    return whole


def _values(call: _Call) -> dict[str, Any]:
    return {name: site["value"] for name, site in call.trace({}).items() if _continuous(site)}


# ---- what it consists of --------------------------------------------------------------------


@dataclass
class _Sites:
    """Shapes, constraints and axes, read without computing anything, so bounds may be tracers."""

    latent: dict[str, tuple[tuple[int, ...], Any]]
    discrete: dict[str, Any]
    deterministic: list[str]
    observed: list[str]
    params: list[str]
    axes: dict[str, list[str]]
    depth: int = 0


def _read(call: _Call) -> _Sites:
    sites = _Sites({}, {}, [], [], [], {})

    def visit() -> None:
        for name, site in call.trace({}).items():
            if _latent(site) and site["fn"].support.is_discrete:
                sites.discrete[name] = site["fn"].has_enumerate_support
            elif _latent(site):
                sites.latent[name] = jnp.shape(site["value"]), site["fn"].support
            elif site["type"] == "sample" and _observed(site):
                sites.observed.append(name)
            elif site["type"] == "deterministic" and hasattr(site["value"], "shape"):
                sites.deterministic.append(name)
            elif site["type"] == "param":
                sites.params.append(name)
            if site["type"] in ("sample", "deterministic"):
                sites.axes[name] = _axes(name, site)
            if site["type"] == "sample":
                frames = site["cond_indep_stack"]
                sites.depth = max([sites.depth, *(-frame.dim for frame in frames)])

    jax.eval_shape(visit)
    return sites


def _axes(name: str, site: dict[str, Any]) -> list[str]:
    """A plate's name for each of its axes, ArviZ's default names for the others."""
    rank = jnp.ndim(site["value"])
    event = site["fn"].event_dim if site["type"] == "sample" else 0
    plates = {rank - event + frame.dim: frame.name for frame in site["cond_indep_stack"]}
    sizes = {frame.name: frame.size for frame in site["cond_indep_stack"]}
    shape = jnp.shape(site["value"])
    return [
        plates[axis]
        if axis in plates and sizes[plates[axis]] == shape[axis]
        else f"{name}_dim_{axis}"
        for axis in range(rank)
    ]


def _check(sites: _Sites, name: str) -> None:
    """Refuse a model that can't be fitted."""
    for site in sites.params:
        raise ValueError(
            f"site {site!r} of model {name!r} is a numpyro.param, a constant to be optimised: give "
            "it a prior with numpyro.sample, or bind its value"
        )
    for site, finite in sites.discrete.items():
        if not finite:
            raise TypeError(
                f"site {site!r} of model {name!r} is discrete and its support is not finite: sum "
                "it out of the density, or truncate it to a finite range (dist.Categorical)"
            )
    if not sites.latent:
        found = f"only discrete latent sites ({', '.join(sites.discrete)})"
        raise ValueError(
            f"model {name!r} has {found if sites.discrete else 'no latent site'}: there is nothing "
            "continuous to infer"
        )


def _support(call: _Call, site: str, constraint: Any) -> Any:
    """A site's support; a function of the other sites where the model computes its bounds."""
    if not any(isinstance(x, jax.core.Tracer) for x in jax.tree_util.tree_leaves(constraint)):
        return S.as_support(constraint)
    first, second = (call.trace({}, seed)[site]["fn"].support for seed in (0, 1))
    x, y = (jax.tree_util.tree_leaves(constraint) for constraint in (first, second))
    if len(x) == len(y) and all(map(np.array_equal, x, y)):
        return S.as_support(first)

    def support(params: dict[str, Any]) -> Any:
        for name, message in call.trace(params).items():
            if name == site:
                return message["fn"].support
            if _latent(message) and name not in params:
                raise KeyError(name)
        raise KeyError(site)

    return support


def _derived(call: _Call, sites: _Sites) -> Callable[[Any], dict[str, Any]]:
    """The deterministic sites as a function of the parameters, without those that are random."""

    def every(params: Any, seed: int = 0) -> dict[str, Any]:
        traced = call.trace(params, seed)
        return {name: traced[name]["value"] for name in sites.deterministic}

    fixed = sites.deterministic
    if sites.discrete:
        given = _values(call)
        first, *others = (every(given, seed) for seed in range(KEYS))
        fixed = [k for k in fixed if all(np.array_equal(first[k], x[k], True) for x in others)]

    def derived(params: Any) -> dict[str, Any]:
        values = every(params)
        return {name: values[name] for name in fixed}

    return derived


# ---- the density --------------------------------------------------------------------------------


def _plain(call: _Call) -> Callable[[Any], Any]:
    model = call.prepared()
    return lambda params: log_density(model, call.args, call.kwargs, params)[0]


def _enumerated(call: _Call, depth: int) -> Callable[[Any], Any]:
    """log p̂ with the discrete sites summed out; plates are nested `depth` deep."""
    required("funsor", "enumeration")
    from numpyro.contrib.funsor import config_enumerate, enum
    from numpyro.contrib.funsor import log_density as summed

    model = enum(config_enumerate(call.prepared()), -depth - 1)
    return lambda params: summed(model, call.args, call.kwargs, params)[0]


# ---- what else it knows -------------------------------------------------------------------------


class NumPyroModel(Hierarchical):
    """A NumPyro model with its arguments."""

    library = "numpyro"

    def __init__(self, call: _Call, sites: _Sites) -> None:
        self._call = call
        self._sites = sites

    def dims(self) -> dict[str, Sequence[str]]:
        """Plates name the axes."""
        return dict(self._sites.axes)

    def coords(self) -> dict[str, Sequence[Any]]:
        """NumPyro has none."""
        return {}

    def observed(self) -> dict[str, np.ndarray]:
        """Values of the observed sites."""
        return dict(self._data)

    @functools.cached_property
    def _data(self) -> dict[str, np.ndarray]:
        with double_precision():
            traced = self._call.trace({})
        return {name: np.asarray(traced[name]["value"]) for name in self._sites.observed}

    def constant(self) -> dict[str, np.ndarray]:
        """Arrays and numbers among the arguments that are not observed."""
        observed = list(self._data.values())
        found = {}
        for path, value in jax.tree_util.tree_flatten_with_path(self._call.arguments())[0]:
            if not isinstance(value, jax.Array | np.ndarray | float | int):
                continue
            array = np.asarray(value)
            if array.dtype.kind in "biuf" and not any(np.array_equal(array, y) for y in observed):
                found[".".join(str(getattr(k, "key", getattr(k, "idx", k))) for k in path)] = array
        return found

    def prior(self, key: Any) -> Trace:
        """The sites of one run: latent ones from the prior, observed ones given these."""
        return self._call.trace({}, key, observe=False)

    def hierarchy(self, space: Bijection, rng: np.random.Generator) -> Hierarchy | None:
        """Sites whose location or scale others decide; none is told with discrete sites about."""
        return None if self._sites.discrete else find(self._call.trace, space, rng)

    def predict(
        self, draws: Arrays, seed: int, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> dict[str, np.ndarray]:
        """Draws of the observed sites, given new arguments for the model or its own."""
        call = self._renewed(args, kwargs) if args or kwargs else self._call

        def one(params: Any, key: Any) -> dict[str, Any]:
            traced = call.trace(params, key, observe=False)
            return {name: traced[name]["value"] for name in self._sites.observed if name in traced}

        return self._mapped(one, draws, seed)

    def _renewed(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> _Call:
        """The model with new arguments; of those not given, observations are left out."""
        new = inspect.signature(self._call.model).bind_partial(*args, **kwargs)
        observed = list(self._data.values())
        for name, value in self._call.arguments().items():
            if name not in new.arguments:
                data = any(value is not None and np.array_equal(value, y) for y in observed)
                new.arguments[name] = None if data else value
        with double_precision():
            args, kwargs = jax.tree_util.tree_map(_lift, (new.args, new.kwargs))
            return _call(self._call.model, args, kwargs)

    def log_likelihood(self, draws: Arrays) -> dict[str, np.ndarray]:
        """log p(x_n | z) at the observed sites, without a plate's scaling."""
        if self._sites.discrete:
            raise ValueError(
                f"the discrete sites {', '.join(self._sites.discrete)} are summed out, so that the "
                "observations have no likelihood of their own given the parameters"
            )

        def one(params: Any, key: Any) -> dict[str, Any]:
            traced = self._call.trace(params)
            sites = {name: traced[name] for name in self._sites.observed}
            return {name: site["fn"].log_prob(site["value"]) for name, site in sites.items()}

        return self._mapped(one, draws, 0)

    def _mapped(self, one: Callable[[Any, Any], Any], draws: Arrays, seed: int) -> Any:
        params = {name: np.asarray(draws[name]) for name in self._sites.latent}
        rows = len(next(iter(params.values())))
        with double_precision():
            keys = jax.random.split(jax.random.key(seed), rows)
            mapped = functools.partial(jax.lax.map, lambda x: one(*x), batch_size=CHUNK)
            return jax.tree_util.tree_map(np.asarray, jax.jit(mapped)((params, keys)))
