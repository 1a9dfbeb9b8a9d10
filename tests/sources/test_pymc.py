"""PyMC models: transforms, graphs without a JAX form, and clear refusals."""

import jax
import numpy as np
import pytest
from languages import import_pymc

import infimum

pm = import_pymc()


def bounded():
    """Transforms of several kinds, one with bounds that move; log Z is not zero."""
    with pm.Model() as model:
        a = pm.Uniform("a", -1.0, 2.0)
        pm.Gamma("g", 2.0, 3.0, shape=(2, 2))
        pm.Dirichlet("p", np.array([1.0, 2.0, 3.0]))
        pm.Uniform("moving", 0.0, pm.math.exp(a))
        pm.Potential("shift", pm.math.log(7.0))
    return model


def test_the_answer_is_the_known_one_and_the_inverse_holds():
    fit = infimum.fit(infimum.from_pymc(bounded()), "fullrank")
    assert abs(fit.log_evidence.value - np.log(7)) < 4 * fit.log_evidence.se
    draws = fit.sample(2000, weighted=True)
    np.testing.assert_allclose(draws["p"].sum(axis=1), 1)
    assert np.all(draws["moving"] < np.exp(draws["a"]))
    np.testing.assert_allclose(draws["p"].mean(axis=0), [1 / 6, 2 / 6, 3 / 6], atol=0.05)
    z = np.random.default_rng(0).normal(size=(4, fit.q.dim))
    inverted, _ = fit.space.free(fit.space.draws(z))
    np.testing.assert_allclose(inverted, z, atol=1e-6)


def test_log_prob_integrates_to_one():
    with pm.Model() as model:
        pm.Beta("x", 2.0, 3.0)
    fit = infimum.fit(infimum.from_pymc(model), "fullrank")
    x = np.linspace(1e-6, 1 - 1e-6, 20_001)
    total = np.trapezoid(np.exp(fit.log_prob({"x": x})), x)
    assert abs(total - 1) < 1e-4


def test_constants_are_not_rounded_to_single_precision():
    import scipy.stats

    y = np.zeros(1000)
    with pm.Model() as model:
        mu = pm.Normal("mu", 0, 5)
        pm.Normal("y", mu, 3, observed=y)
    value = infimum.from_pymc(model).values(np.zeros((1, 1)))[0]
    expected = scipy.stats.norm.logpdf(0, 0, 5) + scipy.stats.norm.logpdf(y, 0, 3).sum()
    np.testing.assert_allclose(value, expected, rtol=1e-13)


def test_the_callers_jax_configuration_is_left_alone():
    infimum.from_pymc(bounded())
    assert not jax.config.jax_enable_x64


@pytest.mark.filterwarnings("ignore:Numba will use object mode:UserWarning")
def test_a_graph_without_a_jax_form_goes_through_pytensor():
    import pytensor.tensor as pt
    from pytensor.graph import Apply, Op

    class Square(Op):
        """x², known to PyTensor only as Python code with a gradient."""

        def make_node(self, x):
            x = pt.as_tensor_variable(x)
            return Apply(self, [x], [x.type()])

        def perform(self, node, inputs, outputs):
            outputs[0][0] = np.asarray(inputs[0] ** 2)

        def grad(self, inputs, gradients):
            return [2 * inputs[0] * gradients[0]]

        def pullback(self, inputs, outputs, gradients):
            return self.grad(inputs, gradients)

    with pm.Model() as model:
        x = pm.Flat("x", shape=2)
        pm.Potential("p", -0.5 * Square()(x - 1.0).sum())
    target = infimum.from_pymc(model)
    assert target.model.backend == "pytensor"
    assert "Square" in target.model.refusal
    fit = infimum.fit(target, "fullrank", draws=500, starts=1)
    assert abs(fit.log_evidence.value - np.log(2 * np.pi)) < 1e-6


def test_models_that_can_not_be_fitted_are_refused():
    with pm.Model() as discrete:
        pm.Normal("x")
        pm.Poisson("k", 2.0)
    with pytest.raises(TypeError, match="discrete variable 'k': sum them out"):
        infimum.from_pymc(discrete)
    with pm.Model() as only_discrete:
        pm.Bernoulli("b", 0.5)
    with pytest.raises(TypeError, match="only discrete free variables 'b'"):
        infimum.from_pymc(only_discrete)
    with pm.Model() as nothing:
        pm.Normal("y", 0.0, 1.0, observed=[1.0])
    with pytest.raises(ValueError, match="no free variable"):
        infimum.from_pymc(nothing)
    with pm.Model() as untransformed:
        pm.HalfNormal("sigma", default_transform=None)
    with pytest.raises(ValueError, match="variable 'sigma' has no transform"):
        infimum.from_pymc(untransformed)
    with pm.Model() as sampled:
        mu = pm.Normal("mu")
        rows = pm.Minibatch(np.zeros(100), batch_size=10)
        pm.Normal("y", mu, 1.0, observed=rows, total_size=100)
    with pytest.raises(ValueError, match=r"pm.Minibatch"):
        infimum.from_pymc(sampled)
    with pytest.raises(TypeError, match=r"takes a pymc.Model, not 3"):
        infimum.from_pymc(3)


def test_predictions_with_new_data_of_another_length():
    x = np.linspace(0, 1, 20)
    with pm.Model(coords={"row": range(20)}) as model:
        data = pm.Data("x", x, dims="row")
        slope = pm.Normal("slope", 0.0, 10.0)
        pm.Normal("y", slope * data, 0.01, observed=3 * x, dims="row", shape=data.shape)
    fit = infimum.fit(infimum.from_pymc(model), "fullrank")
    new = infimum.predict(fit, {"x": np.array([10.0, 20.0])}, coords={"row": [0, 1]}, n=200)
    np.testing.assert_allclose(new["y"].mean(axis=0), [30, 60], rtol=0.01)
    assert infimum.predict(fit, n=3)["y"].shape == (3, 20)
    with pytest.raises(TypeError, match=r"a dict of values for its pm.Data"):
        infimum.predict(fit, 1, 2)
