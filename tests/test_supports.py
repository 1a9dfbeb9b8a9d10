"""Every support: its bijection inverts, lands inside, and has the log-Jacobian it claims."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import infimum
from infimum import supports as S
from infimum.target.bijection import Bijection as Space

CASES = {
    "real": (S.real, (3,)),
    "positive": (S.positive, ()),
    "negative": (S.negative, (2,)),
    "unit_interval": (S.unit_interval, (2, 2)),
    "interval": (S.interval(-1.0, np.array([2.0, 5.0])), (2,)),
    "greater_than": (S.greater_than(4.0), (2,)),
    "less_than": (S.less_than(-3.0), ()),
    "simplex": (S.simplex, (4,)),
    "rows of simplices": (S.simplex, (2, 3)),
    "ordered": (S.ordered, (3,)),
    "positive_ordered": (S.positive_ordered, (3,)),
    "corr_cholesky": (S.corr_cholesky, (3, 3)),
    "zero_sum": (S.zero_sum(1), (4,)),
    "zero_sum over two axes": (S.zero_sum(2), (3, 3)),
}


@pytest.mark.parametrize("name", CASES)
def test_bijection(name):
    support, shape = CASES[name]
    with jax.enable_x64(True):
        space = Space({"x": np.zeros(shape)}, {"x": support})
        z = jnp.asarray(np.random.default_rng(0).normal(size=space.dim))
        params, log_jacobian = space.constrain(z)
        assert params["x"].shape == shape
        assert S.contains(support, np.asarray(params["x"]))
        np.testing.assert_allclose(space.unconstrain(params), z, atol=1e-9)
        expected = _log_volume(space, z)
        if name.startswith(("simplex", "rows", "corr", "zero")):
            # NumPyro's density is over free coordinates of the region, which has lower dimension
            assert np.isfinite(log_jacobian)
        else:
            np.testing.assert_allclose(log_jacobian, expected, atol=1e-9)


def _log_volume(space, z):
    """log |det dparams/dz|, by automatic differentiation."""
    jacobian = jax.jacobian(lambda z: jnp.ravel(space.constrain(z)[0]["x"]))(z)
    return 0.5 * jnp.linalg.slogdet(jacobian.T @ jacobian)[1]


def test_simplex_integrates_to_its_volume():
    """∫ over the simplex of Dirichlet(2, 3, 4) is one, with the free coordinates' volume."""
    a = np.array([2.0, 3.0, 4.0])
    constant = 8 * 7 * 6 * 5 * 4 * 3 * 2 / (1 * 2 * 6)  # Γ(9)/(Γ(2)Γ(3)Γ(4))

    def log_density(p):
        return jnp.log(constant) + jnp.sum((a - 1) * jnp.log(p["w"]))

    target = infimum.Target(log_density, {"w": np.full(3, 1 / 3)}, {"w": "simplex"})
    fit = infimum.fit(target, "fullrank")
    assert abs(fit.log_evidence.value) < 4 * fit.log_evidence.se + 1e-3
    np.testing.assert_allclose(fit.sample(4000, weighted=True)["w"].mean(0), a / 9, atol=0.02)


def test_a_support_may_depend_on_other_parameters():
    """x uniform on (0, 1) and y on (0, 1 - x): a triangle of area one half."""
    target = infimum.Target(
        lambda p: jnp.zeros(()) * p["x"],
        {"x": np.zeros(()), "y": np.zeros(())},
        {"x": S.unit_interval, "y": lambda p: S.interval(0.0, 1.0 - p["x"])},
    )
    fit = infimum.fit(target, "fullrank")
    draws = fit.sample(2000)
    assert np.all(draws["x"] + draws["y"] < 1)
    assert abs(fit.log_evidence.value - np.log(0.5)) < 4 * fit.log_evidence.se + 1e-3


def test_a_branch_gives_its_support_to_all_its_leaves():
    space = Space(
        {"scales": {"a": 1.0, "b": np.ones(2)}, "mu": 0.0}, {"scales": S.positive, "mu": None}
    )
    assert {p.name: p.support.name for p in space.parameters} == {
        "mu": "real",
        "scales.a": "positive",
        "scales.b": "positive",
    }
    assert space.names == ["mu", "scales.a", "scales.b[0]", "scales.b[1]"]


@pytest.mark.parametrize(
    ("example", "supports", "message"),
    [
        ({}, None, "no parameters"),
        ({"n": 3}, None, "'n'.*continuous"),
        ({"n": np.array([True])}, None, "'n'.*continuous"),
        ({"z": 1j}, None, "'z'.*continuous"),
        ({"a": 1.0}, {"b": S.positive}, "'b'.*not a parameter"),
        ({"a": -1.0}, {"a": S.positive}, "'a'.*outside its support positive"),
        ({"a": 1.0}, {"a": S.simplex}, "simplex does not fit parameter 'a'"),
        ({"a": np.ones((2, 3))}, {"a": S.corr_cholesky}, "corr_cholesky does not fit"),
        ({"a": 1.0}, {"a": S.interval(np.zeros(2), 2.0)}, "does not fit parameter 'a'"),
        ({"a": 1.0}, {"a": "positve"}, "'a'.*unknown support 'positve'; known: corr_cholesky"),
        ({"a": 1.0}, {"a": 7}, "'a'.*is not a support"),
        ({"a": 1.0}, {"a": lambda p: S.interval(0.0, p["c"])}, "'a' asks for 'c'"),
        ({"a": np.nan}, None, "'a' is not finite"),
        ({"a": np.zeros(2), "a[0]": 0.0}, None, r"duplicate name 'a\[0\]'"),
        ({"a": np.zeros(1)}, {"a": S.simplex}, "no degree of freedom"),
    ],
)
def test_bad_parameters_are_named(example, supports, message):
    with pytest.raises((TypeError, ValueError), match=message):
        Space(example, supports)


def test_an_empty_interval_is_refused():
    with pytest.raises(ValueError, match="lower bound must be below"):
        S.interval(2.0, 1.0)


def test_numpyro_constraints_are_read_by_their_names():
    from numpyro.distributions import constraints

    assert S.as_support(constraints.nonnegative).name == "positive"
    assert S.as_support(constraints.interval(0.0, 2.0)).arguments == (0.0, 2.0)
    assert not S.as_support(constraints.positive_definite).portable
    with pytest.raises(TypeError, match="discrete"):
        S.as_support(constraints.nonnegative_integer)
