"""Ascents: many points climb together as each would alone, and what is undefined is counted."""

import numpy as np
import scipy.optimize

from infimum.search.ascent import ASCENT_STEPS, Ascent


class Density:
    """log p̂ with its gradient, and how many points it was asked for at a time."""

    def __init__(self, function):
        self.function, self.asked = function, []

    def value_and_gradient(self, z):
        self.asked.append(len(z))
        return self.function(z)


def normal(z):
    scale = np.array([1.0, 10.0, 0.1])
    return -0.5 * ((z - 2) ** 2 / scale).sum(axis=1), -(z - 2) / scale


def valley(z):
    """Minus Rosenbrock's function."""
    return (
        -np.array([scipy.optimize.rosen(x) for x in z]),
        -np.array([scipy.optimize.rosen_der(x) for x in z]),
    )


POINTS = np.random.default_rng(0).normal(size=(7, 3))


def test_all_reach_the_top_and_tell_the_curvature():
    ascent, density = Ascent(POINTS), Density(normal)
    ascent.run(density)
    np.testing.assert_allclose(ascent.value, 0.0, atol=0.05)
    assert (ascent.n_steps <= ASCENT_STEPS + 1).all()
    assert sum(density.asked) == ascent.n_steps.sum()
    assert density.asked == sorted(density.asked, reverse=True)
    np.testing.assert_allclose(ascent.curvature()[:, 2], 10.0, rtol=0.01)


def test_each_goes_its_own_way_whoever_goes_with_it():
    together = Ascent(POINTS)
    together.run(Density(valley))
    for i, point in enumerate(POINTS):
        alone = Ascent(point[None])
        alone.run(Density(valley))
        np.testing.assert_allclose(alone.x[0], together.x[i], atol=1e-9)
        assert alone.n_steps[0] == together.n_steps[i]
    assert (together.value > valley(POINTS)[0]).all()


def test_whoever_watches_may_end_one():
    ascent = Ascent(POINTS)

    def look(running):
        ascent.done[running[running == 3]] = True

    ascent.run(Density(normal), look)
    assert ascent.n_steps[3] == 1
    np.testing.assert_array_equal(ascent.x[3], POINTS[3])


def test_what_is_undefined_or_outside_is_counted_and_not_entered():
    def fenced(z):
        log_p, gradient = normal(z)
        log_p = np.where(z[:, 0] > 1.0, np.nan, np.where(z[:, 0] < -3.0, -np.inf, log_p))
        return log_p, gradient

    points = np.array([[0.0, 0.0, 2.0], [-4.0, 0.0, 2.0], [1.5, 0.0, 2.0]])
    ascent = Ascent(points)
    ascent.run(Density(fenced))
    assert ascent.n_undefined[0] > 0
    assert ascent.first_undefined[0][0] > 1.0
    assert 0.5 < ascent.x[0, 0] <= 1.0
    assert ascent.value[0] > fenced(points[:1])[0]
    assert ascent.n_steps[1] == ascent.n_zero[1] == 1
    assert (ascent.n_undefined[1], ascent.first_undefined[1]) == (0, None)
    assert ascent.n_steps[2] == ascent.n_undefined[2] == 1
    assert np.isnan(ascent.curvature()[1:]).all()
