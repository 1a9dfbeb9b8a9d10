"""Draw docs/picture.png, `make picture`: one posterior, and the closest q in two families."""

from pathlib import Path

import jax.numpy as jnp
import matplotlib as mpl
import numpy as np

import infimum
from infimum import plots

YEARS = np.arange(-9.0, 1.0)
HEIGHT = np.array([2.9, 2.1, 4.1, 3.4, 5.0, 4.2, 5.9, 5.1, 5.6, 6.9])


def log_density(line):
    """A straight line through ten made-up points with standard error 0.8, under a wide prior."""
    residual = HEIGHT - line["level"] - line["slope"] * YEARS
    prior = (line["level"] / 10) ** 2 + (line["slope"] / 10) ** 2
    return -0.5 * jnp.sum((residual / 0.8) ** 2) - 0.5 * prior


def main():
    """Climb, and draw the fit of each family side by side."""
    mpl.use("agg")
    target = infimum.Target(log_density, {"level": 0.0, "slope": 0.0}, name="a straight line")
    climb = infimum.climb(target)
    print(climb)
    axes = plots.plot_families(climb.fits)
    path = Path(__file__).with_suffix(".png")
    np.ravel(axes)[0].get_figure().savefig(path, dpi=110, bbox_inches="tight")
    print(f"wrote {path.name}, {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
