"""PyTorch log densities as targets."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import jax
import numpy as np
from jaxtyping import PyTree

from infimum.base.errors import coded_error
from infimum.base.extras import required
from infimum.base.program import double_precision
from infimum.target.bijection import Bijection
from infimum.target.compiled import target_name
from infimum.target.foreign import ForeignDensity
from infimum.target.gradient_check import PROBES, check_gradient, first_answer
from infimum.target.guarded import GuardedCode
from infimum.target.space import columns
from infimum.target.target import Target

CUT_GRAPH_HINT = (
    "look for .detach(), .item(), .numpy(), float(...), torch.tensor(...) or torch.no_grad() "
    "between this parameter and log p̂: each of them cuts PyTorch's graph"
)
"""What to look for if a gradient is wrong."""


def from_torch(
    log_density: Callable[[PyTree], Any],
    example: PyTree,
    supports: PyTree = None,
    *,
    name: str | None = None,
) -> Target:
    """A posterior whose log density is written in PyTorch.

    Requires: a function whose graph PyTorch can differentiate. Batches are differentiated by
    `torch.func`; a function that it refuses, by autograd, point by point.

    Parameters
    ----------
    log_density
        Function from parameters, float64 tensors structured like `example`, to the scalar log p̂ in
        nats. -inf means zero density. If it raises an error at a point, the density is undefined
        there; the first error is shown with the fit.
    example
        Pytree of float tensors or arrays, which gives names, shapes, the device, and values inside
        the supports. Zeros give the shape only.
    supports
        Pytree of `infimum.supports`, as for `infimum.Target`.
    name
        Name of the target in printed output.

    Returns
    -------
    A target whose draws are NumPy arrays; ``fit.sample(n, backend="torch")`` gives tensors.

    Raises
    ------
    ImportError
        Without PyTorch.
    TypeError, ValueError
        If the function raises at every point tried, does not return one float, or cuts the graph
        between a parameter and its result; the message names the parameter.

    Examples
    --------
    >>> import torch
    >>> from_torch(lambda p: -0.5 * (p["x"] ** 2).sum(), {"x": torch.zeros(3)}).dim
    3
    """
    torch = required("torch", "torch")
    if not callable(log_density):
        raise coded_error(
            TypeError, "E101", f"from_torch takes a function of the parameters, not {log_density!r}"
        )
    devices = {x.device for x in jax.tree_util.tree_leaves(example) if torch.is_tensor(x)}
    if len(devices) > 1:
        raise coded_error(
            ValueError,
            "E640",
            f"the example's tensors are on several devices: {devices}. Move them to one",
        )
    arrays = jax.tree_util.tree_map(_as_array, example)
    with double_precision():
        space = Bijection(arrays, supports)
        start = space.interior_point(arrays)
    shapes = [parameter.shape for parameter in space.parameters]

    def of_leaves(*leaves: Any) -> Any:
        return log_density(jax.tree_util.tree_unflatten(space.structure, leaves))

    device = devices.pop() if devices else torch.device("cpu")
    code = _Code(torch, of_leaves, shapes, device)
    inside = columns(space.draws(np.random.default_rng(0).uniform(-1, 1, (PROBES, space.dim))))
    code.examine(inside)
    density = ForeignDensity(GuardedCode(code.gradients, inside.shape[1], code.values), space)
    check_gradient(density, space.free_names, CUT_GRAPH_HINT)
    name = target_name(log_density, name)
    return Target.of(space, density, name, example=start)


def _as_array(leaf: Any) -> Any:
    """A tensor as a NumPy array; anything else as it is."""
    if hasattr(leaf, "detach"):
        leaf = leaf.detach().cpu().numpy()
    return leaf


class _Code:
    """The user's function at rows of parameters, in batches if torch.func can make them.

    Parameters
    ----------
    of_leaves
        log p̂ as a function of the parameters' tensors.
    shapes
        Shapes of the tensors.
    """

    def __init__(
        self,
        torch: ModuleType,
        of_leaves: Callable[..., Any],
        shapes: Sequence[tuple[int, ...]],
        device: Any,
    ) -> None:
        self.torch = torch
        self.of_leaves = of_leaves
        self.shapes = shapes
        self.sizes = [math.prod(shape) for shape in shapes]
        self.device = device
        self.batched = True
        func = torch.func
        places = tuple(range(len(shapes)))
        self._pairs = func.vmap(func.grad_and_value(of_leaves, argnums=places))
        self._values = func.vmap(of_leaves)

    def examine(self, inside: np.ndarray) -> None:
        """Check one answer, and find out whether torch.func can make batches."""
        answer = first_answer(lambda row: self._at(row)[1], inside)
        torch = self.torch
        if not torch.is_tensor(answer) or not answer.requires_grad:
            raise coded_error(
                TypeError,
                "E102",
                f"log_density returned {answer!r}, which PyTorch can't differentiate in its "
                f"parameters: {CUT_GRAPH_HINT}",
            )
        if answer.shape != ():
            raise coded_error(
                ValueError,
                "E105",
                f"log_density must return a scalar, it returned a tensor of shape "
                f"{tuple(answer.shape)}: sum over observations, for instance with .sum()",
            )
        try:
            self.gradients(inside[:2])
            self.values(inside[:2])
        except Exception:  # torch.func refuses in many ways, and autograd may not
            self.batched = False

    def gradients(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """log p̂ and its gradient at each row."""
        with self._double():
            if self.batched:
                gradients, log_p = self._pairs(*self._leaves(x))
                flat = [gradient.reshape(len(x), -1) for gradient in gradients]
                return self._array(log_p), self._array(self.torch.cat(flat, dim=1))
            log_p, gradient = np.empty(len(x)), np.empty(x.shape)
            for i, row in enumerate(x):
                point, value = self._at(row)
                log_p[i] = float(value)
                gradient[i] = self._array(self.torch.autograd.grad(value, point)[0])
            return log_p, gradient

    def values(self, x: np.ndarray) -> np.ndarray:
        """log p̂ at each row."""
        with self.torch.no_grad(), self._double():
            if self.batched:
                return self._array(self._values(*self._leaves(x)))
            return np.array([float(self._at(row)[1]) for row in x])

    def _leaves(self, x: np.ndarray) -> list[Any]:
        """The parameters' tensors at all rows."""
        rows = self.torch.tensor(x, dtype=self.torch.float64, device=self.device)
        pieces = self.torch.split(rows, self.sizes, dim=1)
        return [p.reshape(len(x), *shape) for p, shape in zip(pieces, self.shapes, strict=True)]

    def _at(self, row: np.ndarray) -> tuple[Any, Any]:
        """One row as a tensor, and log p̂ there on autograd's tape."""
        point = self.torch.tensor(
            row, dtype=self.torch.float64, device=self.device, requires_grad=True
        )
        pieces = self.torch.split(point, self.sizes)
        leaves = [p.reshape(shape) for p, shape in zip(pieces, self.shapes, strict=True)]
        with self._double():
            return point, self.of_leaves(*leaves)

    @contextmanager
    def _double(self) -> Iterator[None]:
        """Make tensors that the user's function creates double precision too."""
        before = self.torch.get_default_dtype()
        self.torch.set_default_dtype(self.torch.float64)
        try:
            yield
        finally:
            self.torch.set_default_dtype(before)

    def _array(self, tensor: Any) -> np.ndarray:
        answer: np.ndarray = tensor.detach().cpu().numpy()
        return answer
