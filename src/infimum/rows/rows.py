"""A posterior of many rows as a target: prior and likelihood apart, data of any size."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from infimum.base import processes
from infimum.base.errors import coded
from infimum.base.program import double_precision
from infimum.rows.local_variables import Locals
from infimum.rows.sums import Sums
from infimum.target.bijection import Bijection
from infimum.target.compiled import target_name
from infimum.target.model import DENSITY, Model
from infimum.target.target import LargeData, Target

WAYS = ("auto", "whole", "blocks", "minibatch")


class Rows(Target):
    """A posterior p̂(z) = p(z) Π_n p(x_n | z) of N rows, which need not fit into memory.

    A small data set is a constant of one compiled program. A large one is gone through in passes,
    a block at a time: a fit searches on a part of the rows that stands for all of them, corrects
    it by exact passes until nothing is left to correct, and ends with an exact pass for ELBO, k̂
    and verdict. Under `jax.distributed` each process hands over its own rows.

    Parameters
    ----------
    log_prior
        Function from parameters, structured like `example`, to their log prior density in nats.
    log_likelihood
        Function ``(params, rows)`` to the log-likelihood in nats, summed over the rows it is given:
        a block of `data`, in the same structure. Differentiable by JAX. With local variables a
        function ``(params, local, rows)`` to log p(x_n, u_n | params) of each row, their prior
        included, as an array of shape (n,); `local` has a leading axis of rows.
    data
        Pytree of arrays with rows along their first axis: NumPy, memory-maps, Zarr. Or the path of
        a Parquet file, or a data frame, whose blocks are dicts of columns. Or anything that gives
        blocks each time it is iterated, with `n_rows`; but a list whose arrays have `n_rows` rows
        each is a pytree.
    example, supports
        As for `Target`.
    n_rows
        N, where the data do not know it; checked against what is seen.
    local
        The local variables of one row, such as the random effects of a row or group, or what is
        missing of it: a pytree of floats, real and unconstrained, that says their shapes and where
        to look for them. They are integrated out row by row, so that the posterior is that of the
        parameters; `locals` draws them. One to three a row are integrated by quadrature, more, up
        to twenty, by Laplace's approximation, which is exact only for what is Gaussian in them:
        the error is that of the model fitted, and no verdict shows it.
    name
        What to call the target in print.
    way
        "whole": one program on all rows; "blocks": every evaluation by a pass; "minibatch": search
        on a part, and passes to correct it. "auto" chooses by size.
    precision
        "float64"; or "float32" for the arithmetic within a block, which accelerators do many times
        faster. Sums over blocks stay float64, and a warning says if that is not enough.

    Raises
    ------
    TypeError, ValueError
        As `Target` does; for data that are not rows, counts that disagree, and a likelihood that
        is not a sum over rows or undefined on one of them, with the row's number. With local
        variables, for one that does not give one number a row, or mixes rows.

    Attributes
    ----------
    n_rows, way
        N over all processes, and the way that was chosen.
    laplace
        Whether local variables are integrated by Laplace's approximation.

    Examples
    --------
    >>> x = np.arange(6.0)
    >>> target = Rows(
    ...     log_prior=lambda p: -0.5 * p["mu"] ** 2,
    ...     log_likelihood=lambda p, rows: -0.5 * ((rows - p["mu"]) ** 2).sum(),
    ...     data=x,
    ...     example={"mu": 0.0},
    ... )
    >>> target.n_rows, target.way
    (6, 'whole')

    With an intercept of its own for each row:

    >>> target = Rows(
    ...     log_prior=lambda p: -0.5 * p["mu"] ** 2,
    ...     log_likelihood=lambda p, local, rows: (
    ...         -0.5 * local["u"] ** 2 - 0.5 * (rows - p["mu"] - local["u"]) ** 2
    ...     ),
    ...     data=x,
    ...     example={"mu": 0.0},
    ...     local={"u": 0.0},
    ... )
    >>> [(start, block["u"].shape) for start, block in target.locals({"mu": np.zeros(100)})]
    [(0, (100, 6))]
    """

    def __init__(
        self,
        log_prior: Callable[[PyTree], Any],
        log_likelihood: Callable[..., Any],
        data: Any,
        example: PyTree,
        supports: PyTree = None,
        n_rows: int | None = None,
        *,
        local: PyTree = None,
        name: str | None = None,
        way: str = "auto",
        precision: str = "float64",
    ) -> None:
        for what, function in (("log_prior", log_prior), ("log_likelihood", log_likelihood)):
            if not callable(function):
                raise TypeError(coded("E101", f"{what} is {function!r}, expected a function"))
        if way not in WAYS:
            raise ValueError(coded("E306", f"way is {way!r}, expected one of {', '.join(WAYS)}"))
        if precision not in ("float64", "float32"):
            raise ValueError(
                coded("E306", f"precision is {precision!r}, expected 'float64' or 'float32'")
            )
        with double_precision():
            space = Bijection(example, supports)
            start = space.interior_point(example)
        local_variables = None if local is None else Locals(local, log_likelihood)
        summed = log_likelihood if local_variables is None else local_variables.summed
        sums = Sums(space, log_prior, summed, data, n_rows, precision == "float32")
        self._state(sums, target_name(log_likelihood, name), way, start, local=local_variables)

    @classmethod
    def of_model(
        cls,
        space: Bijection,
        log_prior: Callable[[PyTree], Any],
        log_likelihood: Callable[[PyTree, PyTree], Any],
        data: Any,
        name: str,
        model: Model,
    ) -> Rows:
        """A posterior of many rows as a source states it.

        Parameters
        ----------
        space
            What z means.
        log_prior, log_likelihood, data
            As for `Rows`.
        model
            What the source knows beyond log p̂.
        """
        target = cls.__new__(cls)
        sums = Sums(space, log_prior, log_likelihood, data, None, False)
        target._state(sums, name, "auto", None, model)
        return target

    def _state(
        self,
        sums: Sums,
        name: str,
        way: str,
        start: np.ndarray | None,
        model: Model = DENSITY,
        local: Locals | None = None,
    ) -> None:
        """Check prior and likelihood, choose the way, and be the target."""
        self._sums, self._locals = sums, local
        sums.check(start, local)
        self.way = sums.way() if way == "auto" else way
        if self.way == "whole" and processes.count() > 1:
            raise ValueError(
                coded("E724", 'way is "whole", but each process has rows of its own: give "blocks"')
            )
        density: Any = sums.whole if self.way == "whole" else sums.streamed()
        self._build(sums.space, density, name, example=start, model=model)
        self.large = None if self.way == "whole" else Many(self, sums)
        self.n_rows = sums.passes.n_rows

    @property
    def laplace(self) -> bool:
        """Whether local variables are integrated by Laplace's approximation."""
        return self._locals is not None and self._locals.laplace

    def locals(
        self, draws: PyTree, rows: Any = None, *, seed: int = 0
    ) -> Iterator[tuple[int, PyTree]]:
        """Draws of local variables given draws of the parameters, a block of rows at a time.

        One variable a row is drawn by the inverse of its distribution function, on a grid as wide
        as its quadrature; several by iterated resampling of proposals around their mode.

        Parameters
        ----------
        draws
            Of the parameters, with leading axis n, as `Fit.sample` gives them.
        rows
            Numbers of the rows wanted, in ascending order; these are held in memory. All, if None.
            Under `jax.distributed` rows are those of this process.
        seed
            The same seed gives the same draws, whatever the other rows are.

        Yields
        ------
        The place of a block's first row among those wanted, and a pytree like `local` with leading
        axes n and rows of the block. Memory holds one block.

        Raises
        ------
        ValueError
            If no local variables were declared, and for draws or row numbers that do not fit.
        """
        if self._locals is None:
            raise ValueError(
                coded(
                    "E531", "the target has no local variables: declare them with Rows(local=...)"
                )
            )
        x = self._sums.in_a_row(draws)
        numbers = self._sums.numbers(rows)
        return self._sums.drawn(self._locals, x, numbers, seed)


