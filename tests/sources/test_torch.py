"""PyTorch log densities: a graph that is cut is refused, and draws are tensors on request."""

import numpy as np
import pytest

import infimum

torch = pytest.importorskip("torch")


def test_pytorch_code_that_cuts_the_graph_is_refused():
    example = {"a": torch.zeros(()), "b": torch.zeros(2)}

    def detached(p):
        return -0.5 * (p["a"] ** 2 + (p["b"].detach() ** 2).sum())

    def item(p):
        return -0.5 * (p["a"].item() ** 2 + (p["b"] ** 2).sum())

    def number(p):
        return -0.5 * float(p["a"] ** 2)

    with pytest.raises(ValueError, match=r"coordinate 'b\[\d\]'.*look for \.detach\(\), \.item"):
        infimum.from_torch(detached, example)
    with pytest.raises(ValueError, match=r"coordinate 'a': it is given as 0"):
        infimum.from_torch(item, example)
    with pytest.raises(TypeError, match="PyTorch can't differentiate"):
        infimum.from_torch(number, example)
    with pytest.raises(ValueError, match=r"must return a scalar.*\(2,\)"):
        infimum.from_torch(lambda p: -(p["b"] ** 2), example)
    with pytest.raises(ValueError, match="raised KeyError at every point tried: 'c'"):
        infimum.from_torch(lambda p: p["c"], example)
    with pytest.raises(TypeError, match="continuous parameters"):
        infimum.from_torch(lambda p: p["a"], {"a": torch.zeros(2, dtype=torch.int64)})
    with pytest.raises(TypeError, match="takes a function"):
        infimum.from_torch(3, example)


def test_pytorch_gets_tensors_and_gives_them_on_request():
    seen = []

    def log_density(p):
        seen.append((torch.is_tensor(p["x"]), p["x"].dtype, p["x"].shape))
        return (2 * torch.log(p["x"]) - p["x"]).sum()

    target = infimum.from_torch(log_density, {"x": torch.ones(2)}, {"x": "positive"})
    assert all(row[0] and row[1] == torch.float64 and row[2] == (2,) for row in seen)
    fit = infimum.fit(target, "fullrank")
    assert any(start.kind == "example" for start in fit.starts)
    drawn = fit.sample(4, backend="torch")["x"]
    assert torch.is_tensor(drawn)
    np.testing.assert_array_equal(drawn.numpy(), fit.sample(4)["x"])
    assert fit.sample(4, backend="jax")["x"].dtype == np.float64
    with pytest.raises(ValueError, match="backend is 'tf'"):
        fit.sample(4, backend="tf")
    assert abs(fit.log_evidence.value - 2 * np.log(2)) < 5 * fit.log_evidence.se
