"""Densities outside JAX: called in batches, guarded, checked, and bridged into compiled loops.

A `Foreign` is log p̂ of the unconstrained z as other code evaluates it: PyMC, Stan, PyTorch, a
user's own. Solvers on the host call it as they call a compiled `Program`; a loop inside the
compiler gets it as a `Program` too, whose one callback returns value and gradient together.
"""

from __future__ import annotations

import copy
import functools
import itertools
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from infimum._bijection import Bijection
from infimum._errors import coded
from infimum._program import WIDE, Program

Batched = Callable[[np.ndarray], tuple[Any, Any]]
"""(n, k) points to log p̂, shape (n,), and its gradient, shape (n, k)."""

See = Callable[[Batched, np.ndarray], tuple[Any, Any]]
"""What stands between such code and who calls it."""


@dataclass
class Failures:
    """Evaluations that raised an error.

    Attributes
    ----------
    count
        How many points.
    first
        What the first of them said.
    meaning
        What such a point counts as.
    """

    count: int = 0
    first: str | None = None
    meaning: str = "undefined"

    def clear(self) -> None:
        """Forget them: what came before the work."""
        self.count, self.first = 0, None

    def note(self, error: Exception) -> None:
        """Book one point."""
        self.add(1, f"{type(error).__name__}: {error}".strip().rstrip(":"))

    def add(self, count: int, first: str | None) -> None:
        """Book points that came after those of before."""
        self.count += count
        self.first = self.first or first


