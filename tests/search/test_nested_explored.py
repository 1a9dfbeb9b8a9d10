"""Where Laplace's marginal has its mass far from the exact one, the scales are explored again."""

import numpy as np
import pytest
from scipy.special import expit

import infimum
from infimum.families._smooth.warp import Warp
from infimum.search.nested.tilt import REACH, Tilt


def test_a_tilt_is_the_slope_of_what_is_lacking_and_levels_out():
    warp = Warp.straight(np.array([1.0, -2.0]), np.array([[0.5, 0.0], [0.2, 0.3]]))
    u = np.random.default_rng(0).normal(size=(60, 2))
    log_p = -0.5 * (u**2).sum(axis=1)
    tilt = Tilt.of(warp, u, log_p, 4.0 + u @ np.array([1.5, -0.5]))
    np.testing.assert_allclose(tilt.slope, [1.5, -0.5], atol=0.1)
    value, slopes = tilt.at(warp.theta(u))
    step = 1e-6
    for j, eye in enumerate(np.eye(2)):
        ahead, behind = (tilt.at(warp.theta(u) + side * step * eye)[0] for side in (1, -1))
        np.testing.assert_allclose(slopes[:, j], (ahead - behind) / (2 * step), atol=1e-6)
    far = tilt.at(warp.theta(np.array([[100.0, 0.0]])))[0][0]
    assert far == pytest.approx(REACH * tilt.slope[0], rel=1e-6)
    assert np.ptp(value) < far


def test_points_where_nothing_is_known_do_not_count():
    u = np.linspace(-2, 2, 9)[:, None]
    lack = np.where(u[:, 0] > 1.6, np.nan, 2 * u[:, 0])
    lack[0] = -np.inf
    tilt = Tilt.of(Warp.straight(np.zeros(1), np.eye(1)), u, -0.5 * u[:, 0] ** 2, lack)
    assert tilt.moves == pytest.approx(2.0, abs=0.1)


@pytest.mark.parametrize("rows", [2, 3])
def test_binary_groups_of_few_rows_have_the_exact_scale(rows):
    """Laplace's mode of log τ is sds below the exact one: against quadrature, group by group."""
    n, tau = 400, 2.0
    rng = np.random.default_rng(5)
    y = (rng.random((n, rows)) < expit(tau * rng.normal(size=(n, 1)))).sum(axis=1)

    def density(z):
        t, u = z[:, :1], z[:, 1:]
        likelihood = y * u - rows * np.logaddexp(0.0, u)
        value = (likelihood - 0.5 * (u * np.exp(-t)) ** 2 - t).sum(axis=1)
        slope = np.empty(z.shape)
        slope[:, 1:] = y - rows * expit(u) - u * np.exp(-2 * t)
        slope[:, 0] = ((u * np.exp(-t)) ** 2 - 1).sum(axis=1) - t[:, 0]
        return value - 0.5 * t[:, 0] ** 2, slope

    fit = infimum.fit(infimum.from_numpy(density, n + 1, batched=True), "nested", progress=False)
    t, x = np.linspace(-5, 5, 301), np.linspace(-9, 9, 4001)
    log_p, u = -0.5 * t**2, np.exp(t[:, None]) * x
    for count in range(rows + 1):
        group = np.exp(count * u - rows * np.logaddexp(0.0, u) - 0.5 * x**2)
        log_p += (y == count).sum() * np.log(group.sum(axis=1) * (x[1] - x[0]))
    p = np.exp(log_p - log_p.max())
    mean = (t * p).sum() / p.sum()
    sd = np.sqrt(((t - mean) ** 2 * p).sum() / p.sum())
    log_z = log_p.max() + np.log(p.sum() * (t[1] - t[0]))
    row = fit.summary().iloc[0]
    assert fit.verdict in ("good", "reweight")
    assert abs(row["weighted_mean"] - mean) < 0.1 * sd
    assert abs(row["weighted_sd"] / sd - 1) < 0.1
    assert abs(fit.log_evidence.value - log_z) < 0.05
