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
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from infimum._bijection import Bijection
from infimum._errors import coded
from infimum._program import BATCH, double_precision

Joint = Callable[[PyTree, PyTree, PyTree], Any]
"""(params, local, rows) to log p(x_n, u_n | params) of each row, shape (n,)."""

LogP = Callable[[Any], Any]
"""One point u a row, shape (n, k), to the log densities of these rows, shape (n,)."""

NODES = 25
SPACING = 0.36
BEND = 0.5
"""Of the rule for one variable: nodes, their distance in t, and c. Over 52 Poisson, Bernoulli and
Student-t rows with prior sds from 0.3 to 8 the median error of log ∫ was 1e-10 nats, that of a
Gaussian 8e-12, and 3e-6 the largest but where the conditional has two modes or is flat over ten sds
of its curvature (6e-5, 0.02 at worst). Gauss-Hermite rules of 9, 15 and 25 nodes had 3e-3, 3e-4 and
9e-5 in the same place, and 0.3, 0.1 and 0.02 at worst."""

PRODUCT_NODES = {2: 9, 3: 5}
"""Nodes a variable of the Gauss-Hermite rules for two and three: 81 and 125 in all. Over 20 rows of
five counts with slopes of prior sd 0.74 the errors of log ∫ were 1e-5 nats at most, 9e-7 in the
median, by 9 nodes in two variables; 2e-3 and 3e-5 by 5 in three. With sd 1.65 they were 4e-4 and
5e-6, 8e-3 and 8e-4. One node, which is Laplace's approximation, had 1e-2 to 7e-2."""

MOST = 20
"""Local variables that a row may have: each adds a gradient to every look at a row's curvature, and
to the error of Laplace's approximation."""

NOTHING = 60.0
"""Nats below the heaviest node from where a node is left out: e⁻⁶⁰ is lost in rounding."""

STEPS = 60
"""Newton steps at most. Rows with a million counts, or a Student-t far from its prior, took 4 to
19 from zero, and 34 from where exp(u) is e³⁰, as each step there goes down by one."""

NEAR = 1e-9
"""Squared distance from the mode, in conditional sds, from where one more step ends the search: it
leaves an error of this order."""

UNROLLED = 3
"""Variables up to which triangular factors are written out in the compiled program, where many rows
at once are plain arithmetic: LAPACK is called for each row, but compiles in no time."""

FLOOR = 1e-10
"""Least pivot of a curvature, relative to its largest entry: what is flatter has no scale."""

DAMPING = 0.25
DAMPING_FACTOR = 8.0
NO_DAMPING = 0.01
"""Relative damping after the first step that leads down, and its growth after each more; it falls
by the same factor after steps that lead up, and ends below the last."""

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

TINY = 1e-300
"""In the place of a density of zero where one divides by it."""


class Rule(NamedTuple):
    """Points t and weights with ∫ f(u) du ≈ |S| Σ_j exp(log_w_j) f(m + S t_j).

    Attributes
    ----------
    t
        Points in sds of the conditional, shape (j, k).
    log_w
        Shape (j,).
    name
        What to call it in print.
    """

    t: np.ndarray
    log_w: np.ndarray
    name: str


def rule_for(k: int) -> Rule:
    """The rule for k local variables."""
    if k == 1:
        return _trapezoid(NODES, SPACING, BEND)
    if k in PRODUCT_NODES:
        return _product(k, PRODUCT_NODES[k])
    return Rule(np.zeros((1, k)), np.full(1, 0.5 * k * math.log(2 * math.pi)), "Laplace")


def _trapezoid(n: int, spacing: float, bend: float) -> Rule:
    """Equal steps in t of u = sinh(c t)/c."""
    s = bend * spacing * (np.arange(n) - (n - 1) / 2)
    log_w = math.log(spacing) + np.log(np.cosh(s))
    return Rule((np.sinh(s) / bend)[:, None], log_w, f"a trapezoidal rule of {n} nodes")


def _product(k: int, n: int) -> Rule:
    """Every combination of Gauss-Hermite nodes."""
    t, w = np.polynomial.hermite_e.hermegauss(n)
    points = np.stack(np.meshgrid(*[t] * k, indexing="ij"), axis=-1).reshape(-1, k)
    each = np.log(w) + 0.5 * t**2
    log_w = np.sum(np.meshgrid(*[each] * k, indexing="ij"), axis=0).ravel()
    return Rule(points, log_w, f"Gauss-Hermite rules of {n} nodes a variable")


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

    def told(self) -> str:
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


# ---- integrals -----------------------------------------------------------------------------------


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
        _, slope, curvature = _looked(log_p, mode)
        mode = mode + solved(_factors(curvature, jnp.zeros(len(mode))), slope)
    value, _, curvature = _looked(log_p, mode)
    constant = 0.5 * mode.shape[1] * math.log(2 * math.pi)
    return value + constant - _half_log_det(_factors(curvature, jnp.zeros(len(mode))))


class _Search(NamedTuple):
    """Where Newton's method is in each row: a point, what is there, and the next step's damping."""

    u: Any
    value: Any
    slope: Any
    curvature: Any
    damping: Any
    done: Any


