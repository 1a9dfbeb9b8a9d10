"""Densities of draws on a grid: by kernels, and of weighted draws by the smoothed weight."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

LEAST_EFFECTIVE = 40.0
"""Effective draws that a weight on a grid is the mean of: its standard error is a sixth. Where
they are thin, the kernel is as much wider as it takes."""

WIDTHS, KNOWN_WIDTHS = 6, 3
"""Kernels, each √2 times wider than the last; and those by which a density is known. In wider ones
the weight changes too much: below 0.2 the density of the eight schools' tau was 0.04 to 0.15, where
0.203 is right."""

NEGLIGIBLE = 1e-9
"""Part of the largest mass on a grid below which a convolution by FFT says nothing."""


def smoothed(draws: np.ndarray, w: np.ndarray, nodes: np.ndarray) -> np.ndarray:
    """Mass of weighted draws on a grid, by Gaussian kernels with the shape of their covariance.

    The kernels have Scott's width for the effective number of draws. The draws are first shrunk
    towards their mean, so that smoothing does not change their covariance (West 1993). Where draws
    are sparse, the kernels are up to four times wider: their width is the inverse root of a first
    estimate (Abramson 1982), in steps of √2.
    """
    draws, w = draws[w > 0], w[w > 0]
    step = nodes[:, 1] - nodes[:, 0]
    scott = _scott(w, len(nodes))
    centred = (draws - w @ draws) / np.sqrt(1 + scott)
    histogram = _histogram(w @ draws + centred, w, nodes)
    kernel = scott * (centred.T * w) @ centred + np.diag(step**2) / 4
    first = np.maximum(blurred(histogram, kernel, step), np.finfo(float).tiny)
    middle = np.exp(np.sum(histogram * np.log(first)) / histogram.sum())
    wider = np.clip(np.round(np.log2(middle / first)) - 2, 0, 4)
    parts = (
        blurred(np.where(wider == k, histogram, 0.0), 2**k * kernel, step)
        for k in np.unique(wider[histogram > 0])
    )
    return np.maximum(sum(parts), 0.0)


def reweighted(
    draws: Float[np.ndarray, "m k"], w: Float[np.ndarray, " m"], nodes: Float[np.ndarray, "k n"]
) -> tuple[np.ndarray, np.ndarray]:
    """Mass of p* on a grid: that of the proposal's draws times the mean weight near each node.

    A kernel over weighted draws makes a needle of every heavy one. The draws are many, and the
    weight changes on the scale where q lives; so it is the weight that is smoothed, over at least
    `LEAST_EFFECTIVE` effective draws.

    Returns
    -------
    The mass, up to a factor, and where it is known.
    """
    step, d = nodes[:, 1] - nodes[:, 0], len(nodes)
    even = np.full(len(draws), 1 / len(draws))
    heavy, square, plain = (_histogram(draws, v, nodes) for v in (w, w**2, even))
    mean = w @ draws
    covariance = ((draws - mean).T * w) @ (draws - mean)
    kernel = _scott(w, d) * covariance + np.diag(step**2) / 4
    log_ratio, effective = [], []
    for k in range(WIDTHS):
        wide = 2.0**k * kernel
        near = _positive(blurred(heavy, wide, step))
        # The square of a kernel is one of half its covariance.
        volume = np.sqrt((4 * np.pi) ** d * np.linalg.det(wide)) / np.prod(step)
        squares = _positive(blurred(square, wide / 2, step)) / volume
        log_ratio.append(np.log(near / _positive(blurred(plain, wide, step))))
        effective.append(np.where(near > NEGLIGIBLE * near.max(), near**2 / squares, 1.0))
    log_weight, known = _first_with_enough(np.array(log_ratio), np.array(effective))
    return smoothed(draws, even, nodes) * np.exp(log_weight), known


def _first_with_enough(
    values: Float[np.ndarray, "w ..."], effective: Float[np.ndarray, "w ..."]
) -> tuple[np.ndarray, np.ndarray]:
    """At each node the value of the narrowest kernel that has enough draws, between two kernels."""
    log_n, goal = np.log(np.maximum.accumulate(effective, axis=0)), np.log(LEAST_EFFECTIVE)
    value, enough = values[0], log_n >= goal
    for k in range(1, len(values)):
        gain = np.maximum(log_n[k] - log_n[k - 1], NEGLIGIBLE)
        part = np.clip((goal - log_n[k - 1]) / gain, 0.0, 1.0)
        between = part * values[k] + (1 - part) * values[k - 1]
        value = np.where(enough[k - 1], value, between)
    return np.where(enough[-1], value, values[-1]), enough[KNOWN_WIDTHS - 1]


def blurred(mass: np.ndarray, covariance: np.ndarray, step: np.ndarray) -> np.ndarray:
    """Convolve mass on a grid with a centred Gaussian, reflected at the grid's ends."""
    half = len(mass) // 2
    padded = np.fft.fftn(np.pad(mass, half, mode="symmetric"))
    axes = [2 * np.pi * np.fft.fftfreq(n, h) for n, h in zip(padded.shape, step, strict=True)]
    waves = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
    damping = np.exp(-0.5 * np.sum(waves @ covariance * waves, axis=-1))
    return np.fft.ifftn(padded * damping).real[(slice(half, half + len(mass)),) * mass.ndim]


def _histogram(draws: np.ndarray, w: np.ndarray, nodes: np.ndarray) -> np.ndarray:
    step = nodes[:, 1] - nodes[:, 0]
    edges = [np.append(x - h / 2, x[-1] + h / 2) for x, h in zip(nodes, step, strict=True)]
    return np.histogramdd(draws, bins=edges, weights=w)[0]


def _positive(mass: np.ndarray) -> np.ndarray:
    """The mass, at least a part of its largest that rounding leaves."""
    return np.maximum(mass, NEGLIGIBLE * mass.max())


def _scott(w: np.ndarray, k: int) -> float:
    """The square of Scott's width, in units of the covariance, for the effective draws."""
    return float(np.sum(w**2) ** (2 / (4 + k)))
