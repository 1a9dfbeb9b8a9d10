"""What tests of pictures share: targets, and what is drawn and written on a panel."""

import dataclasses

import jax.numpy as jnp
import matplotlib as mpl
import numpy as np
from matplotlib.contour import QuadContourSet

import infimum

COVARIANCE = np.array([[1.0, 1.2, 0.0], [1.2, 2.0, 0.3], [0.0, 0.3, 0.5]])


def gaussian(d):
    precision = jnp.asarray(np.linalg.inv(COVARIANCE[:d, :d]))
    return infimum.Target(lambda z: 2.0 - 0.5 * z @ precision @ z, np.zeros(d))


def regions(panel):
    """(p*'s filled, q's line) contours of a panel; either may be missing."""
    sets = [c for c in panel.collections if isinstance(c, QuadContourSet)]
    return [c for c in sets if c.filled], [c for c in sets if not c.filled]


def area(contour):
    """Area inside the first path of a contour set."""
    x, y = contour.get_paths()[0].to_polygons()[0].T
    return 0.5 * abs(np.sum(x * np.roll(y, 1) - y * np.roll(x, 1)))


def words(axes):
    """Everything that is written on the figure of these axes."""
    return "\n".join(text.get_text() for text in np.ravel(axes)[0].figure.findobj(mpl.text.Text))


def undefined_at_one_draw(fit, **changes):
    """A fit whose density is NaN at one draw."""
    log_p = np.where(np.arange(len(fit.log_p)) == 3, np.nan, fit.log_p)
    draws = dataclasses.replace(fit.weighed, log_p=log_p)
    assessment = dataclasses.replace(fit.assessment, draws=draws)
    return dataclasses.replace(fit, assessment=assessment, **changes)
