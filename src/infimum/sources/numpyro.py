"""NumPyro models as targets."""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core
from numpyro import handlers
from numpyro.distributions.distribution import Unit
from numpyro.infer.initialization import init_to_uniform
from numpyro.infer.util import log_density
from numpyro.primitives import Messenger

from infimum import supports as S
from infimum._bijection import Bijection
from infimum._errors import coded
from infimum._extras import required
from infimum._hierarchy import Hierarchy, dependence
from infimum._location_scale import find
from infimum._model import Arrays, Hierarchical, Model
from infimum._program import double_precision
from infimum._rows import Rows
from infimum._target import Target

Trace = dict[str, dict[str, Any]]

ClosedJaxpr: Any = vars(core)["ClosedJaxpr"]

KEYS = 8
"""Random keys under which a deterministic site must be the same, in models with discrete sites."""

CHUNK = 64
"""Draws that predictions are made for at a time: the model's arrays are held once for each."""


def from_numpyro(
    model: Callable[..., Any], *args: Any, rows: str | None = None, **kwargs: Any
) -> Target:
    """The posterior of a NumPyro model given its arguments.

    Every latent continuous site becomes a parameter under its own name, with the site's support;
    a support that depends on other sites is followed. Deterministic sites are part of every draw.
    Discrete latent sites are summed out by NumPyro's enumeration where they are finite;
    deterministic sites that depend on them are then left out. A subsampled plate is evaluated
    whole; where the data given are a subsample already, with the plate's scaling.

    With `rows` the target is an `infimum.Rows`: of the arguments, those arrays whose first axis is
    as long as that plate are data, in memory or on disk, and the model is run on blocks of them.
    What it observes in the plate is the likelihood, everything else the prior, which may not look
    at the rows. Deterministic sites that do are left out of the draws.

    Parameters
    ----------
    model
        NumPyro model function.
    *args, **kwargs
        What the model is called with, observations included.
    rows
        Name of the plate over the rows of many data. An argument of the model's own that is called
        `rows` is given by `functools.partial`.

    Raises
    ------
    TypeError
        If the model is not a function, needs an argument that is not given, or has a discrete
        latent site that can't be enumerated.
    ValueError
        If the model has no continuous latent site, or a `numpyro.param`; with `rows`, if there is
        no such plate, no data as long as it, a latent site in it, or a prior that depends on rows.
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
        raise TypeError(coded("E601", f"from_numpyro takes a model function, not {model!r}"))
    if not isinstance(rows, str | None):
        raise TypeError(
            coded(
                "E611",
                f"rows is {rows!r}, expected the name of a plate; an argument of the model that is "
                "called rows is given by functools.partial(model, rows=...)",
            )
        )
    name = getattr(model, "__name__", "model")
    try:
        inspect.signature(model).bind(*args, **kwargs)
    except TypeError as error:
        raise TypeError(
            coded(
                "E603",
                f"model {name!r}: {error}. Give it what it is called with: "
                "from_numpyro(model, *args, **kwargs)",
            )
        ) from None
    if rows is not None:
        return _from_rows(model, inspect.signature(model).bind(*args, **kwargs), rows, name)
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


def posteriors(
    conditioned: Callable[[Arrays], Callable[..., Any]], first: Target
) -> Callable[[Arrays], Target] | None:
    """Posteriors of one model given data of the same shapes: it is run once for all of them.

    Parameters
    ----------
    conditioned
        The model with these values observed, JAX arrays that may be tracers, by site.
    first
        What `from_numpyro` made of one of them.

    Returns
    -------
    A function of the observed values; or None for models that must be run again on each, as Python
    looks at the values, or supports or deterministic sites depend on them.
    """
    model = first.model
    assert isinstance(model, NumPyroModel)
    call, sites = model._call, model._sites

    def given(data: Arrays) -> _Call:
        return dataclasses.replace(call, model=conditioned(data))

    def density(params: Any, data: Arrays) -> Any:
        asked = given(data)
        make = _enumerated(asked, sites.depth) if sites.discrete else _plain(asked)
        return make(params)

    def fixed(parts: Arrays) -> dict[str, Any]:
        trace = given(parts).trace({})
        supports = [trace[name]["fn"].support for name in sites.latent]
        derived = [trace[name]["value"] for name in sites.deterministic]
        leaves = jax.tree_util.tree_leaves((supports, derived))
        return {str(i): jnp.asarray(leaf) for i, leaf in enumerate(leaves)}

    data = {name: jnp.asarray(value) for name, value in model.observed().items()}
    try:
        if any(dependence(fixed, data).values()):
            return None
        template = Target.of(first.space, density, first.name, data=data)
    except Exception:  # whatever a model raises whose data have no values yet
        return None
    return lambda data: template.given(data, NumPyroModel(given(data), sites))


# ---- running the model ----------------------------------------------------------------------


@dataclass(frozen=True)
class _Call:
    """The model with its arguments, seeded; `plates` makes its subsampled plates whole."""

    model: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    plates: Callable[[Any], Messenger] | None

    def arguments(self) -> dict[str, Any]:
        """What the model is called with, by name."""
        return dict(inspect.signature(self.model).bind(*self.args, **self.kwargs).arguments)

    def prepared(self) -> Callable[..., Any]:
        """The model as everything here runs it."""
        model = handlers.seed(self.model, jax.random.key(0))
        return model if self.plates is None else self.plates(model)

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
        filled = filled if self.plates is None else self.plates(filled)
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
    call = _Call(model, args, kwargs, None)
    sizes: list[bool] = []

    def visit() -> None:
        sites = call.trace({}).values()
        sizes.extend(s["args"][0] != s["args"][1] for s in sites if s["type"] == "plate")

    jax.eval_shape(visit)
    if not any(sizes):
        return call
    whole = _Call(model, args, kwargs, _Whole)
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
    plates: dict[str, list[str]]
    depth: int = 0


def _read(call: _Call) -> _Sites:
    sites = _Sites({}, {}, [], [], [], {}, {})

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
                sites.plates[name] = [frame.name for frame in site["cond_indep_stack"]]
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
            coded(
                "E610",
                f"site {site!r} of model {name!r} is a numpyro.param, a constant to be optimised: "
                "give it a prior with numpyro.sample, or bind its value",
            )
        )
    for site, finite in sites.discrete.items():
        if not finite:
            raise TypeError(
                coded(
                    "E120",
                    f"site {site!r} of model {name!r} is discrete and its support is not finite: "
                    "sum it out of the density, or truncate it to a finite range "
                    "(dist.Categorical)",
                )
            )
    if not sites.latent:
        found = f"only discrete latent sites ({', '.join(sites.discrete)})"
        raise ValueError(
            coded(
                "E122",
                f"model {name!r} has {found if sites.discrete else 'no latent site'}: there is "
                "nothing continuous to infer. Give it a sample site that is not observed",
            )
        )


def _support(
    call: _Call, site: str, constraint: Any, made: Callable[[Any], Any] = lambda function: function
) -> Any:
    """A site's support; a function of the other sites where the model computes its bounds.

    Parameters
    ----------
    made
        What is done to functions that run the model before they are called.
    """
    if not any(isinstance(x, jax.core.Tracer) for x in jax.tree_util.tree_leaves(constraint)):
        return S.as_support(constraint)

    def drawn(seed: int) -> Any:
        return made(lambda: call.trace({}, seed)[site]["fn"].support)()

    first, second = drawn(0), drawn(1)
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

    return made(support)


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


# ---- many rows ----------------------------------------------------------------------------------


class _Block(Messenger):
    """Makes the plate over the rows as long as a block of them, and takes all of the others.

    Parameters
    ----------
    plate
        Its name.
    n
        Rows of the block.
    """

    def __init__(self, fn: Any, plate: str, n: int) -> None:
        super().__init__(fn)
        self.plate, self.n = plate, n

    def process_message(self, msg: dict[str, Any]) -> None:
        if msg["type"] == "plate":
            size = msg["args"][0]
            length = self.n if msg["name"] == self.plate else size
            msg["args"] = (size, length)
            msg["value"] = jnp.arange(length)
        elif msg["type"] == "subsample":
            msg["type"] = "taken"  # whole already: no plate takes a part of it


class _Divided:
    """A model whose arguments are rows of data, and others that stay as they are.

    Parameters
    ----------
    bound
        All of its arguments.
    plate
        The plate over the rows.
    n
        Its size: arrays whose first axis is as long are data.

    Attributes
    ----------
    data
        These, by name.
    """

    def __init__(
        self, model: Callable[..., Any], bound: inspect.BoundArguments, plate: str, n: int
    ) -> None:
        self.model, self.bound, self.plate, self.n = model, bound, plate, n
        paths, self.treedef = jax.tree_util.tree_flatten_with_path(dict(bound.arguments))
        self.names = [_dotted(path) for path, _ in paths]
        leaves = [leaf.to_numpy() if hasattr(leaf, "iloc") else leaf for _, leaf in paths]
        named = list(zip(self.names, leaves, strict=True))
        self.data = {name: leaf for name, leaf in named if _length(leaf) == n}
        self.others = {name: _lift(leaf) for name, leaf in named if name not in self.data}

    @property
    def forms(self) -> dict[str, Any]:
        """Shapes and dtypes of the data."""
        return {k: jax.ShapeDtypeStruct(x.shape, x.dtype) for k, x in self.data.items()}

    def call(self, rows: dict[str, Any] | None = None) -> _Call:
        """The model on some rows; without any, on zeros in the place of all, for programs only."""
        n = self.n if rows is None else len(next(iter(rows.values())))
        return self._run(rows, functools.partial(_Block, plate=self.plate, n=n))

    def sizes(self) -> dict[str, int]:
        """Sizes of the model's plates."""
        found: dict[str, int] = {}

        def visit() -> None:
            for name, site in self._run(None, _Whole).trace({}).items():
                if site["type"] == "plate":
                    found[name] = site["args"][0]

        jax.eval_shape(visit)
        return found

    def _run(self, rows: dict[str, Any] | None, plates: Callable[[Any], Messenger]) -> _Call:
        def run() -> Any:
            blank = {k: jnp.zeros(x.shape, x.dtype) for k, x in self.forms.items()}
            given = {**self.others, **(blank if rows is None else rows)}
            leaves = [given[name] for name in self.names]
            arguments = jax.tree_util.tree_unflatten(self.treedef, leaves)
            bound = inspect.BoundArguments(self.bound.signature, arguments)
            return self.model(*bound.args, **bound.kwargs)

        return _Call(run, (), {}, plates)

    def needing(self, function: Callable[[_Call, Any], dict[str, Any]], params: Any) -> list[str]:
        """Which results of a function of the model and the parameters depend on the rows."""

        def named(parts: dict[str, Any]) -> dict[str, Any]:
            rows = {k: parts[f"row {k}"] for k in self.data}
            return function(self.call(rows), {k: parts[f"parameter {k}"] for k in params})

        parts = {f"parameter {k}": x for k, x in params.items()}
        parts |= {f"row {k}": x for k, x in self.forms.items()}
        reached = dependence(named, parts)
        return [name for name, by in reached.items() if any(x.startswith("row ") for x in by)]


