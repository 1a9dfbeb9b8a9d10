"""The picture of a sparse Gaussian shows its pattern, and nothing else."""

import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import pytest

import infimum
from infimum import plots


def pairs_of(dim):
    """A chain's worth of numbers, and two that hang on all of them."""

    def log_density(p):
        step = p["x"][1:] - 0.5 * p["x"][:-1]
        inside = jnp.sum(step**2) + jnp.sum((p["x"] - p["a"]) ** 2) * 0.1
        return -0.5 * (inside + p["a"] ** 2 + p["b"] ** 2 - p["a"] * p["b"])

    target = infimum.Target(log_density, {"a": 0.0, "b": 0.0, "x": np.zeros(dim)})
    return infimum.fit(target, "sparse", starts=1)


@pytest.mark.parametrize("dim", [3, 300])
def test_a_sparse_fit_is_drawn_as_the_pattern_that_it_has(dim, tmp_path):
    fit = pairs_of(dim)
    panels = plots.plot_sparsity(infimum.load(fit.save(tmp_path / "fit.zip")))
    row, column = fit.q.edges
    size = fit.q.dim
    dense = np.diag(fit.q.precision()[:size])
    dense[row, column] = dense[column, row] = fit.q.precision()[size:]
    diagonal, marks = panels[0].collections[:2]
    assert len(diagonal.get_offsets()) == size
    drawn = {tuple(int(x) for x in place) for place in marks.get_offsets()}
    assert drawn == {*zip(row, column, strict=True), *zip(column, row, strict=True)}
    scale = np.sqrt(np.outer(np.diag(dense), np.diag(dense)))
    places = marks.get_offsets().astype(int)
    partial = -(dense / scale)[places[:, 1], places[:, 0]]
    np.testing.assert_allclose(marks.get_array(), partial, atol=1e-12)
    covariance = np.linalg.inv(dense)
    sd = np.sqrt(np.diag(covariance))
    correlation = (covariance / np.outer(sd, sd))[places[:, 1], places[:, 0]]
    np.testing.assert_allclose(panels[1].collections[1].get_array(), correlation, atol=1e-8)
    labels = [label.get_text() for label in panels[0].get_yticklabels()]
    assert labels == (["a", "b", "x"] if dim == 3 else ["a, b", "x"])


def test_a_pattern_goes_into_given_axes_and_needs_one(make_gaussian):
    _, axes = plt.subplots(1, 2)
    assert plots.plot_sparsity(pairs_of(3), axes=axes)[0] is axes[0]
    with pytest.raises(ValueError, match="family is 'fullrank', which has no pattern"):
        plots.plot_sparsity(infimum.fit(make_gaussian(2).target, "fullrank", starts=1))
