"""Eight schools in NumPyro: a fit, its summary, and predictions from reweighted draws."""

import numpy as np
import numpyro
import numpyro.distributions as dist

import infimum

effect = np.array([28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0])  # Rubin (1981)
standard_error = np.array([15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0])


def eight_schools(standard_error, effect=None):
    """Each school's observed effect of coaching is its true effect plus an error of known size."""
    mu = numpyro.sample("mu", dist.Normal(0.0, 5.0))
    tau = numpyro.sample("tau", dist.HalfCauchy(5.0))
    with numpyro.plate("school", len(standard_error)):
        t = numpyro.sample("t", dist.Normal(0.0, 1.0))
        theta = numpyro.deterministic("theta", mu + tau * t)
        numpyro.sample("effect", dist.Normal(theta, standard_error), obs=effect)


target = infimum.from_numpyro(eight_schools, standard_error, effect)
fit = infimum.fit(target, "fullrank", seed=0)
print(fit)
print(fit.summary(["mu", "tau", "theta"]).round(2).to_string())

# If the study were repeated in these schools, would an effect of 28 be a surprise? The verdict is
# "reweight", so the predictions are weighted.
largest = infimum.predict(fit, weighted=True)["effect"].max(axis=1)
print(f"\nlargest of eight effects, predicted: {largest.mean():.0f} ± {largest.std():.0f}")
print(f"chance that it is 28 or more: {np.mean(largest >= 28):.2f}")