def _length(leaf: Any) -> int | None:
    """Length of the first axis of an array of numbers, wherever it is held."""
    array = all(hasattr(leaf, name) for name in ("shape", "dtype", "__getitem__")) and leaf.shape
    return int(leaf.shape[0]) if array and getattr(leaf.dtype, "kind", "") in "fiub" else None


def _dotted(path: Any) -> str:
    return ".".join(str(getattr(k, "key", getattr(k, "idx", k))) for k in path)


def _divided(
    model: Callable[..., Any], bound: inspect.BoundArguments, plate: str, name: str
) -> _Divided:
    """Find the arguments that are data: those as long as the plate."""
    leaves = jax.tree_util.tree_leaves(dict(bound.arguments))
    lengths = sorted({n for n in map(_length, leaves) if n}, reverse=True)
    sizes: dict[str, int] | None = None
    trouble: Exception | None = None
    for n in lengths or [-1]:
        divided = _Divided(model, bound, plate, n)
        try:
            sizes = divided.sizes()
        except Exception as error:  # whatever the user's own model raises
            trouble = trouble or error
            continue
        if sizes.get(plate) == n:
            return divided
    if sizes is None:
        raise ValueError(
            coded(
                "E612",
                f"model {name!r} raised {type(trouble).__name__}: {trouble}\nwhen run on rows "
                "whose values are not known beforehand. What it takes from its data by Python or "
                "NumPy, such as a number of groups, must be an argument of its own",
            )
        ) from trouble
    if plate not in sizes:
        raise ValueError(
            coded(
                "E611",
                f"model {name!r} has no plate {plate!r}; its plates are "
                f"{', '.join(sizes) or 'none'}: put the observations into one over the rows, and "
                "name it",
            )
        )
    told = ", ".join(f"{n:,}" for n in lengths) or "none"
    raise ValueError(
        coded(
            "E611",
            f"no argument of model {name!r} is as long as its plate {plate!r}, {sizes[plate]:,}: "
            f"the first axes of its arrays have lengths {told}. Give all data, rows along the "
            "first axis",
        )
    )


