"""Distributions that live on the host alone, because they are tables or interpolations."""

from __future__ import annotations

import abc
from typing import NoReturn

import equinox as eqx
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from infimum.base.errors import coded_error
from infimum.families._distribution import Hosted


class HostOnly(Hosted):
    """Capability: draws and densities on the host, and not inside programs of JAX."""

    def sample(self, key: PRNGKeyArray) -> Float[Array, " d"]:
        """Refuse: see `draw`."""
        self._refuse()

    def log_prob(self, z: Float[Array, " d"]) -> Float[Array, ""]:
        """Refuse: see `log_density`."""
        self._refuse()

    def sample_and_log_prob(self, key: PRNGKeyArray) -> tuple[Float[Array, " d"], Float[Array, ""]]:
        """Refuse: see `draw` and `log_density`."""
        self._refuse()

    def _refuse(self) -> NoReturn:
        raise coded_error(
            TypeError,
            "E205",
            f"a {type(self).__name__} can't be used inside a program of JAX: use draw and "
            "log_density, or sample and log_prob of the fit",
        )


class Conditioned(HostOnly):
    """Capability: q(θ, x) = q(θ) q(x | θ) with few θ.

    Attributes
    ----------
    outer
        q(θ).
    theta
        The coordinates of θ in z, shape (h,).
    edges
        Pairs of coordinates that the target couples, shape (2, n).
    """

    outer: eqx.AbstractVar[Hosted]
    theta: eqx.AbstractVar[np.ndarray]
    edges: eqx.AbstractVar[np.ndarray]

    @property
    @abc.abstractmethod
    def size(self) -> int:
        """Numbers that a draw takes while it is made."""

    @abc.abstractmethod
    def scales(self, z: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n h"]:
        """θ at each row."""

    @abc.abstractmethod
    def extended(
        self, theta: Float[np.ndarray, "n h"], rng: np.random.Generator
    ) -> Float[np.ndarray, "n d"]:
        """Each row of θ with a draw of x given it."""

    @abc.abstractmethod
    def log_given(self, z: Float[np.ndarray, "n d"]) -> Float[np.ndarray, " n"]:
        """log q(x | θ) at each row."""
