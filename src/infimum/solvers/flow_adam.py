"""Adam in rounds, for flows: each round is twice as long as the last, and its rate falls to zero.

The gradient sticks the landing (Roeder, Wu & Duvenaud 2017): log q is differentiated through the
draw only, so that its variance vanishes as q nears p*. A flow on whitened draws has a natural
scale, so that one step size is enough, but the number of steps is not known beforehand. A round
ends at rate zero (a cosine: Loshchilov & Hutter 2017), where draws that nothing was trained on
judge it. Rounds go on while they gain.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from infimum.base.program import Structure, differentiable, double_precision
from infimum.checks import weights
from infimum.families._distribution import Apart, Distribution, Layered
from infimum.objective.loss import outcome
from infimum.solvers._optimiser import adam, guarded_step
from infimum.solvers._solver import Info, Reason, Solver, State
from infimum.target.target import Target

FIRST_RATE = 0.01
"""Adam's step size at the start of a round. On Poisson Gaussian-process regression 1,000 steps of
0.003, 0.01 and 0.03 left 0.34, 0.11 and 0.14 nats; on centred eight schools 0.07, 0.06, 0.06."""

BATCH = 128
"""Draws a step. On that regression 3,000 steps of 128 left 0.046 nats, 1,000 of 512 left 0.059 at
more cost."""

CHUNK_STEPS = 250
"""Steps in one call of the compiled loop: Ctrl-C and progress wait for its end."""

CHUNK_NUMBERS = 2**22
"""Most numbers among the base draws of a chunk (32 MB); in many dimensions chunks are shorter."""

FIRST_STEPS = 500
"""Steps of the first round."""

LOOK_DRAWS = 1024
"""Draws that judge the rounds of a fit; no round is trained on them."""

LOOK_NUMBERS = 2**23
"""Most numbers in these draws (64 MB): in many dimensions there are fewer draws."""

NEAR_NATS = 0.01
"""Nats of KL, with two standard errors, at which rounds end: a fifth of a climb's tolerance."""


@dataclass(kw_only=True)
class FlowAdamState(State):
    """A start; `q` is the best end of a round.

    Attributes
    ----------
    current, memory
        The iterate within a round, and Adam's state.
    look, log_w
        Base draws that judge rounds, shape (n, d), and log p̂ - log q at those of the best, (n,).
    length, done
        Steps of this round, and how many of them have been taken.
    """

    q: Layered
    current: Layered
    memory: Any
    rng: np.random.Generator
    look: np.ndarray
    log_w: np.ndarray | None = None
    length: int = FIRST_STEPS
    done: int = 0


