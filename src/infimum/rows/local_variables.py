"""Local variables of rows, integrated out of the likelihood of each row.

Given the parameters that all rows share, the local variables of different rows are independent, so
the likelihood of a row is log ∫ p(x_n, u | params) du, an integral of few dimensions. It is done
around the mode of its own integrand, where the curvature gives the scale (Naylor & Smith 1982; Liu
& Pierce 1994):

- one variable: the trapezoidal rule after u = mode + sd sinh(c t)/c, whose nodes reach further into
  the tails than those of Gauss and Hermite (Takahasi & Mori 1974);
- two or three: the product of Gauss-Hermite rules, exact for a Gaussian times a polynomial;
- more: Laplace's approximation (Tierney & Kadane 1986).

The nodes of a rule stay where they are when JAX differentiates: the gradient is the average of the
integrand's own gradient over the conditional of u, by the same rule, and so is the curvature.
Laplace's single node moves with the parameters, and its derivatives are the exact ones of the
approximation.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from infimum.base.errors import coded_error
from infimum.base.program import double_precision
from infimum.rows.blocks import length
from infimum.rows.factors import factorise, half_log_det, solve, spread
from infimum.rows.modes import LogP, derivatives, modes_of
from infimum.rows.quadrature import Rule, rule_for
from infimum.target.bijection import Bijection

JointDensity = Callable[[PyTree, PyTree, PyTree], Any]
"""(params, local, rows) to log p(x_n, u_n | params) of each row, shape (n,)."""

MOST_VARIABLES = 20
"""Local variables that a row may have: each adds a gradient to every curvature of a row, and adds
to the error of Laplace's approximation."""

NEGLIGIBLE_NATS = 60.0
"""Nats below the heaviest node from which a node is left out: e⁻⁶⁰ is lost in rounding."""


class LocalVariables:
    """The local variables of a row, and the likelihood of rows without them.

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
    start
        The example side by side, shape (k,).
    rule
        How they are integrated.

    Raises
    ------
    TypeError, ValueError
        If the example holds no floating-point numbers, or more than `MOST_VARIABLES`.
    """

    def __init__(self, example: PyTree, joint: JointDensity) -> None:
        try:
            with double_precision():
                self.space = Bijection(example)
        except (TypeError, ValueError) as error:
            raise coded_error(type(error), "E530", f"local: {error}") from None
        self.joint, self.k = joint, self.space.dim
        if self.k > MOST_VARIABLES:
            raise coded_error(
                ValueError,
                "E530",
                f"local has {self.k} variables a row, at most {MOST_VARIABLES} can be "
                "integrated: make rows smaller, or put variables that rows share among the "
                "parameters",
            )
        leaves = jax.tree_util.tree_leaves(example)
        self.start = np.concatenate([np.ravel(np.asarray(x, np.float64)) for x in leaves])
        self.rule = rule_for(self.k)

    @property
    def laplace(self) -> bool:
        """Whether integrals are Laplace's approximation, which has a single node."""
        return len(self.rule.t) == 1

    def description(self) -> str:
        """How many variables a row has and how they are integrated, in words."""
        how = "Laplace's approximation, not exact," if self.laplace else self.rule.name
        return f"{self.k} local variable{'s' * (self.k > 1)} a row integrated by {how}".rstrip(",")

    def log_likelihood(self, params: PyTree, rows: PyTree) -> Float[Array, ""]:
        """Σ_n log ∫ p(x_n, u | params) du in nats, traceable by JAX."""
        return self.row_likelihoods(params, rows).sum()

    def row_likelihoods(self, params: PyTree, rows: PyTree) -> Float[Array, " n"]:
        """log ∫ p(x_n, u | params) du of each row in nats, traceable by JAX."""
        fixed = self.integrand(*jax.lax.stop_gradient((params, rows)))
        mode, factor = jax.lax.stop_gradient(self.modes(fixed, rows))
        log_p = self.integrand(params, rows)
        if self.laplace:
            return _laplace(log_p, mode)
        return _quadrature(self.rule, log_p, fixed, mode, factor)

    def integrand(self, params: PyTree, rows: PyTree) -> LogP:
        """log p(x_n, u_n | params) of each row as a function of u (n, k)."""

        def log_p(u: Array) -> Array:
            value = self.joint(params, jax.vmap(self.space.unflatten)(u), rows)
            return jnp.asarray(value, jnp.float64)

        return log_p

    def modes(
        self, integrand: LogP, rows: PyTree
    ) -> tuple[Float[Array, "n k"], Float[Array, "n k k"]]:
        """The mode of each row's integrand, and the factor of its negative curvature."""
        start = jnp.broadcast_to(jnp.asarray(self.start), (length(rows), self.k))
        return modes_of(integrand, start)


def _quadrature(
    rule: Rule,
    log_p: LogP,
    fixed: LogP,
    mode: Float[Array, "n k"],
    factor: Float[Array, "n k k"],
) -> Float[Array, " n"]:
    """log ∫ exp(log_p) by a rule around each mode, nodes held fixed.

    A node of negligible weight is put on the mode, because the gradient of log 0 is not a number.

    Parameters
    ----------
    fixed
        The same function of constants, which tells the weights of the nodes.
    """
    log_w = jnp.asarray(rule.log_w)[:, None]
    u = mode + spread(factor, jnp.asarray(rule.t)[:, None])
    weights = jax.vmap(fixed)(u) + log_w
    negligible = weights < weights.max(axis=0) - NEGLIGIBLE_NATS
    values = jax.vmap(log_p)(jnp.where(negligible[:, :, None], mode, u)) + log_w
    values = jnp.where(negligible, -jnp.inf, values)
    return jax.nn.logsumexp(values, axis=0) - half_log_det(factor)


def _laplace(log_p: LogP, mode: Float[Array, "n k"]) -> Float[Array, " n"]:
    """log ∫ exp(log_p) by the curvature at modes that move with the parameters.

    JAX sees fixed modes. Newton steps from there do not move them, but have the derivatives that
    the modes have: one step has their first derivative, two steps their second one too.
    """
    for _ in range(2):
        _, slope, curvature = derivatives(log_p, mode)
        mode = mode + solve(factorise(curvature, jnp.zeros(len(mode))), slope)
    value, _, curvature = derivatives(log_p, mode)
    constant = 0.5 * mode.shape[1] * math.log(2 * math.pi)
    return value + constant - half_log_det(factorise(curvature, jnp.zeros(len(mode))))