class Many(LargeData):
    """Of a target of many rows: the part that stands for all, and what passes cost."""

    def __init__(self, target: Rows, sums: Sums) -> None:
        self.target, self.sums = target, sums
        self.n_rows, self.n_part = sums.passes.n_rows, sums.n_part
        self.by_part = target.way == "minibatch"

    @property
    def n_passes(self) -> int:
        """Passes made so far."""
        return self.sums.passes.n_passes

    def part(self, rng: np.random.Generator) -> Target:
        """A target of some rows at random, each of which stands for N/m, in one program."""
        rows, scale = self.sums.part(rng)
        with double_precision():
            rows = jax.tree_util.tree_map(jnp.asarray, rows)
        log_prior, log_likelihood = self.sums.log_prior, self.sums.log_likelihood

        def density(params: PyTree) -> Any:
            return log_prior(params) + scale * log_likelihood(params, rows)

        target = self.target
        return Target.of(target.space, density, target.name, example=target.example)

    def description(self) -> str:
        """The rows and where they are, in words."""
        passes = self.sums.passes
        n_blocks = -(-passes.blocks.n_rows // passes.size)
        where = f"{self.n_rows:,} rows {passes.blocks.where} in {n_blocks:,} blocks"
        here = f", {processes.count()} processes" if processes.count() > 1 else ""
        devices = f", {len(passes.devices)} devices" if len(passes.devices) > 1 else ""
        local = self.target._locals
        return where + here + devices + (f", {local.description()}" if local else "")

    def seconds(self, n: int, gradient: bool) -> float:
        """What a pass for n points is expected to take."""
        return self.sums.passes.seconds(n, gradient)
