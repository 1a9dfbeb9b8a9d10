"""Runs of one solver from one start, shared by the tests of solvers and families."""

import numpy as np

from infimum import families
from infimum.solvers import Info


def placed(family, mean, scale):
    """A member of the family; sparse is given every pair, and is then full-rank."""
    if family == "sparse":
        edges = np.array(np.tril_indices(len(mean), -1))
        return families.Sparse(edges).init(mean, scale)
    return families.named(family).init(mean, scale)


def run(solver, q, target, seed=0, kind="cold"):
    """One start to its end: the state."""
    state = solver.init(q, Info(kind), np.random.default_rng(seed))
    go_on(solver, state, target)
    return state


def go_on(solver, state, target):
    """Steps of one start until it has a reason to stop."""
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        while state.reason is None:
            solver.step([state], target)
