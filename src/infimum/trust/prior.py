"""The prior of a NumPyro model as a simulator of parameters, data and their posterior."""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray
from numpyro import handlers
from numpyro.distributions.distribution import Unit

from infimum.base.errors import coded_error
from infimum.base.program import double_precision
from infimum.sources.numpyro.posteriors import posteriors
from infimum.sources.numpyro.source import from_numpyro
from infimum.target.target import Target


class Prior:
    """A NumPyro model as a simulator: ``rng -> (params, target)``.

    Simulated values replace the observed ones. They are data of the compiled program, so that all
    targets share one program.

    Parameters
    ----------
    model, args, kwargs
        As for `from_numpyro`. The sites that have data under these arguments are simulated.

    Raises
    ------
    TypeError, ValueError
        As `from_numpyro` does; also if there is no observed site, or if no data can be drawn from
        the model.
    """

    def __init__(
        self, model: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        self.model, self.args, self.kwargs = model, args, kwargs
        self.target = from_numpyro(model, *args, **kwargs)
        if not self.target.model.observed():
            raise coded_error(
                ValueError,
                "E826",
                f"model {self.target.name!r} has no observed site under these arguments: give "
                "it data, whose shapes say how many values to simulate",
            )

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the model alone: another process reads it again."""
        return Prior, (self.model, self.args, self.kwargs)

    def __call__(self, rng: np.random.Generator) -> tuple[dict[str, np.ndarray], Target]:
        """Draw parameters, and data given the parameters; return the posterior of the data too."""
        with double_precision():
            drawn = self._draw(jax.random.key(int(rng.integers(2**63))))
            posteriors = self._posteriors
            params, data = drawn
            params = jax.tree_util.tree_map(np.asarray, params)
            if posteriors is not None:
                return params, posteriors(data)
        return params, from_numpyro(self._given(data), *self.args, **self.kwargs)

    @functools.cached_property
    def _posteriors(self) -> Callable[[dict[str, Any]], Target] | None:
        """The posterior as a function of the data; None if the model has to be read for each."""
        with double_precision():
            _, data = self._draw(jax.random.key(0))
            first = from_numpyro(self._given(data), *self.args, **self.kwargs)
            return posteriors(self._given, first)

    def _given(self, data: Mapping[str, Any]) -> Callable[..., Any]:
        """The model with these JAX arrays as observed values."""
        # JAX writes a scalar into the program, which would be compiled again for each value.
        arrays = {name: jnp.atleast_1d(x) for name, x in data.items()}

        @functools.wraps(self.model)
        def conditioned(*args: Any, **kwargs: Any) -> Any:
            values = {name: x if data[name].ndim else x[0] for name, x in arrays.items()}
            return handlers.condition(self.model, data=values)(*args, **kwargs)

        return conditioned

    @functools.cached_property
    def _draw(self) -> Callable[[PRNGKeyArray], list[dict[str, Array]]]:
        """A compiled function of a key that draws parameters, and data given the parameters."""
        model: Any = self.target.model
        names, observed = [leaf.name for leaf in self.target.space.leaves], list(model.observed())

        def draw(key: PRNGKeyArray) -> list[dict[str, Array]]:
            try:
                sites = model.prior(key)
            except NotImplementedError as error:
                raise coded_error(
                    ValueError,
                    "E826",
                    f"model {self.target.name!r} has a prior that can't be drawn from "
                    f"({error!r}): give it proper priors, or give simulate=, a function that "
                    "draws parameters and data",
                ) from None
            for name, site in sites.items():
                _check(name, site, observed)
            return [{k: sites[k]["value"] for k in some} for some in (names, observed)]

        return jax.jit(draw)


def _check(name: str, site: dict[str, Any], observed: Collection[str]) -> None:
    """Refuse a site whose draws do not follow its density.

    Raises
    ------
    ValueError
        For a `numpyro.factor`, data inside a scan, and a scaled density.
    """
    if site["type"] != "sample":
        return
    cure = "give simulate=, a function that draws parameters and data"
    if site["is_observed"] and isinstance(site["fn"], Unit):
        raise coded_error(
            ValueError,
            "E826",
            f"site {name!r} is a numpyro.factor, no data can be drawn from it: {cure}",
        )
    if site["is_observed"] or (name in observed and site.get("_control_flow_done")):
        raise coded_error(
            ValueError, "E826", f"observed site {name!r} is in a scan, which keeps its data: {cure}"
        )
    if site["scale"] is not None:
        raise coded_error(
            ValueError,
            "E826",
            f"the density of site {name!r} is scaled, as that of a subsample: give the model "
            f"all of its data, or {cure}",
        )
