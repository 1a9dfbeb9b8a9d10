"""What tests of checkpoints share: runs that are cut off, counted targets, answers bit for bit."""

from pathlib import Path

import jax
import numpy as np
import pytest

import infimum


class CutOffError(Exception):
    """Ends a fit as a kill does: no more is evaluated."""


def stopping(after: int):
    """A callback that ends the fit at its nth call."""
    calls = iter(range(after))

    def callback(progress):
        if next(calls, None) is None:
            raise CutOffError

    return callback


def counted(most: float = np.inf):
    """A target whose evaluations are counted, and interrupted when there have been too many."""
    points = []

    def log_density(z):
        points.append(z)
        if len(points) > most:
            raise KeyboardInterrupt
        return -0.5 * z @ z - 0.1 * z[0] ** 4, -z - 0.4 * np.eye(1, 3)[0] * z[0] ** 3

    target = infimum.from_numpy(log_density, 3)
    points.clear()
    return target, points


def bits(fit):
    """All of an answer that must be the same, bit for bit."""
    leaves = jax.tree_util.tree_leaves((fit.q, fit.sample(50)))
    numbers = [fit.elbo, fit.kl, fit.log_evidence, fit.khat, fit.ess, fit.verdict, fit.starts]
    work = [fit.trace, fit.reason, fit.work.n_gradients, fit.work.n_calls, fit.work.n_failed]
    arrays = [np.asarray(x).tobytes() for x in (*leaves, fit.log_p, fit.log_q, fit.log_r)]
    return arrays, numbers, work, fit.work.first_failure


def contents(folder: Path) -> dict[str, bytes]:
    """The files of a folder."""
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def refused(match, folder, target, *arguments, **options):
    """Check that a fit refuses this checkpoint with an error, and changes nothing in it."""
    before = contents(folder)
    with pytest.raises(infimum.CheckpointError, match=match) as caught:
        infimum.fit(target, *arguments, checkpoint=folder, **options)
    assert str(folder) in str(caught.value)
    assert contents(folder) == before
