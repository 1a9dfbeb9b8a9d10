"""Eight schools in PyMC: a fit, and how well the model predicts a school that it has not seen."""

import arviz_stats
import pymc as pm

import infimum

effect = [28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0]  # Rubin (1981)
standard_error = [15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0]

with pm.Model(coords={"school": list("ABCDEFGH")}) as eight_schools:
    mu = pm.Normal("mu", 0.0, 5.0)
    tau = pm.HalfCauchy("tau", 5.0)
    t = pm.Normal("t", 0.0, 1.0, dims="school")
    theta = pm.Deterministic("theta", mu + tau * t, dims="school")
    pm.Normal("effect", theta, standard_error, observed=effect, dims="school")

fit = infimum.fit(infimum.from_pymc(eight_schools), "fullrank", seed=0)
print(fit)

idata = fit.to_arviz(log_likelihood=True)
print(arviz_stats.summary(idata, var_names=["mu", "tau", "theta"], kind="stats").to_string())

# Leave-one-out cross-validation reweights the draws. This form also corrects for the fact that they
# are draws of q rather than of the posterior. `fit.loo()` does the same in one call.
log_p, log_q = idata.sample_stats["lp"], idata.sample_stats["log_q"]
print(arviz_stats.loo_approximate_posterior(idata, log_p, log_q))
