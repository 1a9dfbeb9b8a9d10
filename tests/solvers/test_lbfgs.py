"""L-BFGS: Newton's direction for a quadratic, and a line search that knows its rounding."""

import numpy as np
import pytest

from infimum.solvers._lbfgs import Descent, History

MATRIX = np.array([[1.0, 0.3, 0.0], [0.3, 0.8, 0.1], [0.0, 0.1, 0.6]])


def value(theta):
    return 0.5 * theta @ MATRIX @ theta


def test_a_quadratic_is_minimised():
    descent, loss = Descent(), value(np.zeros(3))
    start = np.array([1.0, -2.0, 0.5])
    descent.begin(MATRIX @ start, np.array([1.0, 2.0]))
    loss = value(start)
    for _ in range(30):
        if descent.aim() < 1e-14:
            break
        descent.limit(float(np.abs(descent.direction).max()))
        theta = descent.trial()
        at = value(start + theta)
        if descent.falls(loss, at):
            descent.move(theta, MATRIX @ (start + theta))
            loss = at
        else:
            assert descent.shorten()
    np.testing.assert_allclose(start + descent.theta, 0, atol=1e-6)


def test_what_is_left_is_exact_with_enough_steps():
    """With d pairs the implied Hessian is that of the quadratic."""
    history, rng = History(), np.random.default_rng(0)
    for step in np.linalg.qr(rng.standard_normal((3, 3)))[0] * 0.1:
        history.add(step, MATRIX @ step)
    gradient = rng.standard_normal(3)
    exact = -np.linalg.solve(MATRIX, gradient)
    direction = history.direction(gradient)
    assert gradient @ direction < 0
    assert direction @ exact > 0


def test_a_pair_that_curves_downwards_is_left_out():
    history = History()
    history.add(np.array([1.0, 0.0]), np.array([-1.0, 0.0]))
    assert not history.steps
    assert history.scale() == 1.0


def test_a_step_is_shortened_until_rounding_hides_it():
    descent = Descent()
    descent.begin(np.array([1.0, 0.0]), np.array([1e6]))
    assert descent.aim() == pytest.approx(0.5)
    descent.limit(1.0)
    n = 0
    while descent.shorten():
        n += 1
    assert descent.length <= descent.rounding or descent.length < 1e-8
    assert 10 < n < 25
    assert not descent.forget()


def test_a_whole_step_is_limited_to_two_sds():
    descent = Descent()
    descent.begin(np.array([10.0, 0.0]), np.ones(1))
    descent.aim()
    descent.limit(float(np.abs(descent.direction).max()))
    np.testing.assert_allclose(descent.trial(), [-2.0, 0.0])
