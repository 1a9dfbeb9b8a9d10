"""Local variables of rows: integrated out of the likelihood of each row, and drawn given the rest.

Given the parameters that all rows share, the local variables of different rows are independent, so
log ∫ p(x_n, u | params) du is a sum of integrals of few dimensions. Each is done around the mode of
its own integrand, where the curvature gives the scale (Naylor & Smith 1982; Liu & Pierce 1994):

- one variable: the trapezoidal rule after u = mode + sd sinh(c t)/c, whose nodes reach into tails
  where those of Gauss and Hermite do not (Takahasi & Mori 1974);
- two or three: the product of Gauss-Hermite rules, exact for what is Gaussian times a polynomial;
- more: Laplace's approximation (Tierney & Kadane 1986).

Nodes of the rules are held where they are when JAX differentiates: the gradient is the average of
the integrand's own gradient over the conditional of u, by the same rule, and so is the curvature.
Laplace's single node moves with the parameters, and its derivatives are the exact ones of the
approximation.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from infimum.base.errors import coded
from infimum.base.program import BATCH, double_precision
from infimum.rows.modes import NOTHING, TINY, LogP, backward, factors, looked, modes_of, solved
from infimum.rows.quadrature import BEND, NODES, SPACING, Rule, rule_for
from infimum.target.bijection import Bijection

Joint = Callable[[PyTree, PyTree, PyTree], Any]
"""(params, local, rows) to log p(x_n, u_n | params) of each row, shape (n,)."""

MOST = 20
"""Local variables that a row may have: each adds a gradient to every look at a row's curvature, and
to the error of Laplace's approximation."""


AGREE = 1e-6
"""Relative error of a row's value alone against among others, in double precision and float32."""

CHECKED = 64
"""Rows on which this is checked: each is evaluated alone."""

GRID = 128
"""Cells of the grid on which one variable is drawn: between its points the density is taken as
linear, which adds a sixth of a squared cell to its variance: 8e-4 of it."""

ROUNDS = 5
PROPOSALS = 16
"""Of draws of several variables: rounds of resampling, and proposals in each. Every round leaves
the conditional as it is. Means and covariances of two thousand draws, of two and of five variables,
were within their Monte Carlo error."""

WIDTHS = (1.0, 1.5, 3.0)
"""Scales of the normals that proposals come from: a third of them are as the curvature says, and
wider ones reach what has heavier tails."""

DRAW_SET = 2**24
"""Bytes that the largest array of a block may take when local variables are drawn."""


