"""Location-scale hierarchies of NumPyro models, found by running the model and looking.

A latent site is one of two kinds. Where its location or scale depends on other sites it is stated
*centred*. Where they are constants, and it enters what the model makes of it as a + b·z with a
factor b that depends on other sites, it is stated *non-centred*. Both are told by the traced model,
not by names.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from numpyro.distributions import constraints, transforms

from infimum.base.program import double_precision
from infimum.supports import Support
from infimum.target.bijection import Bijection
from infimum.target.hierarchy import Hierarchy, Parents, dependence, levels

Trace = Mapping[str, Mapping[str, Any]]

FAMILIES = (
    *(dist.Normal, dist.StudentT, dist.Cauchy, dist.Laplace, dist.Logistic, dist.Gumbel),
    *(dist.SoftLaplace, dist.AsymmetricLaplace),
)
"""Distributions on the line that have a `loc` and a `scale`."""

LONGEST = 8
"""Entries of a multivariate normal that are taken one after another; each is a pass through the
model's priors, so that a long Gaussian process is left as it is."""

SAME = 1e-10
"""Relative difference up to which two directional derivatives are the same number."""


def find(
    trace: Callable[[Any], Trace], space: Bijection, rng: np.random.Generator
) -> Hierarchy | None:
    """The hierarchy of a model, if it has one.

    Parameters
    ----------
    trace
        Run the model at the constrained parameters; traceable by JAX.
    space
        Where the parameters live.
    rng
        For points to look at the model from.
    """
    with double_precision():
        return _Search(trace, space, rng).found()


class _Rows(NamedTuple):
    """Where the model makes something of a site's entries alone.

    Attributes
    ----------
    array
        Which of the arrays that the model makes.
    rows
        The row of that array for each entry of the site; -1 for none.
    """

    array: int
    rows: np.ndarray


class _Entries(NamedTuple):
    """The entries of one site that are part of the hierarchy, by their places in it and in z."""

    name: str
    which: np.ndarray
    places: np.ndarray


