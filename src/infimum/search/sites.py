"""Where scouts set out: near and far from known components, and in rings around them."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from infimum.gaussian.stack import Stack

RADII = (1.0, 2.0, 4.0, 8.0)
"""Distances of scouts from a known component, in its sds."""

HALF_WIDTHS = (3.0, 10.0, 30.0, 100.0)
"""Half the widths of the cubes around the origin that scouts start in, in units of the
parameters."""

BOX_WIDTH = 2.0
"""Width of the box that scouts start in, in widths of the box around all known modes."""

RING_RADII = (0.03, 0.06, 0.12, 0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0)
"""Distances from the middle of a known component, in typical ones of its draws, at which p̂ is
compared with what is known."""

RING_POINTS, RING_NUMBERS = 160, 2**22
"""Points of a ring, and numbers in all rings around one component, 32 MB: fewer points above 2,000
dimensions. Of ten spikes a twentieth as wide as the bulk, half an sd from its middle in d = 10, all
were met."""


def party_sites(
    frames: Stack, party: int, size: int, boxed: bool, rng: np.random.Generator
) -> Float[np.ndarray, "n d"]:
    """Where a party sets out: half of it around known components, half anywhere in a cube.

    Parameters
    ----------
    boxed
        Whether half of the cubes are the box around all components instead.
    """
    d, n = frames.dim, size // 2
    noise = rng.standard_normal((n, d))
    radius = np.resize(np.roll(RADII, party), n)[:, None]
    component = rng.integers(len(frames), size=n)
    near = np.array(
        [
            frames.taken(np.array([k])).push(e[None, None])[0, 0]
            for k, e in zip(component, radius * noise, strict=True)
        ]
    ).reshape(n, d)
    cube = rng.uniform(-1, 1, size=(size - n, d))
    wide = cube * np.resize(np.roll(HALF_WIDTHS, party), size - n)[:, None]
    if boxed:
        low, high = frames.means.min(axis=0), frames.means.max(axis=0)
        box = 0.5 * (low + high) + 0.5 * BOX_WIDTH * (high - low) * cube
        wide[::2] = box[::2]
    return np.concatenate([near, wide])


def rings(dim: int, rng: np.random.Generator) -> Float[np.ndarray, "m d"]:
    """Points in rings around a standard normal component."""
    n = max(1, min(RING_POINTS, RING_NUMBERS // (len(RING_RADII) * dim)))
    eps = rng.standard_normal((len(RING_RADII), n, dim))
    eps /= np.linalg.norm(eps, axis=2, keepdims=True)
    eps *= np.sqrt(dim) * np.array(RING_RADII)[:, None, None]
    return eps.reshape(-1, dim)
