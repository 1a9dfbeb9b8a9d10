"""infimum: the member q of a family Q that is nearest to a posterior known up to a constant.

    target = Target(log_density, example, supports)      p̂: log density, shapes, supports
    result = fit(target, "fullrank")                     Q, and the q ∈ Q of least KL[q ‖ p̂]
    result.elbo, result.log_evidence, result.kl          how near: KL[q ‖ p*] = log Z - ELBO
    result.sample(1000), result.save("fit.zip")          use it, keep it
    correct(result), evidence(result)                    where it is not near enough

`_target` states p̂, `_family` and `families/` are Q, `_objective` is the KL and its draws, `_solver`
and `solvers/` minimise it, `_loop` is the loop, `_fit` the answer, `_climb` the verbs; `checks/`
say how near it is, `corrections/` bring it nearer.
"""

from infimum import corrections, families, solvers, supports
from infimum._calibrate import Calibration, calibrate
from infimum._climb import Climb, climb, fit
from infimum._correct import correct
from infimum._corrected import Corrected
from infimum._evidence import Evidence, compare, evidence
from infimum._expectation import Expectation
from infimum._fit import Fit
from infimum._journal import CheckpointError
from infimum._loop import Progress
from infimum._predict import predict
from infimum._save import load
from infimum._target import Target
from infimum.checks.weights import Estimate
from infimum.sources.numpy import from_numpy
from infimum.sources.numpyro import from_numpyro
from infimum.sources.pymc import from_pymc
from infimum.sources.rows import Rows
from infimum.sources.stan import from_stan
from infimum.sources.torch import from_torch

__version__ = "0.1.0"

__all__ = [
    "Calibration",
    "CheckpointError",
    "Climb",
    "Corrected",
    "Estimate",
    "Evidence",
    "Expectation",
    "Fit",
    "Progress",
    "Rows",
    "Target",
    "calibrate",
    "climb",
    "compare",
    "correct",
    "corrections",
    "evidence",
    "families",
    "fit",
    "from_numpy",
    "from_numpyro",
    "from_pymc",
    "from_stan",
    "from_torch",
    "load",
    "predict",
    "solvers",
    "supports",
]