class _Search:
    """One model, looked at from a few points."""

    def __init__(
        self, trace: Callable[[Any], Trace], space: Bijection, rng: np.random.Generator
    ) -> None:
        self.trace, self.space, self.rng = trace, space, rng
        start = np.cumsum([0, *(p.size for p in space.parameters)])
        self.place = {p.name: int(i) for p, i in zip(space.parameters, start, strict=False)}
        self.shape = {p.name: p.shape for p in space.parameters}
        points = rng.uniform(-1.0, 1.0, size=(2, space.dim))
        constrain = jax.jit(lambda z: space.constrain(z)[0])
        self.here, self.there = (constrain(z) for z in points)
        self.kinds = {
            p.name: p.support.name
            for p in space.parameters
            if isinstance(p.support, Support) and p.free_shape == p.shape and p.size
        }
        self.multivariate: set[str] = set()
        self.sites: list[str] = []
        jax.eval_shape(self._read, self.here)
        self.plain: list[str] = []
        self.rows: dict[str, _Rows] = {}

    def _read(self, params: Any) -> None:
        for name, site in self.trace(params).items():
            if self.kinds.get(name) in ("real", "positive") and _moments(site) is not None:
                self.sites.append(name)
                if isinstance(_unwrapped(site["fn"]), dist.MultivariateNormal):
                    self.multivariate.add(name)

    def found(self) -> Hierarchy | None:
        """Both kinds of sites, on their levels."""
        if not self.sites:
            return None
        needs = dependence(self._priors, self.here)
        needs = {k: v - {k} if k in self.multivariate else v for k, v in needs.items()}
        self._look([k for k, v in needs.items() if not v and self.kinds[k] == "real"])
        behind = dependence(self._uses, self.here) if self.rows else {}
        order = levels({k: v for k, v in {**needs, **behind}.items() if v})
        return self._hierarchy(order) if order else None

    def _hierarchy(self, order: dict[str, int]) -> Hierarchy:
        centred = [self._entries(name) for name in order if name not in self.rows]
        ordered = [*centred, *(self._entries(name) for name in order if name in self.rows)]
        steps = [order[x.name] * LONGEST + self._steps(x) for x in ordered]
        index = np.concatenate([x.places for x in ordered])
        labels = self.space.free_names
        space, priors, uses = self.space, self._priors, self._uses
        identity = [jnp.stack([np.zeros(len(x.which)), np.ones(len(x.which))]) for x in centred]

        def parents(z: Any) -> Parents:
            params = space.constrain(z)[0]
            prior, use = priors(params), uses(params)
            moments = jnp.concatenate([prior[x.name][:, x.which] for x in ordered], axis=1)
            behind = [use[x.name] for x in ordered[len(centred) :]]
            return Parents(*moments, *jnp.concatenate([*identity, *behind], axis=1))

        return Hierarchy(
            names=tuple(labels[i] for i in index),
            index=index,
            level=np.unique(np.concatenate(steps), return_inverse=True)[1],
            centred=np.concatenate(
                [np.full(len(x.which), x.name not in self.rows) for x in ordered]
            ),
            parents=parents,
        )

    def _entries(self, name: str) -> _Entries:
        every = np.arange(math.prod(self.shape[name]))
        which = np.flatnonzero(self.rows[name].rows >= 0) if name in self.rows else every
        return _Entries(name, which, self.place[name] + which)

    def _steps(self, entries: _Entries) -> np.ndarray:
        """Within a multivariate normal each entry comes after the ones before it."""
        multivariate = entries.name in self.multivariate
        longest = self.shape[entries.name][-1] if multivariate else 1
        return entries.which % longest

    def _priors(self, params: Any) -> dict[str, Any]:
        """Location and scale of each site's coordinates, shape (2, size)."""
        traced = self.trace(params)
        found = {}
        for name in self.sites:
            moments = _moments({**traced[name], "value": params[name]})
            assert moments is not None
            whole = [jnp.broadcast_to(x, self.shape[name]).ravel() for x in moments]
            found[name] = jnp.stack(whole).astype(float)
        return found

    # ---- what the model makes of standardised sites ----------------------------------------------

    def _slopes(self, name: str, params: Any, direction: Any) -> tuple[Any, Any]:
        """What the model makes, and its derivative with respect to one site."""

        def made(value: Any) -> Any:
            return _made(self.trace({**params, name: value}))

        return jax.jvp(made, (params[name],), (direction,))

    def _look(self, names: list[str]) -> None:
        """Find what is a + b·z_j in one entry of one of these sites, with a b that varies.

        The derivative along a direction of random numbers, over that along ones, is the entry's own
        number where a row has one entry in it.
        """
        rng, shape, here, there = self.rng, self.shape, self.here, self.there
        marks = {name: rng.uniform(1.0, 2.0, size=(2, *shape[name])) for name in names}

        @jax.jit
        def slopes(here: Any, there: Any, marks: Any) -> Any:
            def of(name: str, params: Any, direction: Any) -> Any:
                return self._slopes(name, params, direction)[1]

            return {
                name: (
                    of(name, here, jnp.ones(shape[name])),
                    of(name, here, marks[name][0]),
                    of(name, here, marks[name][1]),
                    of(name, {**here, name: there[name]}, jnp.ones(shape[name])),
                    of(name, {**there, name: here[name]}, jnp.ones(shape[name])),
                )
                for name in names
            }

        for name, looks in slopes(here, there, marks).items():
            arrays = [[np.asarray(x) for x in look] for look in zip(*looks, strict=True)]
            matched = [_matched(look, marks[name]) for look in arrays]
            counts = [int(np.sum(rows >= 0)) for rows in matched]
            if counts and max(counts) > 0:
                best = int(np.argmax(counts))
                self.plain.append(name)
                self.rows[name] = _Rows(best, matched[best])
        self._check()

    def _check(self) -> None:
        """Keep the slopes that are neither zero nor undefined with all such sites at zero."""
        uses = jax.jit(self._uses)
        slopes = [
            {k: np.asarray(x)[1] for k, x in uses(at).items()} for at in (self.here, self.there)
        ]
        for name, (array, rows) in list(self.rows.items()):
            fine = [np.isfinite(x[name]) & (x[name] != 0) for x in slopes]
            kept = rows.copy()
            kept[np.flatnonzero(rows >= 0)[~(fine[0] & fine[1])]] = -1
            if np.any(kept >= 0):
                self.rows[name] = _Rows(array, kept)
            else:
                del self.rows[name]

    def _uses(self, params: Any) -> dict[str, Any]:
        """Offset and slope of the standardised sites' entries that have some, shape (2, ·).

        With every such site at zero: the offsets leave one another out.
        """
        params = {**params, **{name: jnp.zeros(self.shape[name]) for name in self.plain}}
        found = {}
        for name, (array, rows) in self.rows.items():
            made = self._slopes(name, params, jnp.ones(self.shape[name]))
            kept = rows[rows >= 0]
            found[name] = jnp.stack([jnp.ravel(x[array])[kept] for x in made])
        return found


