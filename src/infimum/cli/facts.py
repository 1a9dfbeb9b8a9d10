"""Results as JSON, for programs that read the output of a command."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

    from infimum.checks.weights import Estimate
    from infimum.fitting.climb import Climb
    from infimum.fitting.fit import Fit
    from infimum.trust.calibrate import Calibration


def of_fit(fit: Fit) -> dict[str, Any]:
    """The numbers of a printed fit, with `summary`: an object for each quantity."""
    return {
        "name": fit.name,
        "family": fit.family.name,
        "dim": fit.q.dim,
        "n_parameters": fit.family.n_parameters(fit.q.dim),
        "verdict": fit.verdict,
        "advice": fit.advice,
        "elbo": _estimate(fit.elbo),
        "log_evidence": _estimate(fit.log_evidence),
        "kl": _estimate(fit.kl),
        "khat": fit.khat,
        "ess": fit.ess,
        "n_draws": fit.n_draws,
        "converged": fit.reason.converged,
        "reason": fit.reason.value,
        "n_gradients": fit.work.n_gradients,
        "n_checks": fit.work.n_checks,
        "compile_seconds": fit.work.compile_seconds,
        "run_seconds": fit.work.run_seconds,
        "summary": of_table(fit.summary(), "quantity"),
    }


def of_climb(climb: Climb) -> dict[str, Any]:
    """Every rung, the families that were skipped, why the climb ended, and the best fit."""
    route = climb.route
    rungs = [
        {
            "family": rung.family,
            "elbo": _estimate(rung.elbo),
            "kl": _estimate(rung.kl),
            "verdict": rung.verdict,
            "seconds": rung.seconds,
        }
        for rung in route.rungs
    ]
    skipped = [{"family": name, "reason": why} for name, why in route.skipped]
    return {
        "rungs": rungs,
        "skipped": skipped,
        "ended": route.ended,
        "best": of_fit(climb.best),
    }


def of_calibration(calibration: Calibration) -> dict[str, Any]:
    """The numbers of a printed calibration, with `table`: an object for each quantity."""
    return {
        "name": calibration.name,
        "family": calibration.family,
        "passed": calibration.passed,
        "p_value": calibration.p_value,
        "n_data_sets": len(calibration.ranks),
        "n_draws": calibration.n_draws,
        "n_unreliable": calibration.verdicts.count("unreliable"),
        "failures": list(calibration.failures),
        "seconds": calibration.seconds,
        "table": of_table(calibration.table(), "quantity"),
    }


def of_table(table: pd.DataFrame, index: str) -> list[dict[str, Any]]:
    """An object for each row of a table; its label is the value of `index`."""
    rows = table.to_dict(orient="records")
    return [
        {index: label} | {str(key): value for key, value in row.items()}
        for label, row in zip(table.index, rows, strict=True)
    ]


def as_json(facts: Any) -> str:
    """The text of these facts. JSON has neither NaN nor infinity: null is an unknown number."""
    return json.dumps(_finite(facts), indent=2, ensure_ascii=False, allow_nan=False)


def _estimate(estimate: Estimate) -> dict[str, float]:
    return {"value": estimate.value, "se": estimate.se}


def _finite(facts: Any) -> Any:
    if isinstance(facts, dict):
        return {key: _finite(value) for key, value in facts.items()}
    if isinstance(facts, list):
        return [_finite(value) for value in facts]
    if hasattr(facts, "item"):
        facts = facts.item()
    return None if isinstance(facts, float) and not math.isfinite(facts) else facts
