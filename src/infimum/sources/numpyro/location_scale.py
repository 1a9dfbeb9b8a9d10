"""Location-scale hierarchies of NumPyro models, found by tracing the model.

A latent site belongs to a hierarchy in one of two ways. It is *centred* if its location or scale
depends on other sites. It is *non-centred* if its location and scale are constants, and the model
computes from it a + b·z with a factor b that depends on other sites. The traced model tells which;
names play no part.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from numpyro.distributions import constraints, transforms

from infimum.base.program import double_precision
from infimum.sources.numpyro.call import Site, Trace
from infimum.supports import Support
from infimum.target.bijection import Bijection
from infimum.target.hierarchy import Hierarchy, Parents, dependence, levels
from infimum.target.model import Arrays

LOCATION_SCALE = (
    *(dist.Normal, dist.StudentT, dist.Cauchy, dist.Laplace, dist.Logistic, dist.Gumbel),
    *(dist.SoftLaplace, dist.AsymmetricLaplace),
)
"""Distributions on the line that have a `loc` and a `scale`."""

LONGEST_NORMAL = 8
"""Entries of the longest multivariate normal that is taken entry by entry. Each entry takes a pass
through the model's priors; a longer Gaussian process is left as it is."""

SAME_SLOPE = 1e-10
"""Relative difference up to which two directional derivatives are the same number."""


def find_hierarchy(
    trace: Callable[[Arrays], Trace], space: Bijection, rng: np.random.Generator
) -> Hierarchy | None:
    """The hierarchy of a model, or None if it has none.

    Parameters
    ----------
    trace
        Runs the model at the constrained parameters; traceable by JAX.
    space
        The space of the parameters.
    rng
        Chooses the points at which the model is differentiated.
    """
    with double_precision():
        return _Detector(trace, space, rng).hierarchy()


class _Uses(NamedTuple):
    """Where the model computes a + b·z_j from single entries z_j of a site.

    Attributes
    ----------
    array
        Place of the array among `_computed_arrays`.
    rows
        The row of that array that each entry enters alone, shape (size,); -1 for none.
    """

    array: int
    rows: np.ndarray


class _Entries(NamedTuple):
    """The entries of one site that are part of the hierarchy.

    Attributes
    ----------
    which
        Their places in the site.
    places
        Their places in z.
    """

    name: str
    which: np.ndarray
    places: np.ndarray


