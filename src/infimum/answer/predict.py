"""The verb `predict`: draws of a model's observed sites, given the draws of a fit."""

from __future__ import annotations

from typing import Any

import numpy as np

from infimum.answer.answer import Answer
from infimum.answer.resampling import some_kept
from infimum.base.errors import coded_error
from infimum.base.seeds import PREDICT_STREAM, Seed, generator


def predict(
    fit: Answer, *args: Any, n: int = 1000, seed: Seed = 0, weighted: bool = False, **kwargs: Any
) -> dict[str, np.ndarray]:
    """Posterior predictive draws of the model's observed sites, also for new data.

    Parameters
    ----------
    fit
        A fit of a model that says where its data come from: NumPyro, PyMC, Stan.
    *args, **kwargs
        New data; without them predictions are for the model's own. NumPyro: new arguments of the
        model; those not given stay as they are, apart from observations. PyMC: a dict of new
        values for its `pm.Data`, and `coords` where lengths change. Stan: a dict or the path of
        a ``.json`` file, or a `bridgestan.StanModel` with other data; predictions are its generated
        quantities.
    n
        Number of draws.
    seed
        The same seed gives the same predictions.
    weighted
        Whether to predict from importance-resampled draws, as `Fit.sample` makes them.

    Returns
    -------
    Arrays by site, with a leading axis of length n.

    Raises
    ------
    ValueError
        If the target is a bare log density, or the fit was loaded from disk.

    Examples
    --------
    >>> import numpyro, numpyro.distributions as dist
    >>> from infimum import from_numpyro, fit
    >>> def model(y=None):
    ...     mu = numpyro.sample("mu", dist.Normal(0.0, 1.0))
    ...     numpyro.sample("y", dist.Normal(mu, 1.0).expand([3]), obs=y)
    >>> predict(fit(from_numpyro(model, np.ones(3))), n=5)["y"].shape
    (5, 3)
    """
    if not isinstance(fit, Answer):
        raise coded_error(
            TypeError,
            "E430",
            f"predict takes a fit, not {fit!r}: infimum.predict(infimum.fit(target))",
        )
    enough = isinstance(n, int) and 1 <= n <= fit.n_draws
    if fit.weighed.kept is not None and enough and not weighted:
        draws = some_kept(fit.weighed, n, seed)
    else:
        draws = fit.sample(n, seed=seed, weighted=weighted)
    return fit.model.predict(
        draws, int(generator(seed, PREDICT_STREAM).integers(2**31)), args, kwargs
    )
