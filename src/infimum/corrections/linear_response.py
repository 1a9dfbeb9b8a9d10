"""Linear response: the covariance that q should have had, from how its optimum moves.

If log p̂ is tilted to log p̂ + tᵀ f(z), the posterior mean of f moves by Cov(f) t. The mean of q
moves by nearly as much, if the family is good for means. With the coordinates θ of q, the Hessian H
of the KL in them and J = ∂E_q[f]/∂θ, it moves by J H⁻¹ Jᵀ t (Giordano, Broderick & Jordan 2018, eq.
14). So J H⁻¹ Jᵀ is an estimate of Cov(f). For a Gaussian target it is exact, however wrong the
variances of q are.

H is computed by central differences of the gradient over fixed structured draws, in the chart
around q, where H is near I. So any q with a chart can be corrected.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from jaxtyping import Float

from infimum import families
from infimum.answer.assessment import assess
from infimum.answer.proposal import propose
from infimum.answer.weighed import weigh
from infimum.base.errors import coded_error
from infimum.base.seeds import CORRECT_STREAM, Seed, generator
from infimum.families._distribution import LARGEST_DENSE, Charted
from infimum.families.fullrank import DenseGaussian
from infimum.fitting.fit import Fit
from infimum.objective.draws import structured_draws
from infimum.solvers._solver import FEWEST_DRAWS
from infimum.target.target import Target

DIFFERENCE_STEP = 1e-4
"""Step of the differences in the chart's units; one unit moves q by about one sd. The error of the
differences is 1e-8 of the third derivative, that of rounding 1e-12."""

MOST_PARAMETERS = 2000
"""Most coordinates of q: the Hessian takes two batches of gradients for each."""

SMALLEST_EIGENVALUE = 1e-10
"""Smallest eigenvalue of H at a minimum, as a part of the largest."""


def linear_response(fit: Fit, *, seed: Seed = 0) -> Fit:
    """Correct the covariance of q: a full-rank Gaussian with its linear-response covariance.

    Requires: a q with a chart, at a minimum of the KL, and a target with a gradient.

    Parameters
    ----------
    fit
        A fit of mean-field, or of another family with a chart: full-rank, sinh-arcsinh.

    Returns
    -------
    A fit of the new q, with an assessment of its own: ELBO, weights, unseen mass and verdicts, over
    as many fresh draws. For functions of the parameters use its draws, or `expect`.

    Raises
    ------
    TypeError
        If q has no chart.
    ValueError
        If q has too many parameters or was not at an optimum; if the target has no gradient, or the
        fit has no target because it was loaded from disk.
    """
    q, target = fit.q, fit.at_hand()
    if not isinstance(q, Charted):
        raise coded_error(
            TypeError,
            "E802",
            f"linear response needs a family with coordinates such as meanfield, not "
            f"{fit.family.name}: fit one of these, or use another correction",
        )
    if not target.differentiable:
        raise coded_error(
            ValueError,
            "E110",
            "linear response needs a gradient, and the target has none: give it one, or use "
            "importance",
        )
    mean, covariance = response(q, target, generator(seed, CORRECT_STREAM, 2))
    factor = np.linalg.cholesky(covariance)
    family = families.named("fullrank")
    member = DenseGaussian.of(mean, factor)
    draws = weigh(target, propose(member, None, [*fit.proposal.others]), fit.n_draws, seed)
    assessment, _ = assess(target, draws, fit.reason)
    return dataclasses.replace(
        fit, family=family, assessment=assessment, trace=(), path=(), route=None
    )


def response(
    q: Charted, target: Target, rng: np.random.Generator
) -> tuple[Float[np.ndarray, " d"], Float[np.ndarray, "d d"]]:
    """Mean of q and linear-response covariance J H⁻¹ Jᵀ of the unconstrained coordinates.

    Raises
    ------
    ValueError
        If q has too many parameters, or H is not positive definite.
    """
    d = q.dim
    eps = structured_draws(rng, max(FEWEST_DRAWS, 2 * (d + 2)), d)
    z = np.asarray(q.push(eps))
    mean, score = z.mean(axis=0), target.value_and_gradient(z)[1]
    curvature = q.curvature(eps, score) if d <= LARGEST_DENSE else None
    chart = q.chart(curvature)
    if chart.size > MOST_PARAMETERS:
        raise coded_error(
            ValueError,
            "E802",
            f"q has {chart.size:,} parameters, and linear response differentiates by each: at "
            f"most {MOST_PARAMETERS:,}. Fit a smaller family, or use another correction",
        )
    hessian, jacobian = np.empty((chart.size, chart.size)), np.empty((d, chart.size))
    for k, theta in enumerate(np.eye(chart.size) * DIFFERENCE_STEP):
        ends = []
        for point in (theta, -theta):
            z = np.asarray(chart.move(point).push(eps))
            score = target.value_and_gradient(z)[1]
            ends.append((chart.pull(point, eps, score), z.mean(axis=0)))
        (slope, centre), (slope_back, centre_back) = ends
        hessian[k] = (slope - slope_back) / (2 * DIFFERENCE_STEP)
        jacobian[:, k] = (centre - centre_back) / (2 * DIFFERENCE_STEP)
    values, vectors = np.linalg.eigh(0.5 * (hessian + hessian.T))
    if not values.min() > SMALLEST_EIGENVALUE * np.abs(values).max():
        raise coded_error(
            ValueError,
            "E804",
            "q is not at a minimum of the KL: its Hessian has the eigenvalue "
            f"{values.min():.3g}. Fit it to convergence first; see fit.reason",
        )
    root = jacobian @ vectors / np.sqrt(values)
    return mean, root @ root.T
