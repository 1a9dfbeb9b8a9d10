"""Any function that returns log p̂: what is refused before any work, names, and no gradient."""

import numpy as np
import pytest

import infimum
from infimum.solvers import StochasticGradient

RNG = np.random.default_rng(0)


def normal(z):
    """log Z = log 2 at d = 3, with its gradient."""
    return np.log(2) - 1.5 * np.log(2 * np.pi) - 0.5 * z @ z, -z


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda z: (normal(z)[0], z), r"wrong in coordinate 'z\[\d\]'.*the sign is wrong"),
        (lambda z: (normal(z)[0], -z * [1, 1, 0]), r"coordinate 'z\[2\]': it is given as -?0.*say"),
        (lambda z: (normal(z)[0], -z[:2]), r"a gradient of shape \(2,\), expected \(3,\)"),
        (lambda z: (normal(z)[0], [1, 2, 3]), "a gradient of dtype int64, expected float64"),
        (lambda z: (normal(z)[0] + 0j, -z), "log p̂ of dtype complex128"),
        (lambda z: (z, -z), r"log p̂ of shape \(3,\), expected \(\): sum over observations"),
        (lambda z: (1.0, -z, 2), "it returned 3 things"),
        (lambda z: "text", "log p̂ of dtype <U4"),
        (lambda z: undefined(z), "raised NameError at every point tried: name 'undefined'"),
        (lambda z: (RNG.normal(), -z), "at one and the same point: it must be a function"),
    ],
)
def test_wrong_code_is_refused_before_any_work(function, message):
    with pytest.raises((TypeError, ValueError), match=message):
        infimum.from_numpy(function, 3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((normal, 0), "dim is 0"),
        ((normal, 2.5), "dim is 2.5"),
        ((3, 3), "takes a function"),
        ((normal, 3, ["a", "b"]), "3 different names"),
        ((normal, 3, ["a", "b", "a"]), "3 different names"),
        ((normal, 3, ["a[0]", "a[2]", "b"]), "do not make an array"),
    ],
)
def test_wrong_arguments_are_refused(arguments, message):
    with pytest.raises((TypeError, ValueError), match=message):
        infimum.from_numpy(*arguments)


def test_single_precision_passes():
    def rough(z):
        value, gradient = normal(z.astype(np.float32))
        return np.float32(value), gradient

    fit = infimum.fit(infimum.from_numpy(rough, 3), "fullrank")
    assert abs(fit.log_evidence.value - np.log(2)) < 1e-4


def test_names_make_arrays_and_keep_the_users_order():
    names = ["sigma", "beta[1]", "beta[0]", "a[0, 0]", "a[0, 1]"]
    means = np.arange(5.0)
    target = infimum.from_numpy(
        lambda z: (-0.5 * np.sum((z - means) ** 2), means - z), 5, names, name="named"
    )
    fit = infimum.fit(target, "meanfield")
    draws = fit.sample(2000)
    assert {k: x.shape[1:] for k, x in draws.items()} == {"sigma": (), "beta": (2,), "a": (1, 2)}
    for name, expected in (("sigma", 0), ("beta", [2, 1]), ("a", [[3, 4]])):
        np.testing.assert_allclose(draws[name].mean(axis=0), expected, atol=0.1)


def test_values_alone_suffice_for_few_dimensions():
    rng = np.random.default_rng(0)
    root = rng.normal(size=(6, 6))
    precision = root @ root.T + np.eye(6)
    mean = 10 * rng.normal(size=6)
    constant = 3 - 3 * np.log(2 * np.pi) + 0.5 * np.linalg.slogdet(precision)[1]
    target = infimum.from_numpy(lambda z: constant - 0.5 * (z - mean) @ precision @ (z - mean), 6)
    fit = infimum.fit(target, "fullrank")
    assert abs(fit.log_evidence.value - 3) < 1e-8
    assert abs(fit.kl.value) < 1e-6
    np.testing.assert_allclose(np.asarray(fit.q.mean), mean, atol=1e-6)
    assert "values (there is no gradient)" in str(fit)


def test_values_alone_find_a_skewed_optimum():
    """Mean-field of exp(3a - e^a): the stationary point of its ELBO has variance 1/3.

    A relative error of 0.2 in a variance costs 0.01 nats, the tolerance.
    """
    fit = infimum.fit(infimum.from_numpy(lambda z: np.sum(3 * z - np.exp(z)), 2), "meanfield")
    assert fit.reason.converged
    variance = np.diag(fit.q.covariance())
    np.testing.assert_allclose(variance, 1 / 3, rtol=0.2)
    np.testing.assert_allclose(fit.q.mean + variance / 2, np.log(3), atol=0.1)


def test_without_a_gradient_many_dimensions_are_refused():
    with pytest.raises(ValueError, match="up to 20 coordinates, this has 21"):
        infimum.from_numpy(lambda z: -0.5 * z @ z, 21)
    target = infimum.from_numpy(lambda z: -0.5 * z @ z, 2)
    with pytest.raises(
        ValueError, match="StochasticGradient needs a gradient, and the target has none"
    ):
        infimum.fit(target, "meanfield", solver=StochasticGradient())