def modes_of(
    log_p: LogP, start: Float[Array, "n k"]
) -> tuple[Float[Array, "n k"], Float[Array, "n k k"]]:
    """Modes of log densities, a row each, and the factors L of -∇² = L Lᵀ there.

    Newton's method, damped after each step that leads down (Levenberg 1944; Marquardt 1963). A
    curvature that is not positive definite has its pivots made so, which leads upwards all the
    same and leaves a finite scale.
    """

    def step(state: tuple[_Search, Any]) -> tuple[_Search, Any]:
        now, count = state
        move = solved(_factors(now.curvature, now.damping), now.slope)
        near = ((now.slope * move).sum(axis=1) < NEAR) & (count > 0)
        value, slope, curvature = _looked(log_p, now.u + move)
        better = ((value > now.value) | (near & jnp.isfinite(value))) & ~now.done
        less = jnp.where(now.damping > NO_DAMPING, now.damping / DAMPING_FACTOR, 0.0)
        more = jnp.maximum(DAMPING, DAMPING_FACTOR * now.damping)
        taken = _Search(now.u + move, value, slope, curvature, less, near)
        left = now._replace(damping=more, done=now.done | near)
        return _chosen(better, taken, left), count + 1

    def goes_on(state: tuple[_Search, Any]) -> Any:
        return ~state[0].done.all() & (state[1] < STEPS)

    n, k = start.shape
    nothing = jnp.full(n, -jnp.inf), jnp.zeros((n, k)), jnp.zeros((n, k, k))
    first = _Search(start, *nothing, jnp.zeros(n), jnp.zeros(n, bool))  # its step goes nowhere
    last, _ = jax.lax.while_loop(goes_on, step, (first, jnp.zeros((), jnp.int32)))
    return last.u, _factors(last.curvature, jnp.zeros(n))


def _chosen(rows: Any, these: _Search, those: _Search) -> _Search:
    """`these` in some rows, `those` in the others."""

    def one(a: Any, b: Any) -> Any:
        return jnp.where(rows.reshape(-1, *[1] * (a.ndim - 1)), a, b)

    return jax.tree_util.tree_map(one, these, those)


def _looked(log_p: LogP, u: Float[Array, "n k"]) -> tuple[Any, Any, Any]:
    """Value (n,), slope (n, k) and negative curvature (n, k, k); rows have nothing in common."""

    def sloped(u: Any) -> Any:
        value, pull = jax.vjp(log_p, u)
        return pull(jnp.ones_like(value))[0], value

    slope, push, value = jax.linearize(sloped, u, has_aux=True)
    each = jnp.broadcast_to(jnp.eye(u.shape[1])[:, None], (u.shape[1], *u.shape))
    return value, slope, -jnp.moveaxis(jax.vmap(push)(each), 0, 2)


# ---- triangular factors --------------------------------------------------------------------------


def factored(a: Float[Array, "k k"], damping: Any = 0.0) -> Float[Array, "k k"]:
    """The factor L of a = L Lᵀ; of a positive matrix of that size where a is not positive definite.

    The damping is added to the diagonal, in units of the largest entry.
    """
    scale = jnp.abs(a).max()
    scale = jax.lax.stop_gradient(jnp.where(scale > 0, scale, 1.0))
    return (_unrolled if len(a) <= UNROLLED else _library)(a, scale, damping)


def _unrolled(a: Any, scale: Any, damping: Any) -> Any:
    """Column by column; pivots are taken by their size."""
    columns = []
    for j in range(len(a)):
        pivot = jnp.maximum(jnp.abs(a[j, j]), FLOOR * scale) + damping * scale
        column = jnp.where(np.arange(len(a)) > j, a[:, j], 0.0) / jnp.sqrt(pivot)
        a = a - column[:, None] * column
        columns.append(column + jnp.sqrt(pivot) * (np.arange(len(a)) == j))
    return jnp.stack(columns, axis=1)


def _library(a: Any, scale: Any, damping: Any) -> Any:
    """By LAPACK; what is not positive definite has a diagonal of its absolute row sums instead."""
    eye = jnp.eye(len(a))
    positive = jnp.isfinite(jnp.linalg.cholesky(jax.lax.stop_gradient(a))).all()
    instead = jnp.diag(jnp.maximum(jnp.abs(a).sum(axis=1), FLOOR * scale))
    return jnp.linalg.cholesky(jnp.where(positive, a, instead) + damping * scale * eye)


def backward(factor: Float[Array, "k k"], b: Float[Array, " k"]) -> Float[Array, " k"]:
    """x of Lᵀ x = b."""
    if len(b) > UNROLLED:
        return jax.scipy.linalg.solve_triangular(factor, b, trans=1, lower=True)
    x: dict[int, Any] = {}
    for j in reversed(range(len(b))):
        x[j] = (b[j] - sum(factor[i, j] * x[i] for i in x)) / factor[j, j]
    return jnp.stack([x[j] for j in range(len(b))])


@jax.vmap
def solved(factor: Float[Array, "k k"], b: Float[Array, " k"]) -> Float[Array, " k"]:
    """x of L Lᵀ x = b in each row."""
    if len(b) > UNROLLED:
        forward = jax.scipy.linalg.solve_triangular(factor, b, lower=True)
        return backward(factor, forward)
    x: list[Any] = []
    for j in range(len(b)):
        x.append((b[j] - sum(factor[j, i] * x[i] for i in range(j))) / factor[j, j])
    return backward(factor, jnp.stack(x))


_factors = jax.vmap(factored)


def _spread(factor: Float[Array, "n k k"], t: Float[Array, "... n k"]) -> Any:
    """Points in sds as offsets from the modes; `t` may have one row for all."""
    over_rows = jax.vmap(backward)
    return jax.vmap(lambda t: over_rows(factor, jnp.broadcast_to(t, factor.shape[:2])))(t)


def _half_log_det(factor: Float[Array, "n k k"]) -> Float[Array, " n"]:
    return jnp.log(jnp.diagonal(factor, axis1=1, axis2=2)).sum(axis=1)


# ---- draws ---------------------------------------------------------------------------------------


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
