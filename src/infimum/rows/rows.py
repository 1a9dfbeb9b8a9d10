"""A posterior of many rows as a target: a prior, a likelihood, and data of any size."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from infimum.base import processes
from infimum.base.errors import coded_error
from infimum.base.program import double_precision
from infimum.rows.likelihood_checks import check_likelihood
from infimum.rows.local_draws import LocalDraws
from infimum.rows.local_variables import LocalVariables
from infimum.rows.posterior import RowPosterior
from infimum.target.bijection import Bijection
from infimum.target.compiled import target_name
from infimum.target.model import DENSITY, Model
from infimum.target.target import LargeData, Target

WAYS = ("auto", "whole", "blocks", "minibatch")
"""How a posterior of many rows can be evaluated; see `Rows`."""


class Rows(Target):
    """A posterior p̂(z) = p(z) Π_n p(x_n | z) of N rows, which need not fit into memory.

    A small data set becomes part of one compiled program. A large one is read in passes, a block
    at a time. A fit then optimises on a random part of the rows that stands for all of them,
    corrects the result by passes over all rows until the correction is negligible, and computes
    ELBO, k̂ and verdict by a last pass. Under `jax.distributed` each process gives its own rows.

    Parameters
    ----------
    log_prior
        Function from parameters, structured like `example`, to their log prior density in nats.
    log_likelihood
        Function ``(params, rows)`` to the log-likelihood in nats, summed over `rows`: a block of
        `data`, in the same structure. Differentiable by JAX. With local variables it is a function
        ``(params, local, rows)`` to log p(x_n, u_n | params) of each row, which includes their
        prior, as an array of shape (n,); `local` has a leading axis of rows.
    data
        Pytree of arrays with rows along their first axis: NumPy, memory-maps, Zarr. Or the path of
        a Parquet file, or a data frame, whose blocks are dicts of columns. Or any object that
        gives blocks each time it is iterated, together with `n_rows`; but a list whose arrays have
        `n_rows` rows each is a pytree.
    example, supports
        As for `Target`.
    n_rows
        N, if the data do not know it; it is checked against the rows that are read.
    local
        The local variables of one row, such as the random effects of a row or group, or its
        missing values: a pytree of floats, real and unconstrained, that says their shapes and
        where to look for them. They are integrated out row by row, which leaves the posterior of
        the parameters; `locals` draws them. One to three variables a row are integrated by
        quadrature. Four to twenty are integrated by Laplace's approximation, which is exact only
        for densities that are Gaussian in them. Its error changes the model that is fitted, and no
        verdict shows it.
    name
        What to call the target in print.
    way
        "whole": one program on all rows; "blocks": every evaluation by a pass; "minibatch":
        optimise on a part, and correct by passes. "auto" chooses by size.
    precision
        "float64"; or "float32" for the arithmetic within a block, which is many times faster on
        accelerators. Sums over blocks stay float64, and a warning says if that is not enough.

    Raises
    ------
    TypeError, ValueError
        For the reasons that `Target` has; for data that are not rows, and counts that disagree;
        for a likelihood that is not a sum over rows, or is undefined on a row, whose number the
        message has. With local variables, for a likelihood that does not give one number a row, or
        that mixes rows.

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
                raise coded_error(TypeError, "E101", f"{what} is {function!r}, expected a function")
        if way not in WAYS:
            raise coded_error(
                ValueError, "E306", f"way is {way!r}, expected one of {', '.join(WAYS)}"
            )
        if precision not in ("float64", "float32"):
            raise coded_error(
                ValueError, "E306", f"precision is {precision!r}, expected 'float64' or 'float32'"
            )
        with double_precision():
            space = Bijection(example, supports)
            start = space.interior_point(example)
        variables = None if local is None else LocalVariables(local, log_likelihood)
        summed = log_likelihood if variables is None else variables.log_likelihood
        single = precision == "float32"
        posterior = RowPosterior(space, log_prior, summed, data, n_rows, single)
        name = target_name(log_likelihood, name)
        self._build_rows(posterior, name, way, example=start, local=variables)

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
        posterior = RowPosterior(space, log_prior, log_likelihood, data, None, False)
        target._build_rows(posterior, name, "auto", model=model)
        return target

    def _build_rows(
        self,
        posterior: RowPosterior,
        name: str,
        way: str,
        *,
        example: np.ndarray | None = None,
        model: Model = DENSITY,
        local: LocalVariables | None = None,
    ) -> None:
        """Check the likelihood, choose the way, and build the target."""
        check_likelihood(posterior, example, local)
        self.way = posterior.way() if way == "auto" else way
        if self.way == "whole" and processes.count() > 1:
            raise coded_error(
                ValueError,
                "E724",
                'way is "whole", but each process has rows of its own: give "blocks"',
            )
        whole = self.way == "whole"
        density = posterior.whole if whole else posterior.streamed()
        self._build(posterior.space, density, name, example=example, model=model)
        self.n_rows = posterior.passes.n_rows
        self.large = None if whole else RowsInBlocks(self, posterior)
        self._posterior = posterior
        self._local_draws = (
            None if local is None else LocalDraws(local, posterior.space, posterior.blocks)
        )

    @property
    def laplace(self) -> bool:
        """Whether local variables are integrated by Laplace's approximation."""
        return self._local_draws is not None and self._local_draws.local.laplace

    def locals(
        self, draws: PyTree, rows: Any = None, *, seed: int = 0
    ) -> Iterator[tuple[int, PyTree]]:
        """Draws of local variables given draws of the parameters, a block of rows at a time.

        One variable a row is drawn by the inverse of its distribution function, on a grid as wide
        as its quadrature; several by iterated resampling of proposals around their mode.

        Parameters
        ----------
        draws
            Draws of the parameters with leading axis n, as `Fit.sample` gives them.
        rows
            Numbers of some rows in ascending order, which are held in memory; None for all rows.
            Under `jax.distributed` these are the rows of this process.
        seed
            The same seed gives the same draws of a row, whatever the other rows are.

        Yields
        ------
        The place of the block's first row among these rows, and a pytree like `local` with two
        leading axes: the n draws, and the rows of the block. Memory holds one block.

        Raises
        ------
        ValueError
            If no local variables were declared, and for draws or row numbers that do not fit.
        """
        if self._local_draws is None:
            raise coded_error(
                ValueError,
                "E531",
                "the target has no local variables: declare them with Rows(local=...)",
            )
        return self._local_draws.iterate(draws, rows, seed)


