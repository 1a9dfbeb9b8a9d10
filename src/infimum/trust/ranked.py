"""Simulated data sets one by one: fitted, and the truth ranked among the draws."""

from __future__ import annotations

import concurrent.futures
import contextlib
import multiprocessing
import os
import pickle
import signal
import sys
from collections.abc import Callable, Iterator
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path

import jax
import numpy as np
from jaxtyping import Float, Int, PyTree

from infimum.base.errors import coded
from infimum.base.seeds import generator
from infimum.families._family import Family
from infimum.fitting.fit import Fit
from infimum.fitting.verbs import fit
from infimum.solvers._solver import Reason
from infimum.target.space import columns
from infimum.target.target import Target

Simulate = Callable[[np.random.Generator], tuple[PyTree, Target]]

DRAWS = 99
"""Draws of each fit that the truth is ranked among, so that there are 100 ranks: among 4096
proposals of an importance-resampled draw 99 are few enough that they hardly repeat."""

THREADS = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS")
"""Where libraries of linear algebra read how many threads they may start."""


@dataclass(frozen=True)
class Ranked:
    """One data set done.

    Attributes
    ----------
    index
        Which.
    ranks
        Number of draws below the true value, for each quantity, shape (k,); None if it failed.
    told
        The verdict of its fit; or the error.
    """

    index: int
    ranks: Int[np.ndarray, " k"] | None
    told: str


@dataclass(frozen=True)
class Pipeline:
    """How a data set is simulated, fitted and sampled: all but which one.

    Attributes
    ----------
    simulate
        ``rng -> (params, target)``.
    family, draws
        As for `infimum.fit`.
    weighted
        Whether to importance-resample the draws of fits that are not unreliable.
    seed
        Each data set has random numbers of its own, so that it does not matter where it is done.
    """

    simulate: Simulate
    family: str | Family
    draws: int | None
    weighted: bool
    seed: int

    def simulated(self, index: int) -> tuple[np.ndarray, Target]:
        """True values of one data set, shape (k,), and the target given the data."""
        made = self.simulate(generator(self.seed, index, 0))
        if not (isinstance(made, tuple) and len(made) == 2 and isinstance(made[1], Target)):
            raise TypeError(
                coded("E822", f"simulate returned {made!r}, expected (params, infimum.Target)")
            )
        return truth(made[1], made[0]), made[1]

    def run(self, index: int) -> Ranked:
        """One data set; an error is told, Ctrl-C is not taken for an answer."""
        rng = generator(self.seed, index, 1)
        seed = int(rng.integers(2**63))
        try:
            true, target = self.simulated(index)
            fitted = fit(target, self.family, seed=seed, draws=self.draws, progress=False)
            if _interrupted(fitted):
                raise KeyboardInterrupt
            weighted = self.weighted and fitted.verdict != "unreliable"
            drawn = columns(fitted.sample(DRAWS, seed=seed, weighted=weighted))
        except Exception as error:  # whatever the user's code, or the fit, raises
            return Ranked(index, None, f"data set {index}: {type(error).__name__}: {error}")
        ties = rng.integers(0, (drawn == true).sum(axis=0), endpoint=True)
        return Ranked(index, (drawn < true).sum(axis=0) + ties, fitted.verdict)


def truth(target: Target, params: PyTree) -> Float[np.ndarray, " k"]:
    """True values of every scalar quantity of a target, in the order of its `names`.

    Parameters
    ----------
    params
        As the target structures them, with or without what the model derives from them.

    Raises
    ------
    ValueError
        If they have another structure or other shapes, or are outside their supports.
    """
    space = target.space
    values, treedef = jax.tree_util.tree_flatten(params)
    if treedef != space.treedef:
        values = jax.tree_util.tree_leaves(target.constrain(target.unconstrain(params)))
    for value, leaf in zip(values, space.leaves, strict=True):
        if np.shape(value) != leaf.shape:
            told = f"{leaf.label!r} has shape {np.shape(value)}, not the target's {leaf.shape}"
            raise ValueError(coded("E822", f"simulated parameter {told}"))
    flat = columns([np.asarray(value, np.float64)[None] for value in values])[0]
    if np.isnan(flat).any():
        where = space.names[int(np.argmax(np.isnan(flat)))]
        raise ValueError(
            coded("E822", f"the true value of {where!r} is NaN: is it inside its support?")
        )
    return flat


def _interrupted(fitted: Fit) -> bool:
    """Whether Ctrl-C came during a fit, which ends it with the best q so far."""
    starts = [start.reason for start in fitted.starts]
    climb = fitted.route.ended if fitted.route is not None else ""
    return Reason.INTERRUPTED in (*starts, fitted.reason) or climb == "interrupted"


def run_all(pipeline: Pipeline, n: int, workers: int, keep: Callable[[Ranked], None]) -> None:
    """Run n data sets and keep each as it is done; an interrupted one is not kept.

    Raises
    ------
    TypeError, RuntimeError
        If other processes can't have the pipeline.
    """
    if workers == 1:
        for index in range(n):
            keep(pipeline.run(index))
        return
    _check_travels(pipeline)
    context = multiprocessing.get_context("spawn")  # JAX has threads, which a fork would lose
    pool = concurrent.futures.ProcessPoolExecutor(workers, context, _adopt, (pipeline,))
    try:
        with _single_threaded():  # processes begin when they are first given something
            futures = [pool.submit(_run, index) for index in range(n)]
        for future in concurrent.futures.as_completed(futures):
            keep(future.result())
    except BrokenProcessPool as error:
        raise RuntimeError(
            coded(
                "E824",
                "a worker process ended early. A script that uses workers must do its own work "
                'under if __name__ == "__main__": because they import it; else memory may be '
                "short, of which each of them takes half a gigabyte. Without workers all is done "
                "in this process",
            )
        ) from error
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


@contextlib.contextmanager
def _single_threaded() -> Iterator[None]:
    """Have processes that begin in here do linear algebra by one thread each, unless told.

    Two workers on two cores, with two threads each, took 153 s where these take 78.
    """
    missing = [name for name in THREADS if name not in os.environ]
    os.environ.update(dict.fromkeys(missing, "1"))
    try:
        yield
    finally:
        for name in missing:
            del os.environ[name]


def _check_travels(pipeline: Pipeline) -> None:
    """Refuse what can't be pickled, or imported where it is unpickled."""
    cure = "define the model in a module and import it, or leave out workers"
    try:
        written = pickle.dumps(pipeline)
    except Exception as error:  # pickle raises what it likes
        raise TypeError(
            coded("E824", f"other processes can't have the model ({error}): {cure}")
        ) from error
    script = getattr(sys.modules["__main__"], "__file__", "")
    if b"__main__" in written and not Path(script).is_file():
        raise TypeError(
            coded("E824", f"other processes can't import what a session defines: {cure}")
        )


_ADOPTED: list[Pipeline] = []
"""In a worker process: what it runs, with what it has compiled."""


def _adopt(pipeline: Pipeline) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that asked
    _ADOPTED.append(pipeline)


def _run(index: int) -> Ranked:
    return _ADOPTED[0].run(index)