class _Detector:
    """Finds the hierarchy of one model by differentiating it at two points."""

    def __init__(
        self, trace: Callable[[Arrays], Trace], space: Bijection, rng: np.random.Generator
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
        self.multivariate_sites: set[str] = set()
        self.sites: list[str] = []
        jax.eval_shape(self._read, self.here)
        self.standard_sites: list[str] = []
        self.uses: dict[str, _Uses] = {}

    def _read(self, params: Arrays) -> None:
        """Note the sites that have a location and a scale."""
        for name, site in self.trace(params).items():
            if self.kinds.get(name) in ("real", "positive") and _moments(site) is not None:
                self.sites.append(name)
                if isinstance(_unwrapped(site["fn"]), dist.MultivariateNormal):
                    self.multivariate_sites.add(name)

    def hierarchy(self) -> Hierarchy | None:
        """Centred and non-centred sites, on their levels."""
        if not self.sites:
            return None
        needs = dependence(self._priors, self.here)
        # Entries of a multivariate normal depend on each other; that is no dependence on a parent.
        needs = {k: v - {k} if k in self.multivariate_sites else v for k, v in needs.items()}
        self._find_uses([k for k, v in needs.items() if not v and self.kinds[k] == "real"])
        needs_of_uses = dependence(self._offsets_and_slopes, self.here) if self.uses else {}
        order = levels({k: v for k, v in {**needs, **needs_of_uses}.items() if v})
        return self._on_levels(order) if order else None

    def _on_levels(self, order: dict[str, int]) -> Hierarchy:
        """The hierarchy of these sites, given the level of each."""
        centred = [self._entries(name) for name in order if name not in self.uses]
        ordered = [*centred, *(self._entries(name) for name in order if name in self.uses)]
        steps = [order[x.name] * LONGEST_NORMAL + self._steps(x) for x in ordered]
        index = np.concatenate([x.places for x in ordered])
        labels = self.space.free_names
        space, priors, uses = self.space, self._priors, self._offsets_and_slopes
        identity = [jnp.stack([np.zeros(len(x.which)), np.ones(len(x.which))]) for x in centred]

        def parents(z: Any) -> Parents:
            params = space.constrain(z)[0]
            prior, use = priors(params), uses(params)
            moments = jnp.concatenate([prior[x.name][:, x.which] for x in ordered], axis=1)
            of_noncentred = [use[x.name] for x in ordered[len(centred) :]]
            return Parents(*moments, *jnp.concatenate([*identity, *of_noncentred], axis=1))

        return Hierarchy(
            names=tuple(labels[i] for i in index),
            index=index,
            level=np.unique(np.concatenate(steps), return_inverse=True)[1],
            centred=np.concatenate(
                [np.full(len(x.which), x.name not in self.uses) for x in ordered]
            ),
            parents=parents,
        )

    def _entries(self, name: str) -> _Entries:
        """Of a centred site every entry, of a non-centred one those that the model uses alone."""
        every = np.arange(math.prod(self.shape[name]))
        which = np.flatnonzero(self.uses[name].rows >= 0) if name in self.uses else every
        return _Entries(name, which, self.place[name] + which)

    def _steps(self, entries: _Entries) -> np.ndarray:
        """Within a multivariate normal each entry comes after the ones before it."""
        multivariate = entries.name in self.multivariate_sites
        length = self.shape[entries.name][-1] if multivariate else 1
        return entries.which % length

    def _priors(self, params: Arrays) -> dict[str, jax.Array]:
        """Location and scale of each site's coordinates, shape (2, size)."""
        trace = self.trace(params)
        priors = {}
        for name in self.sites:
            moments = _moments({**trace[name], "value": params[name]})
            assert moments is not None
            whole = [jnp.broadcast_to(x, self.shape[name]).ravel() for x in moments]
            priors[name] = jnp.stack(whole).astype(float)
        return priors

    # ---- what the model computes from standardised sites -----------------------------------------

    def _slopes(self, name: str, params: Arrays, direction: Any) -> tuple[list[Any], list[Any]]:
        """The arrays that the model computes, and their derivative along a direction of a site."""

        def arrays(value: Any) -> list[Any]:
            return _computed_arrays(self.trace({**params, name: value}))

        values, slopes = jax.jvp(arrays, (params[name],), (direction,))
        return values, slopes

    def _find_uses(self, names: list[str]) -> None:
        """Find rows a + b·z_j, with z_j one entry of one of these sites and a b that varies.

        If a row depends on one entry alone, its derivative along random numbers, over that along
        ones, is the random number of that entry. A second set of random numbers confirms it. The
        row is affine if its slope stays the same as the site moves, and b varies if the slope
        changes as the other sites move.
        """
        rng, shape, here, there = self.rng, self.shape, self.here, self.there
        marks = {name: rng.uniform(1.0, 2.0, size=(2, *shape[name])) for name in names}

        @jax.jit
        def slopes(here: Arrays, there: Arrays, marks: Arrays) -> dict[str, tuple[Any, ...]]:
            def of(name: str, params: Arrays, direction: Any) -> list[Any]:
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

        for name, derivatives in slopes(here, there, marks).items():
            of_arrays = [[np.asarray(x) for x in five] for five in zip(*derivatives, strict=True)]
            rows_of_arrays = [_single_rows(five, marks[name]) for five in of_arrays]
            counts = [int(np.sum(rows >= 0)) for rows in rows_of_arrays]
            if counts and max(counts) > 0:
                best = int(np.argmax(counts))
                self.standard_sites.append(name)
                self.uses[name] = _Uses(best, rows_of_arrays[best])
        self._drop_degenerate_uses()

    def _drop_degenerate_uses(self) -> None:
        """Keep slopes that are neither zero nor undefined if all standardised sites are zero."""
        uses = jax.jit(self._offsets_and_slopes)
        slopes = [
            {k: np.asarray(x)[1] for k, x in uses(at).items()} for at in (self.here, self.there)
        ]
        for name, (array, rows) in list(self.uses.items()):
            fine = [np.isfinite(x[name]) & (x[name] != 0) for x in slopes]
            kept = rows.copy()
            kept[np.flatnonzero(rows >= 0)[~(fine[0] & fine[1])]] = -1
            if np.any(kept >= 0):
                self.uses[name] = _Uses(array, kept)
            else:
                del self.uses[name]

    def _offsets_and_slopes(self, params: Arrays) -> dict[str, jax.Array]:
        """Offset a and slope b of each standardised site's entries in the hierarchy, shape (2, k).

        All standardised sites are set to zero, so that no offset contains another site's term.
        """
        params = {**params, **{name: jnp.zeros(self.shape[name]) for name in self.standard_sites}}
        pairs = {}
        for name, (array, rows) in self.uses.items():
            values_and_slopes = self._slopes(name, params, jnp.ones(self.shape[name]))
            kept_rows = rows[rows >= 0]
            pairs[name] = jnp.stack([jnp.ravel(x[array])[kept_rows] for x in values_and_slopes])
        return pairs


def _single_rows(derivatives: list[np.ndarray], marks: np.ndarray) -> np.ndarray:
    """For each entry the steepest row that is affine in it alone, with a slope that varies; or -1.

    Parameters
    ----------
    derivatives
        Of one array: along ones, along either set of marks, along ones with the site moved, and
        along ones with all other sites moved.
    """
    along, first, second, moved, elsewhere = derivatives
    marks = marks.reshape(2, -1)
    order = np.argsort(marks[0])
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = np.stack([(first / along).ravel(), (second / along).ravel()])
    place = np.searchsorted(marks[0][order], ratios[0] * (1 - SAME_SLOPE)).clip(max=len(order) - 1)
    entry = order[place]
    fine = _close(ratios, marks[:, entry]).all(axis=0)
    fine &= _close(along, moved).ravel() & ~_close(along, elsewhere).ravel()
    rows = np.full(len(order), -1)
    places = np.flatnonzero(fine)
    places = places[np.argsort(np.abs(along.ravel()[places]), kind="stable")]
    rows[entry[places]] = places
    return rows


def _close(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Whether numbers are the same but for rounding."""
    return np.abs(x - y) <= SAME_SLOPE * np.maximum(np.abs(x), np.abs(y))


def _computed_arrays(trace: Trace) -> list[Any]:
    """Deterministic sites and arguments of distributions, as far as these are real numbers.

    Of a positive argument the logarithm is taken, of a probability the logit.
    """
    arrays = []
    for site in trace.values():
        if site["type"] == "deterministic":
            arrays.append(_floating(site["value"]))
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
                arrays.append(value)
    return [value for value in arrays if value is not None]


def _floating(value: Any) -> Any:
    """The value as an array if it holds real numbers, else None."""
    floating = hasattr(value, "dtype") and jnp.issubdtype(value.dtype, jnp.floating)
    return jnp.asarray(value) if floating else None


def _unwrapped(fn: Any) -> Any:
    """The distribution without masks, expansions and axes that are declared dependent."""
    while isinstance(fn, dist.Independent | dist.ExpandedDistribution | dist.MaskedDistribution):
        fn = fn.base_dist
    return fn


def _moments(site: Site) -> tuple[Any, Any] | None:
    """Location and scale of a site's coordinates; None if its distribution has none.

    A multivariate normal has those of each entry given the entries before it: with u = L⁻¹(x - μ),
    x_i = (x_i - L_ii u_i) + L_ii u_i, and the bracket does not depend on x_i.
    """
    fn = _unwrapped(site["fn"])
    if isinstance(fn, dist.MultivariateNormal) and fn.event_shape[-1] <= LONGEST_NORMAL:
        x, factor = site["value"], fn.scale_tril
        diagonal = jnp.diagonal(factor, axis1=-2, axis2=-1)
        wide = jnp.broadcast_to(factor, (*x.shape, x.shape[-1]))
        u = jax.scipy.linalg.solve_triangular(wide, (x - fn.loc)[..., None], lower=True)[..., 0]
        return x - diagonal * u, diagonal
    if isinstance(fn, LOCATION_SCALE):
        return fn.loc, fn.scale
    if isinstance(fn, dist.TransformedDistribution) and len(fn.transforms) == 1:
        inner, transform = _unwrapped(fn.base_dist), fn.transforms[0]
        if isinstance(inner, LOCATION_SCALE) and type(transform) is transforms.ExpTransform:
            return inner.loc, inner.scale
        if isinstance(inner, LOCATION_SCALE) and isinstance(transform, transforms.AffineTransform):
            scale = jnp.abs(transform.scale) * inner.scale
            return transform.loc + transform.scale * inner.loc, scale
    return None