class RowsInBlocks(LargeData):
    """The rows of a target whose evaluations are passes: parts of them, and what passes cost."""

    def __init__(self, target: Rows, posterior: RowPosterior) -> None:
        self.target, self.posterior = target, posterior
        self.n_rows, self.n_part = posterior.passes.n_rows, posterior.n_part
        self.by_part = target.way == "minibatch"

    @property
    def n_passes(self) -> int:
        """Passes made so far."""
        return self.posterior.passes.n_passes

    def part(self, rng: np.random.Generator) -> Target:
        """A target of some random rows, each of which stands for N/m, as one compiled program."""
        rows, scale = self.posterior.part(rng)
        with double_precision():
            rows = jax.tree_util.tree_map(jnp.asarray, rows)
        log_prior, log_likelihood = self.posterior.log_prior, self.posterior.log_likelihood

        def density(params: PyTree) -> Any:
            return log_prior(params) + scale * log_likelihood(params, rows)

        target = self.target
        return Target.of(target.space, density, target.name, example=target.example)

    def description(self) -> str:
        """How many rows there are and where they are, in words."""
        passes = self.posterior.passes
        n_blocks = -(-passes.blocks.n_rows // passes.size)
        where = f"{self.n_rows:,} rows {passes.blocks.where} in {n_blocks:,} blocks"
        here = f", {processes.count()} processes" if processes.count() > 1 else ""
        devices = f", {len(passes.devices)} devices" if len(passes.devices) > 1 else ""
        draws = self.target._local_draws
        local = "" if draws is None else f", {draws.local.description()}"
        return where + here + devices + local

    def seconds(self, n: int, gradient: bool) -> float:
        """Seconds that a pass for n points is expected to take."""
        return self.posterior.passes.seconds(n, gradient)
