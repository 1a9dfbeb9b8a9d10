"""The target p̂: a log density with its supports, seen from R^d."""

from __future__ import annotations

import abc
import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from infimum.base.deprecation import RenamedAttribute
from infimum.base.errors import coded_error
from infimum.base.program import Program, double_precision
from infimum.target.bijection import Bijection
from infimum.target.compiled import CompiledDensity, compile_density, target_name
from infimum.target.density import Density
from infimum.target.differenced import DifferencedDensity
from infimum.target.freed import FreedDensity
from infimum.target.guarded import Failures
from infimum.target.journal.journal import Journal
from infimum.target.journal.remembered import RememberedDensity
from infimum.target.model import DENSITY, Model
from infimum.target.space import Space


class Target:
    """A posterior p*(z) = p̂(z)/Z of which only log p̂ can be evaluated.

    The user states log p̂ on the constrained space; everything inside sees
    ``log_p(z) = log p̂(params(z)) + log |det dparams/dz|`` on R^d.

    Parameters
    ----------
    log_density
        Function from parameters, structured like `example`, to the scalar log p̂ in nats.
        Differentiable by JAX. -inf means zero density.
    example
        Pytree of float arrays, or one flat vector: names, shapes and values inside the supports.
        An array of zeros says the shape only.
    supports
        Pytree of `infimum.supports`, with one for each parameter that is not real. A function
        ``params -> support`` makes a support depend on other parameters.
    name
        What to call the target in print.

    Raises
    ------
    TypeError, ValueError
        For discrete or empty parameters, supports that do not fit, and a log density that fails,
        is not scalar or can't be differentiated; the message names the parameter and the cure.

    Examples
    --------
    >>> target = Target(lambda p: -0.5 * (p["x"] ** 2).sum(), {"x": np.zeros(3)})
    >>> target.dim
    3
    """

    def __init__(
        self,
        log_density: Callable[[PyTree], Any],
        example: PyTree,
        supports: PyTree = None,
        *,
        name: str | None = None,
    ) -> None:
        if not callable(log_density):
            raise coded_error(
                TypeError,
                "E101",
                f"log_density must be a function of the parameters, not {log_density!r}",
            )
        with double_precision():
            space = Bijection(example, supports)
            start = space.interior_point(example)
        self._build(space, log_density, target_name(log_density, name), example=start)

    @classmethod
    def of(
        cls,
        space: Space,
        density: Callable[..., Any] | Density,
        name: str,
        *,
        example: np.ndarray | None = None,
        model: Model = DENSITY,
        data: PyTree = None,
    ) -> Target:
        """A target of its parts, as a source states them.

        Parameters
        ----------
        space
            What z means.
        density
            log p̂: a `Density`, or a function that JAX can differentiate. The function takes the
            parameters if `space` is a `Bijection`, and z if it is not.
        example
            An unconstrained point to start from.
        model
            What the source knows beyond log p̂.
        data
            Pytree of arrays that the function takes as its second argument, if any.
        """
        target = cls.__new__(cls)
        target._build(space, density, name, example=example, model=model, data=data)
        return target

    def _build(
        self,
        space: Space,
        density: Callable[..., Any] | Density,
        name: str,
        *,
        example: np.ndarray | None = None,
        model: Model = DENSITY,
        data: PyTree = None,
    ) -> None:
        """Hold the parts: every target, whatever its source, is built here."""
        self.space = space
        self.name = name
        self.example = example
        self.model = model
        self.large: LargeData | None = None
        self._density = (
            density if isinstance(density, Density) else compile_density(density, space, data)
        )
        self._plain: Target | None = None
        self._by_gradients = False
        self.counter = Counter()

    def with_data(self, data: PyTree, model: Model) -> Target:
        """The same target on other data of the same shapes; nothing is traced again.

        Parameters
        ----------
        data
            In the place of the `data` that the target was built with.
        model
            What the source knows of the model with these data.
        """
        target = copy.copy(self)
        target.model = model
        target._density = CompiledDensity(self.program.given(data))
        return target

    def plus(self, term: Callable[[Any], Any]) -> Target:
        """The same target with a function of z, traceable by JAX, added to log p̂."""
        density = CompiledDensity(self.program.plus(term, self.dim))
        return Target.of(self.space, density, self.name, example=self.example, model=self.model)

    def freed(self, soft: np.ndarray, ridge: np.ndarray) -> Target:
        """The same target without a soft constraint aᵀz ~ N(0, 1), held by N(0, 1/r_i) instead.

        Parameters
        ----------
        soft, ridge
            a and r, shape (d,).
        """
        target = copy.copy(self)
        target._density = FreedDensity(self._density, soft, ridge)
        return target

    def by_differences(self, scale: np.ndarray) -> Target:
        """The same target, its gradient by differences of 2d values; for work on the host only.

        Parameters
        ----------
        scale
            Typical sizes of the unconstrained coordinates, shape (d,).
        """
        target = copy.copy(self)
        target._density = DifferencedDensity(self._density, scale)
        return target

    given = RenamedAttribute("with_data")
    remembered = RenamedAttribute("with_journal")
    twice = RenamedAttribute("twice_differentiable")

    @property
    def dim(self) -> int:
        """d, the number of unconstrained coordinates."""
        return self.space.dim

    @property
    def names(self) -> list[str]:
        """Names of the constrained scalar quantities, in ArviZ's form."""
        return self.space.names

    def log_p(self, z: Float[Array, " d"]) -> Float[Array, ""]:
        """log p̂ at one unconstrained point, log-Jacobian included; traceable by JAX.

        Its derivative is the compiled program's own gradient: nothing is evaluated twice.
        """
        with double_precision():
            return self.program.differentiable()(jnp.asarray(z, jnp.float64))

    def value_and_gradient(self, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """log p̂ and its gradient at each row of `z`.

        Parameters
        ----------
        z
            Unconstrained points, shape (n, d).

        Returns
        -------
        log_p of shape (n,), in nats, and its gradient of shape (n, d), both float64.
        """
        self.counter.n_gradients += len(z)
        return self._density(z)

    def values(self, z: np.ndarray, planned: int = 0) -> np.ndarray:
        """log p̂ at each row of `z` (n, d): shape (n,).

        Parameters
        ----------
        planned
            How many points will be asked for in all, if `z` is one chunk of them.
        """
        return self._density.values(z, planned)

    def constrain(self, z: np.ndarray) -> PyTree:
        """Parameters at one point (d,) or at each row of (n, d), as float64 NumPy arrays."""
        z = np.asarray(z, dtype=np.float64)
        draws = self.space.draws(np.atleast_2d(z))
        return draws if z.ndim == 2 else jax.tree_util.tree_map(lambda x: x[0], draws)

    def unconstrain(self, params: PyTree) -> np.ndarray:
        """The unconstrained point (d,) of these parameters."""
        return self.space.free(params)[0]

    @property
    def program(self) -> Program:
        """The compiled (value, gradient) of log p̂, for loops that run inside the compiler."""
        return self._density.program

    @property
    def differentiable(self) -> bool:
        """Whether log p̂ comes with a gradient."""
        return self._density.differentiable

    @property
    def twice_differentiable(self) -> bool:
        """Whether JAX may differentiate that gradient: foreign code has no second derivative."""
        return self._density.twice_differentiable and not self._by_gradients

    def by_gradients(self) -> Target:
        """The same target, its curvature taken from gradients: JAX has nothing more to compile."""
        target = copy.copy(self)
        target._by_gradients = True
        return target

    @property
    def failures(self) -> Failures:
        """Evaluations that raised an error so far; compiled log densities never do."""
        return self._density.failures

    def with_journal(self, journal: Journal) -> Target:
        """The same target, whose answers come from a journal if they are kept there."""
        target = copy.copy(self)
        target._density = RememberedDensity(self._density, journal)
        target._plain = self
        return target

    @property
    def plain(self) -> Target:
        """The target without its journal, if it has one; else the target itself."""
        return self._plain or self

    @property
    def journal(self) -> Journal | None:
        """The journal that answers come from; None without a checkpoint."""
        density = self._density
        return density.journal if isinstance(density, RememberedDensity) else None

    def recall(
        self,
        kind: str,
        question: Callable[[], PyTree],
        like: PyTree,
        compute: Callable[[], PyTree],
    ) -> PyTree:
        """What `compute` gives; with a journal in NumPy arrays, which it may have kept.

        Work on `program` goes through this, because the journal can't look into a compiled loop.

        Parameters
        ----------
        kind, question
            A name, and a function to the pytree of all arrays that the answer depends on besides
            log p̂.
        like
            A pytree of the answer's structure.
        """
        density = self._density
        if not isinstance(density, RememberedDensity):
            return compute()
        return density.recall(kind, question, like, compute)

    def resume(self) -> None:
        """Raise the Ctrl-C that came while a compiled loop called foreign code."""
        self._density.resume()

    def describe(self, z: np.ndarray) -> str:
        """The parameters at `z` in words, for messages: the first of them if there are many."""
        return self.space.describe(np.asarray(z, np.float64))

    def __repr__(self) -> str:
        return f"Target({self.name!r}, d = {self.dim})"


@dataclass
class Counter:
    """Gradients that a target, and the copies of it, have been asked for so far."""

    n_gradients: int = 0


class LargeData(abc.ABC):
    """Capability of a target: so many rows that every evaluation is a pass over them.

    Attributes
    ----------
    n_rows
        N, over all processes.
    n_part
        Rows of a part that stands for all.
    by_part
        Whether to search on one.
    """

    n_rows: int
    n_part: int
    by_part: bool

    @property
    @abc.abstractmethod
    def n_passes(self) -> int:
        """Passes made so far."""

    @abc.abstractmethod
    def part(self, rng: np.random.Generator) -> Target:
        """A target of some random rows, each of which stands for N/m, as one compiled program."""

    @abc.abstractmethod
    def description(self) -> str:
        """How many rows there are and where they are, in words."""

    @abc.abstractmethod
    def seconds(self, n: int, gradient: bool) -> float:
        """Seconds that a pass for n points is expected to take."""
