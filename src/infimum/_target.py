"""The target p̂: a log density with its supports, seen from R^d."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from infimum._bijection import Bijection
from infimum._errors import coded
from infimum._foreign import Failures, Foreign, See
from infimum._journal import Journal
from infimum._model import DENSITY, Model
from infimum._passes import Large
from infimum._program import Program, double_precision
from infimum._remembered import Density, Remembered
from infimum._space import Space

FEW_VALUES = 16_384
"""Up to here log p̂ alone is taken from the program that also gives its gradient. Measured on
fifteen posteriors: the value alone compiles in 0.2-0.7 s and saves 0.02-0.1 ms a batch of 64."""


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
        density = _differentiated(log_density, space)
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
            density = _differentiated(density, space, data)
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
        target._density = _Compiled(self.program.given(data))
        return target

    def plus(self, term: Callable[[Any], Any]) -> Target:
        """The same target with a function of z, traceable by JAX, added to log p̂."""
        own, added = self.program.function(), jax.value_and_grad(term)

        def both(z: Any) -> Any:
            return jax.tree_util.tree_map(jnp.add, tuple(own(z)), tuple(added(z)))

        target = Target.__new__(Target)
        compiled = _Compiled(Program(both, self.dim))
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


class _Compiled:
    """log p̂ by JAX, in the terms in which `Foreign` gives that of other code."""

    differentiable = True
    twice = True

    def __init__(self, program: Program) -> None:
        self.program = program
        self.failures = Failures()

    def __call__(self, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """log p̂ and its gradient at each row."""
        log_p, gradient = self.program(z)
        return log_p, gradient

    def values(self, z: np.ndarray, planned: int = 0) -> np.ndarray:
        """log p̂ at each row.

        Few points go through the compiled gradient, which is there already: compiling a program
        for the value alone takes longer than it saves.
        """
        few = max(len(z), planned) <= FEW_VALUES
        log_p: np.ndarray = self.program(z)[0] if few else self._value(z)
        return log_p

    def grain(self, planned: int = 0) -> int | None:
        """A padded batch: what is in another one does not matter."""
        return (self.program if planned <= FEW_VALUES else self._value).width

    @functools.cached_property
    def _value(self) -> Program:
        """log_p alone; the compiler drops what only the gradient needs."""
        function = self.program.function()
        return Program(lambda z: function(z)[0], self.program.dim)

    def through(self, see: See) -> _Compiled:
        """As it is: a compiled loop has log p̂ inside."""
        return self

    def resume(self) -> None:
        """Nothing is kept: JAX's own loops are interrupted by Python."""


def called(function: Callable[..., Any], name: str | None = None) -> str:
    """What to call a target in print: the name given, else that of the function."""
    return name or getattr(function, "__name__", "target").replace("<lambda>", "target")


def _differentiated(
    log_density: Callable[..., Any], space: Space, data: PyTree = None
) -> _Compiled:
    """log_p and its gradient as one program, with errors that say what to change."""

    def log_p(z: Any, *data: Any) -> Any:
        def density(params: Any) -> Any:
            return log_density(params, *data)

        if not isinstance(space, Bijection):
            return density(z)
        params, log_jacobian = space.constrain(z)
        return _scalar(density, params) + log_jacobian

    try:
        return _Compiled(Program(jax.value_and_grad(log_p), space.dim, data=data))
    except _DensityError:
        raise
    except Exception as error:  # JAX raises many types here; each means that it can't differentiate
        raise ValueError(
            coded(
                "E102",
                f"log_density can't be differentiated by JAX ({type(error).__name__}: {error}). "
                "Write it with jax.numpy, and use jax.lax.scan or fori_loop with fixed bounds for "
                "loops",
            )
        ) from error


class _DensityError(ValueError):
    """The user's log density can't be traced, or does not return one real number."""


def _scalar(log_density: Callable[[PyTree], Any], params: PyTree) -> Any:
    shapes = jax.tree_util.tree_map(lambda x: x.shape, params)
    try:
        value = log_density(params)
    except (jax.errors.TracerArrayConversionError, jax.errors.ConcretizationTypeError) as error:
        raise _DensityError(
            coded(
                "E102",
                "log_density is not differentiable by JAX: it turns a parameter into a NumPy array "
                "or a Python number, or branches on its value. Use jax.numpy in place of numpy, "
                f"and jax.numpy.where or jax.lax.cond in place of if. JAX says: {error}",
            )
        ) from error
    except KeyError as error:
        raise _DensityError(
            coded(
                "E103",
                f"log_density asks for parameter {error}, which the example does not have; its "
                f"parameters have shapes {shapes}",
            )
        ) from error
    except Exception as error:  # whatever the user's own code raises
        raise _DensityError(
            coded(
                "E103",
                f"log_density raised {type(error).__name__}: {error}\nwhen called with parameters "
                f"of shapes {shapes}. Shapes and structure come from the example",
            )
        ) from error
    if not jax.tree_util.all_leaves([value]):
        raise _DensityError(
            coded("E105", f"log_density must return one number, it returned {value!r}")
        )
    shape = jnp.shape(value)
    if shape != ():
        raise _DensityError(
            coded(
                "E105",
                f"log_density must return a scalar, it returned an array of shape {shape}: sum "
                "over observations, for instance with .sum()",
            )
        )
    if not jnp.issubdtype(jnp.result_type(value), jnp.floating):
        raise _DensityError(
            coded(
                "E105",
                f"log_density returned dtype {jnp.result_type(value)}, not a float: it is "
                "constant, or not differentiable, in the parameters: compute it from them, in "
                "floats",
            )
        )
    return jnp.asarray(value, jnp.float64)
