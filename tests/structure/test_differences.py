"""Curvature from differences of gradients: exact for a quadratic, whatever the root."""

import numpy as np

from infimum.structure.differences import curvature_from, difference_steps, slope_changes


def test_the_curvature_of_a_quadratic_is_exact():
    rng = np.random.default_rng(0)
    root, half = rng.standard_normal((3, 3)), rng.standard_normal((3, 3))
    precision = half @ half.T
    points = rng.standard_normal((5, 1, 3)) + difference_steps(root, 1e-3)
    gradient = -points @ precision
    expected = root.T @ precision @ root
    changes = slope_changes(gradient, 1e-3)
    np.testing.assert_allclose(changes, np.tile(-(root.T @ precision), (5, 1, 1)), rtol=1e-8)
    np.testing.assert_allclose(
        curvature_from(gradient @ root, 1e-3), np.tile(expected, (5, 1, 1)), rtol=1e-8, atol=1e-10
    )
