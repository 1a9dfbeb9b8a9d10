"""Simulated data sets: each is fitted, and its true values are ranked among the draws."""

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

from infimum.base.errors import coded_error
from infimum.base.seeds import generator
from infimum.base.stopping import Stopped
from infimum.families._family import Family
from infimum.fitting.fit import Fit
from infimum.fitting.verbs import fit
from infimum.solvers._solver import Reason
from infimum.target.space import columns
from infimum.target.target import Target

Simulate = Callable[[np.random.Generator], tuple[PyTree, Target]]
"""Draws parameters and data: ``rng -> (params, target given the data)``."""

RANKED_DRAWS = 99
"""Draws of each fit that the true value is ranked among: there are then 100 ranks. Importance
resampling chooses them among 4096 draws, so that they hardly repeat."""

THREAD_VARIABLES = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS")
"""Environment variables that limit the threads of linear algebra."""


@dataclass(frozen=True)
class RankedTruth:
    """The result of one data set.

    Attributes
    ----------
    index
        Number of the data set.
    ranks
        Number of draws below the true value, for each quantity, shape (k,); None if it failed.
    verdict
        The verdict of the fit; empty if the data set failed.
    error
        The message of the error, if it failed.
    """

    index: int
    ranks: Int[np.ndarray, " k"] | None
    verdict: str = ""
    error: str = ""


@dataclass(frozen=True)
class Pipeline:
    """How data sets are simulated, fitted and sampled.

    Attributes
    ----------
    simulate
        Draws a data set.
    family, draws
        As for `infimum.fit`.
    weighted
        Whether to importance-resample the draws of fits that are not unreliable.
    seed
        Seed of all data sets. Each has random numbers of its own, so that its result does not
        depend on the process that computes it.
    """

    simulate: Simulate
    family: str | Family
    draws: int | None
    weighted: bool
    seed: int

    def data_set(self, index: int) -> tuple[Float[np.ndarray, " k"], Target]:
        """True values of one data set, and the target given the data."""
        simulated = self.simulate(generator(self.seed, index, 0))
        pair = isinstance(simulated, tuple) and len(simulated) == 2
        if not (pair and isinstance(simulated[1], Target)):
            raise coded_error(
                TypeError,
                "E822",
                f"simulate returned {simulated!r}, expected (params, infimum.Target)",
            )
        params, target = simulated
        return true_values(target, params), target

    def run(self, index: int) -> RankedTruth:
        """Simulate, fit and rank one data set; an error becomes part of the result.

        Raises
        ------
        Stopped
            If Ctrl-C came during the fit: its best q so far must not be ranked.
        """
        rng = generator(self.seed, index, 1)
        seed = int(rng.integers(2**63))
        try:
            true, target = self.data_set(index)
            answer = fit(target, self.family, seed=seed, draws=self.draws, progress=False)
            if _interrupted(answer):
                raise Stopped
            weighted = self.weighted and answer.verdict != "unreliable"
            drawn = columns(answer.sample(RANKED_DRAWS, seed=seed, weighted=weighted))
        except Exception as error:  # whatever the user's code, or the fit, raises
            message = f"data set {index}: {type(error).__name__}: {error}"
            return RankedTruth(index, None, error=message)
        ties = rng.integers(0, (drawn == true).sum(axis=0), endpoint=True)
        return RankedTruth(index, (drawn < true).sum(axis=0) + ties, answer.verdict)


def true_values(target: Target, params: PyTree) -> Float[np.ndarray, " k"]:
    """True values of every scalar quantity of a target, in the order of its `names`.

    Parameters
    ----------
    params
        In the target's structure, with or without what the model derives from them.

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
            shapes = f"has shape {np.shape(value)}, not the target's {leaf.shape}"
            raise coded_error(ValueError, "E822", f"simulated parameter {leaf.label!r} {shapes}")
    flat = columns([np.asarray(value, np.float64)[None] for value in values])[0]
    if np.isnan(flat).any():
        where = space.names[int(np.argmax(np.isnan(flat)))]
        raise coded_error(
            ValueError, "E822", f"the true value of {where!r} is NaN: is it inside its support?"
        )
    return flat


def _interrupted(answer: Fit) -> bool:
    """Whether Ctrl-C ended a fit early, with the best q so far."""
    starts = [start.reason for start in answer.starts]
    climb_end = answer.route.ended if answer.route is not None else ""
    return Reason.INTERRUPTED in (*starts, answer.reason) or climb_end == "interrupted"


def run_all(pipeline: Pipeline, n: int, workers: int, keep: Callable[[RankedTruth], None]) -> None:
    """Run n data sets, and call `keep` with each result as soon as it is there.

    Raises
    ------
    TypeError, RuntimeError
        If other processes can't import the pipeline, or one of them ends early.
    """
    if workers == 1:
        for index in range(n):
            keep(pipeline.run(index))
        return
    _check_travels(pipeline)
    context = multiprocessing.get_context("spawn")  # JAX has threads, which a fork would lose
    pool = concurrent.futures.ProcessPoolExecutor(workers, context, _adopt, (pipeline,))
    try:
        with _single_threaded():  # processes start with the first submission
            futures = [pool.submit(_run, index) for index in range(n)]
        for future in concurrent.futures.as_completed(futures):
            keep(future.result())
    except BrokenProcessPool as error:
        raise coded_error(
            RuntimeError,
            "E824",
            "a worker process ended early. Workers import the script that starts them: put its "
            'own work under if __name__ == "__main__":. Or memory was short: each worker takes '
            "half a gigabyte. Leave out workers to do everything in this process",
        ) from error
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


@contextlib.contextmanager
def _single_threaded() -> Iterator[None]:
    """Let processes that start in here use one thread each, unless the user has set the number.

    On two cores two workers with two threads each took 153 s, with one thread each 78 s.
    """
    missing = [name for name in THREAD_VARIABLES if name not in os.environ]
    os.environ.update(dict.fromkeys(missing, "1"))
    try:
        yield
    finally:
        for name in missing:
            del os.environ[name]


def _check_travels(pipeline: Pipeline) -> None:
    """Refuse a pipeline that can't be pickled, or not be imported in another process."""
    cure = "define the model in a module and import it, or leave out workers"
    try:
        pickled = pickle.dumps(pipeline)
    except Exception as error:  # pickle raises errors of every kind
        raise coded_error(
            TypeError, "E824", f"other processes can't have the model ({error}): {cure}"
        ) from error
    script = getattr(sys.modules["__main__"], "__file__", "")
    if b"__main__" in pickled and not Path(script).is_file():
        raise coded_error(
            TypeError,
            "E824",
            "other processes can't import what was defined in an interactive session: " + cure,
        )


_WORKER_PIPELINE: list[Pipeline] = []
"""The pipeline of a worker process; it keeps what it has compiled."""


def _adopt(pipeline: Pipeline) -> None:
    """Begin a worker process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that started this one
    _WORKER_PIPELINE.append(pipeline)


def _run(index: int) -> RankedTruth:
    """Run one data set in a worker process."""
    return _WORKER_PIPELINE[0].run(index)
