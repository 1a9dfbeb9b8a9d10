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
from infimum.answer.expectation import Expectation
from infimum.answer.predict import predict
from infimum.base.version import __version__
from infimum.checks.weights import Estimate
from infimum.corrections._corrected import Corrected
from infimum.fitting.climb import Climb
from infimum.fitting.fit import Fit, load
from infimum.fitting.verbs import climb, fit
from infimum.rows.rows import Rows
from infimum.search.progress import Progress
from infimum.sources.numpy import from_numpy
from infimum.sources.numpyro.source import from_numpyro
from infimum.sources.pymc.source import from_pymc
from infimum.sources.stan.source import from_stan
from infimum.sources.torch import from_torch
from infimum.target.journal.folder import CheckpointError
from infimum.target.target import Target
from infimum.trust.calibrate import Calibration, calibrate
from infimum.trust.correct import correct
from infimum.trust.evidence import Evidence, compare, evidence

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
    "__version__",
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
