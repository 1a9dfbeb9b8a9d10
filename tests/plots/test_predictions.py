"""The predictive check counts the observations that lie in their intervals."""

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest

import infimum
from infimum import plots


def test_predictions_count_the_observations_in_their_intervals():
    def model(y):
        mu = numpyro.sample("mu", dist.Normal(0.0, 5.0))
        numpyro.sample("y", dist.Poisson(jnp.exp(mu)).expand(y.shape), obs=y)

    y = np.random.default_rng(0).poisson(3.0, 60).astype(float)
    fit = infimum.fit(infimum.from_numpyro(model, y), "meanfield", starts=1, draws=500)
    drawn = np.zeros((100, 60))
    drawn[:, :45] = y[:45]
    drawn[:, 45:] = y[45:] + 1
    panel = plots.plot_predictions(fit, predicted={"y": drawn})
    assert panel.get_title("left") == "75% of 60 observations within their 90% interval"
    panel = plots.plot_predictions(fit)
    assert float(panel.get_title("left").split("%")[0]) > 80
    edges = panel.patches[-1].get_data().edges
    np.testing.assert_allclose(np.diff(edges), 1.0)
    assert edges[0] <= y.min() - 0.5
    assert y.max() + 0.5 <= edges[-1]
    panel.figure.canvas.draw()
    with pytest.raises(ValueError, match="no observed site 'x'; observed: y"):
        plots.plot_predictions(fit, "x")
    with pytest.raises(ValueError, match="does not predict its observed site 'y'"):
        plots.plot_predictions(fit, predicted={})