class Guarded:
    """Foreign code that may raise: a point that fails does not spoil its batch.

    Parameters
    ----------
    function
        Value and gradient, shapes (n,) and (n, k), of a batch of points; None where there is no
        gradient.
    dim
        k, the length of a point.
    value
        Value alone of a batch, where that is cheaper.
    failed
        What log p̂ counts as at a point that raises: NaN, or -inf where an error means zero
        density.
    failures
        Where errors are booked.
    fatal
        Errors that are not those of a point, which end the work.
    pointwise
        How many points are evaluated at once, where each is by itself whatever others are in its
        batch; 0 where the code takes batches.
    """

    def __init__(
        self,
        function: Batched | None,
        dim: int,
        value: Callable[[np.ndarray], Any] | None = None,
        *,
        failed: float = np.nan,
        failures: Failures | None = None,
        fatal: tuple[type[BaseException], ...] = (),
        pointwise: int = 0,
    ) -> None:
        self.function = function
        self.value = value
        self.dim = dim
        self.failed = failed
        self.fatal: tuple[type[BaseException], ...] = (KeyboardInterrupt, *fatal)
        self.failures = failures or Failures()
        self.failures.meaning = "zero density" if failed == -np.inf else "undefined"
        self.ended: BaseException | None = None
        self.pointwise = pointwise
        self._see: See | None = None

    @classmethod
    def of_points(
        cls,
        function: Callable[[np.ndarray], Any] | None,
        dim: int,
        value: Callable[[np.ndarray], Any] | None = None,
        *,
        failed: float = np.nan,
        threads: int = 1,
    ) -> Guarded:
        """Code that takes one point at a time.

        Parameters
        ----------
        function, value
            Of one point: (log p̂, gradient), and log p̂ alone.
        threads
            How many points to evaluate at once, where the code lets go of Python's lock.
        """
        failures = Failures()
        points = _Points(dim, failed, failures, threads)
        return cls(
            None if function is None else lambda x: points.pairs(function, x),
            dim,
            None if value is None else lambda x: points.values(value, x),
            failed=failed,
            failures=failures,
            pointwise=threads,
        )

    def reordered(self, order: np.ndarray) -> Guarded:
        """The same code of z, whose coordinate i is coordinate order[i] of the code's own."""
        if np.array_equal(order, np.arange(self.dim)):
            return self
        back = np.argsort(order)
        function, value = self.function, self.value

        def pair(z: np.ndarray) -> tuple[Any, Any]:
            assert function is not None
            log_p, gradient = function(np.take(z, back, axis=1))
            return log_p, np.take(gradient, order, axis=1)

        return Guarded(
            None if function is None else pair,
            self.dim,
            None if value is None else lambda z: value(np.take(z, back, axis=1)),
            failed=self.failed,
            failures=self.failures,
            pointwise=self.pointwise,
        )

    def through(self, see: See) -> Guarded:
        """The same code, whose answers to a compiled loop pass through `see`."""
        seen = copy.copy(self)
        seen._see = see
        return seen

    def __call__(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Value and gradient at each row of x (n, k); rows that raise are told apart."""
        function = self.function
        if function is None:
            raise TypeError(
                coded("E110", "this density has no gradient: take target.values, or give it one")
            )
        lost = np.full(1, self.failed), np.full((1, self.dim), np.nan)
        log_p, gradient = self._spared(function, x, lost)
        return np.asarray(log_p, np.float64), np.asarray(gradient, np.float64)

    def values(self, x: np.ndarray) -> np.ndarray:
        """log p̂ at each row."""
        value = self.value
        if value is None:
            return self(x)[0]
        alone = self._spared(
            lambda x: (np.asarray(value(x), np.float64),), x, (np.full(1, self.failed),)
        )
        log_p: np.ndarray = alone[0]
        return log_p

    def _spared(
        self,
        evaluate: Callable[[np.ndarray], tuple[Any, ...]],
        x: np.ndarray,
        lost: tuple[Any, ...],
    ) -> tuple[Any, ...]:
        """Evaluate a batch; if it raises, its halves, down to the rows that are `lost`."""
        try:
            return evaluate(x)
        except Exception as error:  # whatever the user's own code raises
            if isinstance(error, self.fatal):
                raise
            if len(x) == 1:
                self.failures.note(error)
                return lost
            halves = [self._spared(evaluate, part, lost) for part in np.array_split(x, 2)]
            return tuple(map(np.concatenate, zip(*halves, strict=True)))

    def from_bits(self, bits: Any) -> np.ndarray:
        """As a compiled loop calls it: Ctrl-C is kept, and the loop runs through NaN to its end.

        Numbers come and go as the bits of float64, in pairs of integers: the loop may call from a
        thread of its own, where JAX would round them to its default precision. What is fatal is
        kept as well.

        Parameters
        ----------
        bits
            Of x, shape (..., k, 2).

        Returns
        -------
        Bits of value and gradient side by side, shape (..., k + 1, 2).
        """
        x = np.ascontiguousarray(bits).view(np.float64).reshape(-1, self.dim)
        answer = np.full((len(x), self.dim + 1), np.nan)
        if self.ended is None:
            try:
                found = self(x) if self._see is None else self._see(self, x)
                answer[:, 0], answer[:, 1:] = found
            except self.fatal as error:
                self.ended = error
        return answer.view(np.uint32).reshape(*np.shape(bits)[:-2], self.dim + 1, 2)

    def resume(self) -> None:
        """Raise what a compiled loop has kept."""
        if self.ended is not None:
            error, self.ended = self.ended, None
            raise error


class _Points:
    """Code of one point over the rows of a batch, several rows at once if it allows."""

    def __init__(self, dim: int, failed: float, failures: Failures, threads: int) -> None:
        self.dim = dim
        self.failed = failed
        self.failures = failures
        self.threads = threads

    @functools.cached_property
    def _pool(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(self.threads, thread_name_prefix="infimum")

    def pairs(self, function: Callable[[np.ndarray], Any], x: np.ndarray) -> Any:
        """Value and gradient at each row."""
        log_p, gradient = np.full(len(x), self.failed), np.full((len(x), self.dim), np.nan)

        def one(i: int) -> None:
            value, gradient[i] = function(x[i])
            log_p[i] = value

        self._each(one, len(x))
        return log_p, gradient

    def values(self, function: Callable[[np.ndarray], Any], x: np.ndarray) -> np.ndarray:
        """Value at each row."""
        log_p = np.full(len(x), self.failed)

        def one(i: int) -> None:
            log_p[i] = function(x[i])

        self._each(one, len(x))
        return log_p

    def _each(self, one: Callable[[int], None], n: int) -> None:
        """Fill every row, and book those that raise."""

        def some(rows: range) -> list[tuple[int, Exception]]:
            trouble = []
            for i in rows:
                try:
                    one(i)
                except Exception as error:  # whatever the user's own code raises
                    trouble.append((i, error))
            return trouble

        shares = min(self.threads, n)
        parts = [range(k, n, shares) for k in range(shares)]
        told = map(some, parts) if shares == 1 else self._pool.map(some, parts)
        for _, error in sorted(itertools.chain(*told), key=lambda trouble: trouble[0]):
            self.failures.note(error)


class Foreign:
    """log p̂ of z from code outside JAX, with its gradient.

    Parameters
    ----------
    code
        The user's code, of the parameters in a row; of z itself if `space` is not given.
    space
        The bijection from z to the parameters.
    """

    twice = False

    def __init__(self, code: Guarded, space: Bijection | None = None) -> None:
        self.code = code
        self.space = None if space is None or space.trivial else space
        self.dim = code.dim if space is None else space.dim

    def grain(self, planned: int = 0) -> int | None:
        """Rows that may be evaluated apart; None for code that takes whole batches."""
        if not self.code.pointwise or self.space is None:
            return self.code.pointwise or None
        return max(self._carried.width, self._pulled.width)

    def through(self, see: See) -> Foreign:
        """The same, whose answers to a compiled loop pass through `see`."""
        return Foreign(self.code.through(see), self.space)

    @property
    def differentiable(self) -> bool:
        """Whether there is a gradient."""
        return self.code.function is not None

    @property
    def failures(self) -> Failures:
        """Evaluations that raised."""
        return self.code.failures

    def __call__(self, z: Float[np.ndarray, "n d"]) -> tuple[np.ndarray, np.ndarray]:
        """log p̂ (n,) and its gradient (n, d) at each row; nothing is padded or repeated."""
        if self.space is None:
            return self.code(np.ascontiguousarray(z))
        x, log_jacobian, pull = self._carried(z)
        log_p, score = self.code(x)
        back = self._pulled(np.concatenate([z, score], axis=1))
        return log_p + log_jacobian, back + pull

    def values(self, z: Float[np.ndarray, "n d"], planned: int = 0) -> Float[np.ndarray, " n"]:
        """log p̂ at each row, however many more are planned."""
        if self.space is None:
            return self.code.values(np.ascontiguousarray(z))
        x, log_jacobian, _ = self._carried(z)
        return self.code.values(x) + log_jacobian

    @functools.cached_property
    def _carried(self) -> Program:
        """z to the parameters in a row, the log-Jacobian, and its gradient."""
        space = self.space
        assert space is not None

        def carried(z: Any) -> Any:
            def log_jacobian(z: Any) -> Any:
                params, value = space.constrain(z)
                return value, _flat(params)

            (value, x), gradient = jax.value_and_grad(log_jacobian, has_aux=True)(z)
            return x, value, gradient

        return Program(carried, self.dim, WIDE)

    @functools.cached_property
    def _pulled(self) -> Program:
        """(z, score of the parameters) to the score of z."""
        space = self.space
        assert space is not None

        def pulled(both: Any) -> Any:
            z, score = both[: self.dim], both[self.dim :]
            return jax.vjp(lambda z: _flat(space.constrain(z)[0]), z)[1](score)[0]

        return Program(pulled, self.dim + self.code.dim, WIDE)

    @functools.cached_property
    def program(self) -> Program:
        """The bridge: (value, gradient) of one point for loops that run inside the compiler.

        One callback a batch. Whatever the foreign code does, the loop ends: a point that raises is
        NaN there, and so is all after Ctrl-C, which `resume` then raises.
        """
        code = self.code
        if not self.differentiable:
            raise TypeError(
                coded(
                    "E110", "this density has no gradient, which compiled loops need: give it one"
                )
            )

        @jax.custom_vjp
        def log_density(x: Any) -> Any:
            return call(x)[0]

        def call(x: Any) -> Any:
            bits = jax.lax.bitcast_convert_type(x, jnp.uint32)
            shape = jax.ShapeDtypeStruct((code.dim + 1, 2), jnp.uint32)
            answer = jax.pure_callback(code.from_bits, shape, bits, vmap_method="broadcast_all")
            both = jax.lax.bitcast_convert_type(answer, jnp.float64)
            return both[0], both[1:]

        log_density.defvjp(call, lambda gradient, cotangent: (cotangent * gradient,))

        def log_p(z: Any) -> Any:
            if self.space is None:
                return log_density(z)
            params, log_jacobian = self.space.constrain(z)
            return log_density(_flat(params)) + log_jacobian

        return Program(jax.value_and_grad(log_p), self.dim)

    def resume(self) -> None:
        """Raise the Ctrl-C that a compiled loop has kept."""
        self.code.resume()


def _flat(params: Any) -> Any:
    return jnp.concatenate([jnp.ravel(x) for x in jax.tree_util.tree_leaves(params)])


# ---- what the code gives, before any work -------------------------------------------------------

STEPS = np.geomspace(1e-2, 1e-5, 4)
"""Lengths of the finite differences tried: the one that agrees best with its own half is used."""

DISAGREEMENT = 1e-3
"""Relative disagreement with a finite difference above which a gradient is called wrong. Those of
float32 code pass: their finite differences disagree with themselves by more."""

PROBES = 8
"""Random points of [-1, 1]^d, as fits begin from, at which a density is first tried."""

NAMED = 64
"""Coordinates looked at one by one to say which entry of a gradient is wrong."""


def first_answer(function: Callable[[Any], Any], points: Iterable[Any]) -> Any:
    """What the user's code returns at the first of these points where it does not raise.

    Raises
    ------
    ValueError
        If it raises at all of them.
    """
    trouble: Exception | None = None
    for point in points:
        try:
            with np.errstate(all="ignore"):
                return function(point)
        except Exception as error:  # whatever the user's own code raises
            trouble = trouble or error
    raise ValueError(
        coded(
            "E103",
            f"the log density raised {type(trouble).__name__} at every point tried: {trouble}",
        )
    ) from trouble


def check_gradient(density: Foreign, names: list[str], hint: str = "") -> None:
    """Compare the gradient with finite differences of log p̂ at one point near the origin.

    Parameters
    ----------
    hint
        What users of this kind of code should look for.

    Raises
    ------
    ValueError
        If they disagree, or two evaluations at one point do. A density that is nowhere finite at
        the points tried is left to the fit, which says so.
    """
    rng = np.random.default_rng(0)
    with np.errstate(all="ignore"):
        for z in rng.uniform(-1, 1, (PROBES, density.dim)):
            log_p, gradient = density(z[None])
            if np.isfinite(log_p[0]) and np.isfinite(gradient[0]).all():
                again = density.values(z[None])[0]
                if not abs(again - log_p[0]) <= 1e-6 * max(1.0, abs(log_p[0])):
                    raise ValueError(
                        coded(
                            "E109",
                            f"the log density is {log_p[0]:.10g} and then {again:.10g} at one and "
                            "the same point: it must be a function, without random numbers or "
                            "minibatches",
                        )
                    )
                _compare(density, z, gradient[0], names, hint, rng)
                return


def _compare(
    density: Foreign,
    z: np.ndarray,
    gradient: np.ndarray,
    names: list[str],
    hint: str,
    rng: np.random.Generator,
) -> None:
    direction = rng.standard_normal(len(z))
    slope, error = _difference(density, z, direction)
    stated = float(gradient @ direction)
    allowed = DISAGREEMENT * (abs(stated) + abs(slope)) + 10 * error
    if not abs(stated - slope) > allowed:
        return
    looked = [_difference(density, z, np.eye(1, len(z), i)[0]) for i in range(min(len(z), NAMED))]
    off = [abs(found - g) - 10 * e for (found, e), g in zip(looked, gradient, strict=False)]
    place = int(np.nanargmax(off))
    cure = hint or "look for a part of log p̂ that the gradient leaves out"
    if abs(stated + slope) <= allowed:
        cure = "the sign is wrong; return log p̂ and its own gradient, neither of them negated"
    raise ValueError(
        coded(
            "E108",
            f"the gradient of the log density is wrong in coordinate {names[place]!r}: it is given "
            f"as {gradient[place]:.6g}, finite differences say {looked[place][0]:.6g} (along a "
            f"random direction {stated:.6g} against {slope:.6g}): {cure}",
        )
    )


def _difference(density: Foreign, z: np.ndarray, direction: np.ndarray) -> tuple[float, float]:
    """Slope of log p̂ along a direction by central differences, and an error of it."""
    lengths = np.concatenate([STEPS, STEPS / 2])
    offsets = lengths[:, None] * direction
    ahead, behind = np.split(density.values(np.concatenate([z + offsets, z - offsets])), 2)
    wide, narrow = np.split((ahead - behind) / (2 * lengths), 2)
    rounding = np.finfo(float).eps * np.abs(ahead[: len(STEPS)]) / STEPS
    errors = np.abs(wide - narrow) + rounding
    errors = np.where(np.isfinite(errors), errors, np.inf)
    best = int(np.argmin(errors))
    return float(narrow[best]), float(errors[best])