def _from_rows(
    model: Callable[..., Any], bound: inspect.BoundArguments, plate: str, name: str
) -> Rows:
    """The posterior of a model whose data are the rows of a plate."""
    with double_precision():
        divided = _divided(model, bound, plate, name)
        call = divided.call()
        sites = _read(call)
        _check(sites, name)
        _check_rows(sites, name, plate)
        blank = {site: np.zeros(shape) for site, (shape, _) in sites.latent.items()}
        supports = {
            site: _rowless_support(divided, site, constraint, blank)
            for site, (_, constraint) in sites.latent.items()
        }
        _check_prior(divided, blank, name)
        derived = _rowless_derived(divided, sites, blank)
        space = Bijection(blank, supports, derived)

    def log_prior(params: Any) -> Any:
        terms = _terms(call, params, plate, inside=False)
        return sum(terms.values(), jnp.zeros(()))

    def log_likelihood(params: Any, rows: dict[str, Any]) -> Any:
        terms = _terms(divided.call(rows), params, plate, inside=True)
        return sum(terms.values(), jnp.zeros(()))

    known = RowsModel(divided, sites)
    return Rows.of_model(space, _pruned(log_prior), log_likelihood, divided.data, name, known)


def _terms(call: _Call, params: Any, plate: str, inside: bool) -> dict[str, Any]:
    """log p of the sites inside a plate, or of all others; without the scale of that plate."""
    traced = handlers.trace(handlers.substitute(call.prepared(), data=params)).get_trace()
    size, length = traced[plate]["args"]
    terms = {}
    for name, site in traced.items():
        if site["type"] != "sample" or _within(site, plate) != inside:
            continue
        given = (site["intermediates"],) if site["intermediates"] else ()
        value = site["fn"].log_prob(site["value"], *given).sum()
        scale = 1.0 if site["scale"] is None else site["scale"]
        terms[name] = jnp.sum(scale * value) * (length / size if inside else 1.0)
    return terms


