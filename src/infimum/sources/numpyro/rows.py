"""TODO."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend import core
from numpyro import handlers
from numpyro.primitives import Messenger

from infimum.base.errors import coded
from infimum.base.program import ClosedJaxpr
from infimum.sources.numpyro.call import Call, Whole, lift
from infimum.sources.numpyro.sites import Sites, support_of
from infimum.target.hierarchy import dependence


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


class Divided:
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
        self.names = [dotted(path) for path, _ in paths]
        leaves = [leaf.to_numpy() if hasattr(leaf, "iloc") else leaf for _, leaf in paths]
        named = list(zip(self.names, leaves, strict=True))
        self.data = {name: leaf for name, leaf in named if _length(leaf) == n}
        self.others = {name: lift(leaf) for name, leaf in named if name not in self.data}

    @property
    def forms(self) -> dict[str, Any]:
        """Shapes and dtypes of the data."""
        return {k: jax.ShapeDtypeStruct(x.shape, x.dtype) for k, x in self.data.items()}

    def call(self, rows: dict[str, Any] | None = None) -> Call:
        """The model on some rows; without any, on zeros in the place of all, for programs only."""
        n = self.n if rows is None else len(next(iter(rows.values())))
        return self._run(rows, functools.partial(_Block, plate=self.plate, n=n))

    def sizes(self) -> dict[str, int]:
        """Sizes of the model's plates."""
        found: dict[str, int] = {}

        def visit() -> None:
            for name, site in self._run(None, Whole).trace({}).items():
                if site["type"] == "plate":
                    found[name] = site["args"][0]

        jax.eval_shape(visit)
        return found

    def _run(self, rows: dict[str, Any] | None, plates: Callable[[Any], Messenger]) -> Call:
        def run() -> Any:
            blank = {k: jnp.zeros(x.shape, x.dtype) for k, x in self.forms.items()}
            given = {**self.others, **(blank if rows is None else rows)}
            leaves = [given[name] for name in self.names]
            arguments = jax.tree_util.tree_unflatten(self.treedef, leaves)
            bound = inspect.BoundArguments(self.bound.signature, arguments)
            return self.model(*bound.args, **bound.kwargs)

        return Call(run, (), {}, plates)

    def needing(self, function: Callable[[Call, Any], dict[str, Any]], params: Any) -> list[str]:
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


def dotted(path: Any) -> str:
    return ".".join(str(getattr(k, "key", getattr(k, "idx", k))) for k in path)


def divided_model(
    model: Callable[..., Any], bound: inspect.BoundArguments, plate: str, name: str
) -> Divided:
    """Find the arguments that are data: those as long as the plate."""
    leaves = jax.tree_util.tree_leaves(dict(bound.arguments))
    lengths = sorted({n for n in map(_length, leaves) if n}, reverse=True)
    sizes: dict[str, int] | None = None
    trouble: Exception | None = None
    for n in lengths or [-1]:
        divided = Divided(model, bound, plate, n)
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


def site_terms(call: Call, params: Any, plate: str, inside: bool) -> dict[str, Any]:
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


def check_rows(sites: Sites, name: str, plate: str) -> None:
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


def check_prior(divided: Divided, blank: Any, name: str) -> None:
    """Refuse a model that looks at the rows outside their plate."""
    plate = divided.plate
    for site in divided.needing(lambda call, x: site_terms(call, x, plate, inside=False), blank):
        raise ValueError(
            coded(
                "E614",
                f"site {site!r} of model {name!r} depends on the rows, but is outside their plate "
                f"{plate!r}: move an observation into the plate; compute what a prior takes from "
                "the data beforehand, and give it as an argument",
            )
        )


def rowless_support(divided: Divided, site: str, constraint: Any, blank: Any) -> Any:
    """A site's support, which must not depend on the rows."""

    def bounds(call: Call, params: Any) -> dict[str, Any]:
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
    return support_of(divided.call(), site, constraint, lambda f: jax.jit(pruned(f)))


def rowless_derived(
    divided: Divided, sites: Sites, blank: Any
) -> Callable[[Any], dict[str, Any]] | None:
    """The deterministic sites that do not depend on the rows, as a function of the parameters."""
    names = [site for site in sites.deterministic if divided.plate not in sites.plates[site]]

    def values(call: Call, params: Any) -> dict[str, Any]:
        traced = call.trace(params)
        return {name: traced[name]["value"] for name in names}

    needing = divided.needing(values, blank)
    names = [name for name in names if name not in needing]
    return pruned(lambda params: values(divided.call(), params)) if names else None


def pruned(function: Callable[..., Any]) -> Callable[..., Any]:
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