def _matched(look: list[np.ndarray], marks: np.ndarray) -> np.ndarray:
    """For each entry the steepest row affine in it alone, with a slope that varies; or -1."""
    along, first, second, moved, elsewhere = look
    marks = marks.reshape(2, -1)
    order = np.argsort(marks[0])
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = np.stack([(first / along).ravel(), (second / along).ravel()])
    place = np.searchsorted(marks[0][order], ratios[0] * (1 - SAME)).clip(max=len(order) - 1)
    entry = order[place]
    fine = _close(ratios, marks[:, entry]).all(axis=0)
    fine &= _close(along, moved).ravel() & ~_close(along, elsewhere).ravel()
    rows = np.full(len(order), -1)
    places = np.flatnonzero(fine)
    places = places[np.argsort(np.abs(along.ravel()[places]), kind="stable")]
    rows[entry[places]] = places
    return rows


def _close(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.abs(x - y) <= SAME * np.maximum(np.abs(x), np.abs(y))


def _made(traced: Trace) -> list[Any]:
    """Deterministic sites and the arguments of distributions, where those are real numbers.

    Positive arguments count by their logarithm, probabilities by their logit.
    """
    made = []
    for site in traced.values():
        if site["type"] == "deterministic":
            made.append(_floating(site["value"]))
        elif site["type"] == "sample":
            fn = _unwrapped(site["fn"])
            for argument, constraint in fn.arg_constraints.items():
                value = _floating(vars(fn).get(argument))
                if constraint == constraints.positive and value is not None:
                    value = jnp.log(value)
                elif constraint == constraints.unit_interval and value is not None:
                    value = jnp.log(value) - jnp.log1p(-value)
                elif constraint not in (constraints.real, constraints.real_vector):
                    value = None
                made.append(value)
    return [value for value in made if value is not None]


def _floating(value: Any) -> Any:
    """An array of real numbers, or None."""
    floating = hasattr(value, "dtype") and jnp.issubdtype(value.dtype, jnp.floating)
    return jnp.asarray(value) if floating else None


def _unwrapped(fn: Any) -> Any:
    """Without masks, expansions and axes that are declared dependent."""
    while isinstance(fn, dist.Independent | dist.ExpandedDistribution | dist.MaskedDistribution):
        fn = fn.base_dist
    return fn


def _moments(site: Mapping[str, Any]) -> tuple[Any, Any] | None:
    """Location and scale of a site's coordinates, if its distribution has them.

    Of a multivariate normal those of each entry given the ones before it: with u = L⁻¹(x - μ) it
    is x_i = (x_i - L_ii u_i) + L_ii u_i, and the bracket does not depend on x_i.
    """
    fn = _unwrapped(site["fn"])
    if isinstance(fn, dist.MultivariateNormal) and fn.event_shape[-1] <= LONGEST:
        x, factor = site["value"], fn.scale_tril
        diagonal = jnp.diagonal(factor, axis1=-2, axis2=-1)
        wide = jnp.broadcast_to(factor, (*x.shape, x.shape[-1]))
        u = jax.scipy.linalg.solve_triangular(wide, (x - fn.loc)[..., None], lower=True)[..., 0]
        return x - diagonal * u, diagonal
    if isinstance(fn, FAMILIES):
        return fn.loc, fn.scale
    if isinstance(fn, dist.TransformedDistribution) and len(fn.transforms) == 1:
        inner, transform = _unwrapped(fn.base_dist), fn.transforms[0]
        if isinstance(inner, FAMILIES) and type(transform) is transforms.ExpTransform:
            return inner.loc, inner.scale
        if isinstance(inner, FAMILIES) and isinstance(transform, transforms.AffineTransform):
            scale = jnp.abs(transform.scale) * inner.scale
            return transform.loc + transform.scale * inner.loc, scale
    return None
