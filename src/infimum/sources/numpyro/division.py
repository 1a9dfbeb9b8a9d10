"""A NumPyro model whose arguments are divided into rows of data and the rest."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from numpyro.primitives import Messenger

from infimum.base.errors import coded_error
from infimum.sources.numpyro.call import Call, Site, WholePlates, lift
from infimum.target.hierarchy import dependence
from infimum.target.model import Arrays


class _Block(Messenger):
    """Makes the plate over the rows as long as a block of them, and takes all other plates whole.

    Parameters
    ----------
    plate
        Name of the plate over the rows.
    n
        Rows of the block.
    """

    def __init__(self, fn: Any, plate: str, n: int) -> None:
        super().__init__(fn)
        self.plate, self.n = plate, n

    def process_message(self, msg: Site) -> None:
        if msg["type"] == "plate":
            size = msg["args"][0]
            length = self.n if msg["name"] == self.plate else size
            msg["args"] = (size, length)
            msg["value"] = jnp.arange(length)
        elif msg["type"] == "subsample":
            # A block is whole already: with another type no plate takes a part of it.
            msg["type"] = "taken"


class Division:
    """The division of a model's arguments: rows of data, and arguments that stay as they are.

    Parameters
    ----------
    bound
        All arguments of the model.
    plate
        The plate over the rows.
    n
        Size of the plate: arrays whose first axis is as long are data.

    Attributes
    ----------
    data
        The data, by name.
    others
        All other leaves of the arguments, by name.
    """

    def __init__(
        self, model: Callable[..., Any], bound: inspect.BoundArguments, plate: str, n: int
    ) -> None:
        self.model, self.bound, self.plate, self.n = model, bound, plate, n
        paths, self.treedef = jax.tree_util.tree_flatten_with_path(dict(bound.arguments))
        self.names = [dotted(path) for path, _ in paths]
        leaves = [leaf.to_numpy() if hasattr(leaf, "iloc") else leaf for _, leaf in paths]
        named = list(zip(self.names, leaves, strict=True))
        self.data = {name: leaf for name, leaf in named if _n_rows(leaf) == n}
        self.others = {name: lift(leaf) for name, leaf in named if name not in self.data}

    @property
    def forms(self) -> dict[str, jax.ShapeDtypeStruct]:
        """Shapes and dtypes of the data."""
        return {k: jax.ShapeDtypeStruct(x.shape, x.dtype) for k, x in self.data.items()}

    def call(self, rows: Arrays | None = None) -> Call:
        """The model on some rows.

        Without rows it runs on zeros in the shape of all data, which is good for tracing only.
        """
        n = self.n if rows is None else len(next(iter(rows.values())))
        return self._call_with(rows, functools.partial(_Block, plate=self.plate, n=n))

    def plate_sizes(self) -> dict[str, int]:
        """Sizes of the model's plates."""
        sizes: dict[str, int] = {}

        def visit() -> None:
            for name, site in self._call_with(None, WholePlates).trace({}).items():
                if site["type"] == "plate":
                    sizes[name] = site["args"][0]

        jax.eval_shape(visit)
        return sizes

    def _call_with(self, rows: Arrays | None, plates: Callable[[Any], Messenger]) -> Call:
        def run() -> Any:
            blank = {k: jnp.zeros(x.shape, x.dtype) for k, x in self.forms.items()}
            values = {**self.others, **(blank if rows is None else rows)}
            leaves = [values[name] for name in self.names]
            arguments = jax.tree_util.tree_unflatten(self.treedef, leaves)
            bound = inspect.BoundArguments(self.bound.signature, arguments)
            return self.model(*bound.args, **bound.kwargs)

        return Call(run, (), {}, plates)

    def row_dependent(
        self, function: Callable[[Call, Arrays], Mapping[str, Any]], params: Arrays
    ) -> list[str]:
        """Names of a function's results that depend on the rows.

        Parameters
        ----------
        function
            Of the model on some rows, and of the parameters.
        """

        def results(parts: Arrays) -> Mapping[str, Any]:
            rows = {k: parts[f"row {k}"] for k in self.data}
            return function(self.call(rows), {k: parts[f"parameter {k}"] for k in params})

        parts = {f"parameter {k}": x for k, x in params.items()}
        parts |= {f"row {k}": x for k, x in self.forms.items()}
        origins = dependence(results, parts)
        return [name for name, by in origins.items() if any(x.startswith("row ") for x in by)]


def _n_rows(leaf: Any) -> int | None:
    """Length of the first axis of an array of numbers, in memory or on disk; else None."""
    array = all(hasattr(leaf, name) for name in ("shape", "dtype", "__getitem__")) and leaf.shape
    return int(leaf.shape[0]) if array and getattr(leaf.dtype, "kind", "") in "fiub" else None


def dotted(path: tuple[Any, ...]) -> str:
    """The name of a leaf among nested arguments: its keys, joined by dots."""
    return ".".join(str(getattr(k, "key", getattr(k, "idx", k))) for k in path)


def divide(
    model: Callable[..., Any], bound: inspect.BoundArguments, plate: str, name: str
) -> Division:
    """Divide a model's arguments: those that are as long as the plate are data.

    Raises
    ------
    ValueError
        If the model fails on data without values, has no such plate, or no data as long as it.
    """
    leaves = jax.tree_util.tree_leaves(dict(bound.arguments))
    lengths = sorted({n for n in map(_n_rows, leaves) if n}, reverse=True)
    sizes: dict[str, int] | None = None
    first_error: Exception | None = None
    for n in lengths or [-1]:
        division = Division(model, bound, plate, n)
        try:
            sizes = division.plate_sizes()
        except Exception as error:  # whatever the user's own model raises
            first_error = first_error or error
            continue
        if sizes.get(plate) == n:
            return division
    if sizes is None:
        raise coded_error(
            ValueError,
            "E612",
            f"model {name!r} raised {type(first_error).__name__}: {first_error}\nwhen it ran "
            "on rows whose values are not known. What Python or NumPy computes from the data, "
            "such as a number of groups, must be an argument of its own",
        ) from first_error
    raise coded_error(ValueError, "E611", _no_rows(name, plate, sizes, lengths))


def _no_rows(name: str, plate: str, sizes: dict[str, int], lengths: list[int]) -> str:
    """What a model lacks whose plates have these sizes, and its arrays these lengths."""
    if plate not in sizes:
        return (
            f"model {name!r} has no plate {plate!r}; its plates are "
            f"{', '.join(sizes) or 'none'}. Put the observations into a plate over the rows, and "
            "give its name"
        )
    listed = ", ".join(f"{n:,}" for n in lengths) or "none"
    return (
        f"no argument of model {name!r} is as long as its plate {plate!r}, {sizes[plate]:,}: the "
        f"first axes of its arrays have lengths {listed}. Give all data, with rows along the first "
        "axis"
    )