@dataclass(frozen=True)
class FlowAdam(Solver):
    """Adam on sticking-the-landing gradients of a flow.

    Requires: a gradient of log p̂; a q that is a flow on a fitted base.

    Parameters
    ----------
    max_steps
        Limit of chunks of 250 steps.
    tolerance
        Nats that a round must gain, besides two standard errors, for another to follow.
    """

    order: ClassVar[int] = 4
    max_steps: int = 60
    tolerance: float = 0.005

    def accepts(self, q: Distribution) -> bool:
        """Whether q is a flow on a base."""
        return isinstance(q, Layered)

    def init(self, q: Layered, info: Info, rng: np.random.Generator) -> FlowAdamState:
        """Make the draws that judge q."""
        look = rng.standard_normal((max(2, min(LOOK_DRAWS, LOOK_NUMBERS // q.dim)), q.dim))
        with double_precision():
            memory = adam().init(q.moving())
        return FlowAdamState(q=q, info=info, current=q, memory=memory, rng=rng, look=look)

    def grow(self, state: FlowAdamState) -> bool:
        """Never: every draw is new already."""
        return False

    def step(self, states: list[FlowAdamState], target: Target) -> None:
        """A chunk of steps for each start; at the end of a round, a look."""
        for state in states:
            if state.log_w is None:
                self._judge(state, target)
            if state.reason is None:
                self._chunk(state, target)
                state.steps += 1
                if state.done >= state.length or state.steps >= self.max_steps:
                    self._judge(state, target)

    def _chunk(self, state: FlowAdamState, target: Target) -> None:
        dim = state.q.dim
        size = max(1, min(CHUNK_STEPS, CHUNK_NUMBERS // (BATCH * dim)))
        half = state.rng.standard_normal((size, BATCH // 2, dim))
        eps = np.concatenate([half, -half], axis=1)
        phase = (state.done + np.arange(size)) / state.length
        rates = np.where(
            phase < 1, 0.5 * FIRST_RATE * (1 + np.cos(np.pi * np.minimum(phase, 1))), 0.0
        )
        q, memory = state.current, state.memory
        if isinstance(q, Apart):
            f, state.memory, n_undone, first = _run_apart(q, memory, target, eps, rates)
        else:
            f, state.memory, n_undone, first = _run_together(q, memory, target, eps, rates)
        state.current = state.current.moved(jax.tree_util.tree_map(np.asarray, f))
        state.done += size
        state.info.n_steps += 1
        state.info.n_gradients += size * BATCH
        if int(n_undone):
            state.info.n_undefined += int(n_undone)
            if state.info.first_undefined is None:
                state.info.first_undefined = np.asarray(first)

    def _judge(self, state: FlowAdamState, target: Target) -> None:
        """Keep the end of a round if it is better; go on with a longer one, or end."""
        q = state.current
        log_q, z = q.log_prob_base(state.look), q.push(state.look)
        log_p = target.values(z)
        result = outcome(log_q, log_p)
        state.info.count(z, result)
        first, before = state.log_w is None, state.loss
        gain = 0.0 if first else _gain(state.log_w, log_p - log_q)
        if first or result.loss < before:
            state.q, state.loss, state.log_w = q, result.loss, log_p - log_q
            state.record(max(gain, 0.0))
        if not np.isfinite(state.loss):
            state.reason = Reason.LOST
        elif _near(state.log_w):
            state.reason = Reason.CONVERGED
        elif state.steps >= self.max_steps:
            state.reason = Reason.STEPS
        elif not (first or gain > self.tolerance):
            state.reason = Reason.CONVERGED
        state.length, state.done = state.length if first else 2 * state.length, 0
        state.current = state.q


def _near(log_w: Any) -> bool:
    distance = weights.kl(log_w)
    return distance.value + 2 * distance.se <= NEAR_NATS


def _gain(before: Any, after: np.ndarray) -> float:
    """Nats gained, less two standard errors, over draws where both are known."""
    difference = (after - before)[np.isfinite(before) & np.isfinite(after)]
    if len(difference) < 2:
        return 0.0
    return float(difference.mean() - 2 * difference.std() / np.sqrt(len(difference)))


def _run_together(
    q: Layered, memory: Any, target: Target, draws: np.ndarray, rates: np.ndarray
) -> Any:
    """Take a chunk of steps: f, Adam's state, how many steps were undone, a point of the first."""
    program = target.program

    def compute() -> Any:
        with double_precision():
            chunk = _scanned(program.structure, q, memory, program.constants, draws, rates)
            jax.block_until_ready(chunk)
        target.resume()
        return chunk

    like = (q.moving(), memory, 0, 0)
    kind = f"chunk of {type(q).__name__} on {type(q.base).__name__}"
    return target.recall(kind, lambda: (q, memory, draws, rates), like, compute)


@eqx.filter_jit
def _scanned(
    structure: Structure,
    q: Layered,
    memory: Any,
    constants: list[Any],
    draws: np.ndarray,
    rates: np.ndarray,
) -> Any:
    """The compiled loop of `_run_together`."""
    log_p = jax.vmap(differentiable(structure, constants))

    def loss(leaves: Any, eps: np.ndarray) -> Any:
        z, log_q = _landed(q, leaves, eps)
        return jnp.mean(log_q - log_p(z)), z[0]

    def step(carry: Any, eps_and_rate: tuple[np.ndarray, np.ndarray]) -> Any:
        leaves, memory, n_undone, first = carry
        eps, rate = eps_and_rate
        gradient, z = jax.grad(loss, has_aux=True)(leaves, eps)
        leaves, memory, finite = guarded_step(adam(), leaves, memory, gradient, rate)
        first = jnp.where(finite | (n_undone > 0), first, z)
        return (leaves, memory, n_undone + jnp.where(finite, 0, 1), first), None

    start = (q.moving(), memory, jnp.zeros((), int), jnp.zeros(draws.shape[-1]))
    (leaves, memory, n_undone, first), _ = jax.lax.scan(step, start, (draws, rates))
    return leaves, memory, n_undone, first


def _run_apart(q: Apart, memory: Any, target: Target, draws: np.ndarray, rates: np.ndarray) -> Any:
    """The same with base and target on the host, whose gradient pulls on y, a step at a time."""
    inner, n_undone, first = q.inner(), 0, np.zeros(q.dim)
    leaves: Any = inner.moving()
    for eps, rate in zip(draws, rates, strict=True):
        inside = q.within(eps)
        with double_precision():
            y = np.asarray(_flowed(inner.moved(leaves), inside))
        z = np.asarray(q.base.push(eps + q.across(y - inside)))
        with np.errstate(over="ignore", invalid="ignore"):
            pull = q.within(q.base.whiten(target.value_and_gradient(z)[1]))
        with double_precision():
            leaves, memory, finite = _pulled(inner, leaves, memory, inside, pull, rate)
        if not finite:
            first, n_undone = (first, n_undone + 1) if n_undone else (z[0], 1)
    return leaves, memory, n_undone, first


@eqx.filter_jit
def _flowed(q: Layered, eps: np.ndarray) -> Any:
    return q.flow(eps)


@eqx.filter_jit
def _pulled(
    q: Layered, leaves: Any, memory: Any, eps: np.ndarray, pull: np.ndarray, rate: Array
) -> Any:
    def loss(leaves: Any) -> Any:
        y, log_q = _landed(q, leaves, eps)
        return jnp.mean(log_q - (pull * y).sum(-1))

    return guarded_step(adam(), leaves, memory, jax.grad(loss)(leaves), rate)


def _landed(q: Layered, leaves: Any, eps: np.ndarray) -> tuple[Any, Any]:
    """Draws of q, and log q there; the weights move log q through the draws alone."""
    return q.moved(jax.lax.stop_gradient(leaves)).land(q.moved(leaves).flow(eps))
