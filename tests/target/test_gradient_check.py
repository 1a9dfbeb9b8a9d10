"""The first look at a gradient: wrong ones are refused, and noise of a solver's size is not."""

import zlib

import numpy as np
import pytest

from infimum.target.foreign import ForeignDensity
from infimum.target.gradient_check import check_gradient
from infimum.target.guarded import GuardedCode

DIM = 8
NAMES = [f"z[{i}]" for i in range(DIM)]


def density(seed: int, noise: float, error: float = 0.0, steep: float = 1.0) -> ForeignDensity:
    """A smooth log p̂ with an error of its own at each point, as an adaptive solver has it."""
    factor = np.random.default_rng(seed).normal(size=(DIM, DIM))
    precision = steep * (factor @ factor.T + np.eye(DIM))

    def log_p(z):
        own = zlib.crc32(z.tobytes(), seed) / 2**31 - 1
        value = -0.5 * z @ precision @ z - steep * np.logaddexp(0, z).sum() + noise * own
        gradient = -precision @ z - steep / (1 + np.exp(-z))
        gradient[2] += error
        return value, gradient

    return ForeignDensity(GuardedCode.of_points(log_p, DIM))


@pytest.mark.parametrize("steep", [1.0, 0.01])
@pytest.mark.parametrize("noise", [0.0, 1e-9, 1e-6, 1e-4, 1e-2])
def test_a_right_gradient_of_noisy_values_passes(noise, steep):
    for seed in range(20):
        check_gradient(density(seed, noise, steep=steep), NAMES)


@pytest.mark.parametrize("noise", [0.0, 1e-9, 1e-6])
def test_a_wrong_gradient_of_noisy_values_is_refused(noise):
    for seed in range(10):
        with pytest.raises(ValueError, match=r"wrong in coordinate 'z\[2\]'"):
            check_gradient(density(seed, noise, error=2.0), NAMES)


def test_values_that_change_from_call_to_call_are_refused():
    rng = np.random.default_rng(0)
    code = GuardedCode.of_points(lambda z: (-0.5 * z @ z + 1e-3 * rng.normal(), -z), DIM)
    with pytest.raises(ValueError, match="at one and the same point"):
        check_gradient(ForeignDensity(code), NAMES)