def _within(site: dict[str, Any], plate: str) -> bool:
    return any(frame.name == plate for frame in site["cond_indep_stack"])


def _check_rows(sites: _Sites, name: str, plate: str) -> None:
    """Refuse a model whose rows have unknowns of their own, or no observation."""
    local = [site for site in (*sites.latent, *sites.discrete) if plate in sites.plates[site]]
    for site in local:
        raise ValueError(
            coded(
                "E614",
                f"site {site!r} of model {name!r} is latent inside the plate {plate!r}: each row "
                "has one of its own, which from_numpyro does not handle. If it is the data, give "
                "them; if it is a local variable, write it with infimum.Rows(..., local=...)",
            )
        )
    for site in sites.discrete:
        raise ValueError(
            coded(
                "E120",
                f"site {site!r} of model {name!r} is discrete: with rows none is summed out. Sum "
                "it out of the density, with dist.MixtureSameFamily, say",
            )
        )


def _check_prior(divided: _Divided, blank: Any, name: str) -> None:
    """Refuse a model that looks at the rows outside their plate."""
    plate = divided.plate
    for site in divided.needing(lambda call, x: _terms(call, x, plate, inside=False), blank):
        raise ValueError(
            coded(
                "E614",
                f"site {site!r} of model {name!r} depends on the rows, but is outside their plate "
                f"{plate!r}: move an observation into the plate; compute what a prior takes from "
                "the data beforehand, and give it as an argument",
            )
        )


def _rowless_support(divided: _Divided, site: str, constraint: Any, blank: Any) -> Any:
    """A site's support, which must not depend on the rows."""

    def bounds(call: _Call, params: Any) -> dict[str, Any]:
        leaves = jax.tree_util.tree_leaves(call.trace(params)[site]["fn"].support)
        return {str(i): jnp.asarray(leaf) for i, leaf in enumerate(leaves)}

    if divided.needing(bounds, blank):
        raise ValueError(
            coded(
                "E614",
                f"the support of site {site!r} depends on the rows of the plate {divided.plate!r}: "
                "compute its bounds beforehand, and give them as an argument",
            )
        )
    return _support(divided.call(), site, constraint, lambda f: jax.jit(_pruned(f)))


def _rowless_derived(
    divided: _Divided, sites: _Sites, blank: Any
) -> Callable[[Any], dict[str, Any]] | None:
    """The deterministic sites that do not depend on the rows, as a function of the parameters."""
    names = [site for site in sites.deterministic if divided.plate not in sites.plates[site]]

    def values(call: _Call, params: Any) -> dict[str, Any]:
        traced = call.trace(params)
        return {name: traced[name]["value"] for name in names}

    needing = divided.needing(values, blank)
    names = [name for name in names if name not in needing]
    return _pruned(lambda params: values(divided.call(), params)) if names else None