class Locals:
    """The local variables of a row: their integral, and their draws.

    Parameters
    ----------
    example
        Pytree of floats, the local variables of one row: their shapes, and where searches for
        modes begin.
    joint
        Log density of rows and their local variables in nats, row by row.

    Attributes
    ----------
    k
        Local variables of a row.
    checked
        Rows that `check` looks at.
    rule
        How they are integrated.

    Raises
    ------
    TypeError, ValueError
        If the example holds no floating-point numbers, or more than `MOST`.
    """

    def __init__(self, example: PyTree, joint: Joint) -> None:
        try:
            with double_precision():
                self.space = Bijection(example)
        except (TypeError, ValueError) as error:
            raise type(error)(coded("E530", f"local: {error}")) from None
        self.joint, self.k = joint, self.space.dim
        if self.k > MOST:
            raise ValueError(
                coded(
                    "E530",
                    f"local has {self.k} variables a row, at most {MOST} can be integrated: make "
                    "rows smaller, or put variables that rows share among the parameters",
                )
            )
        leaves = jax.tree_util.tree_leaves(example)
        self.start = np.concatenate([np.ravel(np.asarray(x, np.float64)) for x in leaves])
        self.rule = rule_for(self.k)

    checked = CHECKED

    @property
    def laplace(self) -> bool:
        """Whether integrals are Laplace's approximations, not quadrature."""
        return len(self.rule.t) == 1

    def description(self) -> str:
        """The variables and how they are integrated, in words."""
        how = "Laplace's approximation, not exact," if self.laplace else self.rule.name
        return f"{self.k} local variable{'s' * (self.k > 1)} a row integrated by {how}".rstrip(",")

    def summed(self, params: PyTree, rows: PyTree) -> Any:
        """Σ_n log ∫ p(x_n, u | params) du in nats, traceable by JAX."""
        return self.each(params, rows).sum()

    def each(self, params: PyTree, rows: PyTree) -> Float[Array, " n"]:
        """log ∫ p(x_n, u | params) du of each row in nats, traceable by JAX."""
        fixed = self._of(*jax.lax.stop_gradient((params, rows)))
        mode, factor = jax.lax.stop_gradient(modes_of(fixed, self._starts(rows)))
        log_p = self._of(params, rows)
        if self.laplace:
            return _laplace(log_p, mode)
        return _quadrature(self.rule, log_p, fixed, mode, factor)

    def _of(self, params: PyTree, rows: PyTree) -> LogP:
        """The integrands' logarithms, a function of u (n, k)."""

        def log_p(u: Any) -> Any:
            value = self.joint(params, jax.vmap(self.space.unflatten)(u), rows)
            return jnp.asarray(value, jnp.float64)

        return log_p

    def _starts(self, rows: PyTree) -> Any:
        n = len(jax.tree_util.tree_leaves(rows)[0])
        return jnp.broadcast_to(jnp.asarray(self.start), (n, self.k))

    # ---- draws ----

    @property
    def block(self) -> int:
        """Rows of a block in which local variables are drawn."""
        each = GRID + 1 if self.k == 1 else self.k * max(self.k, PROPOSALS)
        return max(1, DRAW_SET // (8 * BATCH * each))

    def draws(
        self, params: PyTree, rows: PyTree, numbers: np.ndarray, seed: int, stream: int
    ) -> PyTree:
        """A draw of every row's local variables for each draw of the parameters.

        Parameters
        ----------
        params
            Pytree of arrays with leading axis n.
        rows
            A block of m rows.
        numbers
            What its rows are called, shape (m,): a row's draws depend on its number, not its block.
        seed, stream
            Of the generator.

        Returns
        -------
        Pytree of arrays with leading axes n and m.
        """
        n = len(jax.tree_util.tree_leaves(params)[0])
        parts = []
        with double_precision():
            key = jax.random.fold_in(jax.random.key(seed), stream)
            rows, numbers = jax.tree_util.tree_map(jnp.asarray, (rows, numbers))
            width = min(BATCH, n)
            for start in range(0, n, width):
                order = np.arange(start, start + width)
                some = jax.tree_util.tree_map(lambda x: x[np.minimum(order, n - 1)], params)  # noqa: B023
                parts.append(np.asarray(self._drawn(some, rows, numbers, order, key)))
        u = np.concatenate(parts)[:n]
        leaves, start = [], 0
        for parameter in self.space.parameters:
            cut = u[..., start : start + parameter.size]
            leaves.append(cut.reshape(*u.shape[:2], *parameter.shape))
            start += parameter.size
        return jax.tree_util.tree_unflatten(self.space.structure, leaves)

    @functools.cached_property
    def _drawn(self) -> Any:
        draw = _by_inversion if self.k == 1 else _by_resampling

        def one(params: PyTree, rows: PyTree, numbers: Any, order: Any, key: Any) -> Any:
            log_p = self._of(params, rows)
            mode, factor = modes_of(log_p, self._starts(rows))
            own = jax.vmap(lambda i: jax.random.fold_in(jax.random.fold_in(key, i), order))
            return draw(log_p, mode, factor, own(numbers))

        return jax.jit(jax.vmap(one, (0, None, None, 0, None)))

    # ---- checks ----

    def check(self, params: PyTree, rows: PyTree) -> None:
        """Refuse a density that is not one number a row, or mixes rows.

        Raises
        ------
        ValueError
            If it raises, returns another shape than (n,), or another value for a row alone than
            among others.
        """
        n = len(jax.tree_util.tree_leaves(rows)[0])
        u = jnp.asarray(self.start + 0.1 * np.random.default_rng(0).standard_normal((n, self.k)))
        local = jax.vmap(self.space.unflatten)(u)
        self._check_shape(params, local, rows)

        def alone(local: PyTree, row: PyTree) -> Any:
            one = jax.tree_util.tree_map(lambda x: x[None], (local, row))
            return self.joint(params, *one)[0]

        together = np.asarray(jax.jit(self.joint)(params, local, rows), np.float64)
        single = np.asarray(jax.jit(jax.vmap(alone))(local, rows), np.float64)
        wrong = np.flatnonzero(np.abs(together - single) > AGREE * (1 + np.abs(together)))
        if len(wrong):
            row = wrong[0]
            raise ValueError(
                coded(
                    "E524",
                    f"log_likelihood mixes rows: row {row:,} has {single[row]:.6g} alone and "
                    f"{together[row]:.6g} among {n} rows. The value of a row may depend on that "
                    "row and its own local variables only",
                )
            )

    def _check_shape(self, params: PyTree, local: PyTree, rows: PyTree) -> None:
        """Refuse what is not one real number a row, whether there are many or one."""
        for n in (len(jax.tree_util.tree_leaves(rows)[0]), 1):
            some = jax.tree_util.tree_map(lambda x: x[:n], (local, rows))  # noqa: B023
            try:
                value = jax.eval_shape(self.joint, params, *some)
            except Exception as error:  # whatever the user's own code raises
                shapes = jax.tree_util.tree_map(jnp.shape, some)
                raise ValueError(
                    coded(
                        "E520",
                        f"log_likelihood raised {type(error).__name__}: {error}\nwhen called as "
                        f"log_likelihood(params, local, rows), with local of shapes {shapes[0]} "
                        f"and rows of shapes {shapes[1]}. Their first axis is the rows, of any "
                        "number",
                    )
                ) from error
            if getattr(value, "shape", None) != (n,):
                raise ValueError(
                    coded(
                        "E521",
                        "with local variables log_likelihood must return one number a row: given "
                        f"{n} rows it returned shape {getattr(value, 'shape', value)}, expected "
                        f"({n},). Sum over what is inside a row, not over the rows",
                    )
                )


def _quadrature(
    rule: Rule,
    log_p: LogP,
    fixed: LogP,
    mode: Float[Array, "n k"],
    factor: Float[Array, "n k k"],
) -> Float[Array, " n"]:
    """log ∫ exp(log_p) by a rule around each mode, nodes held fixed.

    A node that weighs nothing is put on the mode, as the gradient of log 0 is no number. Which ones
    they are is seen by `fixed`, the same function of constants.
    """
    log_w = jnp.asarray(rule.log_w)[:, None]
    u = mode + _spread(factor, jnp.asarray(rule.t)[:, None])
    weights = jax.vmap(fixed)(u) + log_w
    nothing = weights < weights.max(axis=0) - NOTHING
    values = jax.vmap(log_p)(jnp.where(nothing[:, :, None], mode, u)) + log_w
    values = jnp.where(nothing, -jnp.inf, values)
    return jax.nn.logsumexp(values, axis=0) - _half_log_det(factor)


def _laplace(log_p: LogP, mode: Float[Array, "n k"]) -> Float[Array, " n"]:
    """log ∫ exp(log_p) by the curvature at modes that move with the parameters.

    Newton steps from fixed modes have their derivatives: one the first, two the second.
    """
    for _ in range(2):
        _, slope, curvature = looked(log_p, mode)
        mode = mode + solved(factors(curvature, jnp.zeros(len(mode))), slope)
    value, _, curvature = looked(log_p, mode)
    constant = 0.5 * mode.shape[1] * math.log(2 * math.pi)
    return value + constant - _half_log_det(factors(curvature, jnp.zeros(len(mode))))


def _spread(factor: Float[Array, "n k k"], t: Float[Array, "... n k"]) -> Any:
    """Points in sds as offsets from the modes; `t` may have one row for all."""
    over_rows = jax.vmap(backward)
    return jax.vmap(lambda t: over_rows(factor, jnp.broadcast_to(t, factor.shape[:2])))(t)


def _half_log_det(factor: Float[Array, "n k k"]) -> Float[Array, " n"]:
    return jnp.log(jnp.diagonal(factor, axis1=1, axis2=2)).sum(axis=1)


def _by_inversion(log_p: LogP, mode: Any, factor: Any, keys: Any) -> Float[Array, "n 1"]:
    """A draw of one variable a row: the inverse of its distribution function on a grid of t."""
    end = BEND * SPACING * (NODES - 1) / 2
    s = np.linspace(-end, end, GRID + 1)
    offsets = _spread(factor, jnp.asarray(np.sinh(s) / BEND)[:, None, None])
    values = jax.vmap(log_p)(mode + offsets) + np.log(np.cosh(s))[:, None]
    values = jnp.where(jnp.isnan(values), -jnp.inf, values)
    p = jnp.exp(values - values.max(axis=0))
    place = s[0] + (s[1] - s[0]) * jax.vmap(_inverted, (1, 0))(p, keys)
    return mode + (jnp.sinh(place) / BEND)[:, None] / factor[:, 0]


def _inverted(p: Float[Array, " g"], key: Any) -> Float[Array, ""]:
    """A draw, in cells, from the density that is linear between these values."""
    mass = jnp.concatenate([jnp.zeros(1), jnp.cumsum(0.5 * (p[1:] + p[:-1]))])
    aim = jax.random.uniform(key, dtype=jnp.float64) * mass[-1]
    cell = jnp.clip(jnp.searchsorted(mass, aim, side="right") - 1, 0, len(p) - 2)
    rest = aim - mass[cell]
    root = jnp.sqrt(jnp.maximum(p[cell] ** 2 + 2 * (p[cell + 1] - p[cell]) * rest, 0.0))
    return cell + jnp.clip(2 * rest / jnp.maximum(p[cell] + root, TINY), 0.0, 1.0)


def _by_resampling(log_p: LogP, mode: Any, factor: Any, keys: Any) -> Float[Array, "n k"]:
    """A draw of several variables a row by iterated resampling.

    Each round holds the last draw against fresh proposals and picks one by its weight, which leaves
    the conditional as it is for any number of them (Andrieu, Doucet & Holenstein 2010).
    """
    n, k = mode.shape
    widths = jnp.asarray(WIDTHS)

    def log_w(eps: Any) -> Any:
        """Of a proposal a row, in sds of the curvature."""
        square = (eps**2).sum(axis=1)[:, None] / widths**2
        log_q = jax.nn.logsumexp(-0.5 * square - k * jnp.log(widths), axis=1)
        value = log_p(mode + _spread(factor, eps[None])[0]) - log_q
        return jnp.where(jnp.isnan(value), -jnp.inf, value)

    def noise(key: Any) -> Any:
        """Proposals of all rounds, and what picks one of them."""
        of_width, of_normal, of_choice = jax.random.split(key, 3)
        width = widths[jax.random.randint(of_width, (ROUNDS, PROPOSALS, 1), 0, len(WIDTHS))]
        normal = jax.random.normal(of_normal, (ROUNDS, PROPOSALS, k), jnp.float64)
        return width * normal, jax.random.gumbel(of_choice, (ROUNDS, PROPOSALS + 1), jnp.float64)

    def one_round(held: Any, given: Any) -> Any:
        fresh, gumbel = given
        eps = jnp.concatenate([held[0][None], fresh])
        weights = jnp.concatenate([held[1][None], jax.vmap(log_w)(fresh)])
        pick = jnp.argmax(weights + gumbel, axis=0)
        return (eps[pick, np.arange(n)], weights[pick, np.arange(n)]), None

    first = jnp.zeros((n, k)), jnp.full(n, -jnp.inf)
    proposals, gumbel = jax.vmap(noise, out_axes=2)(keys)
    (eps, _), _ = jax.lax.scan(one_round, first, (proposals, gumbel))
    return mode + _spread(factor, eps[None])[0]
