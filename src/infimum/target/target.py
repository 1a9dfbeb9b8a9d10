"""The target p̂: a log density with its supports, seen from R^d."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from infimum.base.errors import coded
from infimum.base.program import Program, double_precision
from infimum.target.bijection import Bijection
from infimum.target.density import Compiled, called, differentiated
from infimum.target.foreign import Foreign
from infimum.target.guarded import Failures
from infimum.target.journal import Journal
from infimum.target.large import Large
from infimum.target.model import DENSITY, Model
from infimum.target.remembered import Density, Remembered
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
        Pytree of `infimum.supports`, given where a parameter is not real. A function
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
            raise TypeError(
                coded(
                    "E101", f"log_density must be a function of the parameters, not {log_density!r}"
                )
            )
        with double_precision():
            space = Bijection(example, supports)
            start = space.inside(example)
        density = differentiated(log_density, space)
        self._set(space, density, called(log_density, name), start, DENSITY)

    @classmethod
    def of(
        cls,
        space: Space,
        density: Callable[..., Any] | Foreign,
        name: str,
        *,
        example: np.ndarray | None = None,
        model: Model | None = None,
        data: PyTree = None,
    ) -> Target:
        """A target as a source states it.

        Parameters
        ----------
        space
            What z means.
        density
            log p̂ of the parameters by JAX, where `space` is a `Bijection`; of z by JAX where it is
            not; or a `Foreign`.
        example
            An unconstrained point to start from.
        model
            What the source knows beyond log p̂.
        data
            Pytree of arrays that a density by JAX takes behind its parameters, if any.
        """
        target = cls.__new__(cls)
        if not isinstance(density, Foreign):
            density = differentiated(density, space, data)
        target._set(space, density, name, example, model or DENSITY)
        return target

    def _set(
        self,
        space: Space,
        density: Density,
        name: str,
        example: np.ndarray | None,
        model: Model,
    ) -> None:
        self.space = space
        self.name = name
        self.example = example
        self.model = model
        self.large: Large | None = None
        self._density = density
        self._plain: Target | None = None

    def given(self, data: PyTree, model: Model) -> Target:
        """The same target on other data, where it was made with some; nothing is traced anew."""
        target = copy.copy(self)
        target.model = model
        target._density = Compiled(self.program.given(data))
        return target

    def plus(self, term: Callable[[Any], Any]) -> Target:
        """The same target with a function of z, traceable by JAX, added to log p̂."""
        own, added = self.program.function(), jax.value_and_grad(term)

        def both(z: Any) -> Any:
            return jax.tree_util.tree_map(jnp.add, tuple(own(z)), tuple(added(z)))

        target = Target.__new__(Target)
        compiled = Compiled(Program(both, self.dim))
        target._set(self.space, compiled, self.name, self.example, self.model)
        return target

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
        return self._density(z)

    def values(self, z: np.ndarray, planned: int = 0) -> np.ndarray:
        """log p̂ at each row of `z` (n, d): shape (n,).

        Parameters
        ----------
        planned
            How many points will be asked for in all, where `z` is one chunk of them.
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
    def twice(self) -> bool:
        """Whether JAX may differentiate that gradient once more: foreign code has only the one."""
        return self._density.twice

    @property
    def failures(self) -> Failures:
        """Evaluations that raised an error so far; JAX's own never do."""
        return self._density.failures

    def remembered(self, journal: Journal) -> Target:
        """The same target, its answers from a journal where it has them."""
        seen = copy.copy(self)
        seen._density = Remembered(self._density, journal)
        seen._plain = self
        return seen

    @property
    def plain(self) -> Target:
        """The target itself, where this one is seen through a journal."""
        return self._plain or self

    @property
    def journal(self) -> Journal | None:
        """The journal that this target is seen through."""
        density = self._density
        return density.journal if isinstance(density, Remembered) else None

    def recall(
        self, kind: str, asked: Callable[[], Any], like: Any, compute: Callable[[], Any]
    ) -> Any:
        """What `compute` gives; from the journal, as NumPy arrays, where there is one.

        Work on `program` goes through this, as it is seen by no other method.

        Parameters
        ----------
        kind, asked
            A name, and the pytree of all arrays that the answer depends on besides log p̂.
        like
            A pytree of the answer's structure.
        """
        density = self._density
        if not isinstance(density, Remembered):
            return compute()
        return density.recall(kind, asked, like, compute)

    def resume(self) -> None:
        """Raise the Ctrl-C that came while foreign code ran inside a compiled loop."""
        self._density.resume()

    def describe(self, z: np.ndarray) -> str:
        """The parameters at `z` in words, for messages: the first of them if there are many."""
        return self.space.describe(np.asarray(z, np.float64))

    def __repr__(self) -> str:
        return f"Target({self.name!r}, d = {self.dim})"