def _pruned(function: Callable[..., Any]) -> Callable[..., Any]:
    """The same function, traceable by JAX, without the steps that its result does not need."""

    def pruned(*args: Any) -> Any:
        closed, shapes = jax.make_jaxpr(function, return_shape=True)(*args)
        jaxpr = closed.jaxpr
        needed = {v for v in jaxpr.outvars if not isinstance(v, core.Literal)}
        kept = []
        for eqn in reversed(jaxpr.eqns):
            if needed.intersection(eqn.outvars):
                kept.append(eqn)
                needed.update(v for v in eqn.invars if not isinstance(v, core.Literal))
        closed = ClosedJaxpr(jaxpr.replace(eqns=kept[::-1]), closed.consts)
        leaves = core.jaxpr_as_fun(closed)(*jax.tree_util.tree_leaves(args))
        return jax.tree_util.tree_unflatten(jax.tree_util.tree_structure(shapes), leaves)

    return pruned


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
                found[_dotted(path)] = array
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

        return _mapped(one, draws, list(self._sites.latent), seed)

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
                coded(
                    "E432",
                    f"the discrete sites {', '.join(self._sites.discrete)} are summed out, so that "
                    "the observations have no likelihood of their own given the parameters: sum "
                    "them out in the model, with dist.MixtureSameFamily",
                )
            )

        def one(params: Any, key: Any) -> dict[str, Any]:
            traced = self._call.trace(params)
            sites = {name: traced[name] for name in self._sites.observed}
            return {name: site["fn"].log_prob(site["value"]) for name, site in sites.items()}

        return _mapped(one, draws, list(self._sites.latent), 0)


class RowsModel(Model):
    """A NumPyro model of many rows: it predicts new ones, and keeps none of the old."""

    library = "numpyro"

    def __init__(self, divided: _Divided, sites: _Sites) -> None:
        self._divided = divided
        self._sites = sites

    def dims(self) -> dict[str, Sequence[str]]:
        """Plates name the axes."""
        return {k: v for k, v in self._sites.axes.items() if k in self._sites.latent}

    def coords(self) -> dict[str, Sequence[Any]]:
        """NumPyro has none."""
        return {}

    def observed(self) -> dict[str, np.ndarray]:
        """None: there may be more rows than memory holds."""
        return {}

    def constant(self) -> dict[str, np.ndarray]:
        """None."""
        return {}

    def predict(
        self, draws: Arrays, seed: int, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> dict[str, np.ndarray]:
        """Draws of the observed sites at new rows; arguments not given stay, apart from data."""
        bound = self._divided.bound
        new = bound.signature.bind_partial(*args, **kwargs)
        if not new.arguments:
            raise ValueError(
                coded(
                    "E433",
                    "predictions for all rows would not fit into memory: give new rows, "
                    "infimum.predict(fit, *args)",
                )
            )
        data = {name.split(".")[0] for name in self._divided.data}
        for name, value in bound.arguments.items():
            new.arguments.setdefault(name, None if name in data else value)
        with double_precision():
            given = jax.tree_util.tree_map(_lift, (new.args, new.kwargs))
            call = _call(self._divided.model, *given)

        def one(params: Any, key: Any) -> dict[str, Any]:
            traced = call.trace(params, key, observe=False)
            return {name: traced[name]["value"] for name in self._sites.observed if name in traced}

        return _mapped(one, draws, list(self._sites.latent), seed)

    def log_likelihood(self, draws: Arrays) -> dict[str, np.ndarray]:
        """Refuse."""
        raise ValueError(
            coded(
                "E433",
                "the log-likelihood of every row at every draw would not fit into memory: state "
                "the model without rows, on the rows that you want it of",
            )
        )


def _mapped(one: Callable[[Any, Any], Any], draws: Arrays, latent: Sequence[str], seed: int) -> Any:
    """A function of parameters and a key, at every draw."""
    params = {name: np.asarray(draws[name]) for name in latent}
    rows = len(next(iter(params.values())))
    with double_precision():
        keys = jax.random.split(jax.random.key(seed), rows)
        mapped = functools.partial(jax.lax.map, lambda x: one(*x), batch_size=CHUNK)
        return jax.tree_util.tree_map(np.asarray, jax.jit(mapped)((params, keys)))
