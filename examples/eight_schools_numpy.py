"""Eight schools in NumPy: a log density with a hand-written gradient, and quantiles of tau."""

import numpy as np

import infimum

effect = np.array([28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0])  # Rubin (1981)
standard_error = np.array([15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0])


def normal(x, scale):
    """Log density of Normal(0, scale)."""
    return -0.5 * (x / scale) ** 2 - np.log(scale) - 0.5 * np.log(2 * np.pi)


def eight_schools(z):
    """Log of prior times likelihood, and its gradient; tau is on the log scale."""
    mu, log_tau, t = z[0], z[1], z[2:]
    tau = np.exp(log_tau)
    residual = effect - mu - tau * t
    value = normal(mu, 5.0) + normal(t, 1.0).sum() + normal(residual, standard_error).sum()
    value += np.log(2 / (5 * np.pi)) - np.log1p((tau / 5) ** 2)  # half-Cauchy(5)
    value += log_tau  # the Jacobian: log |d tau / d log tau|

    slope = residual / standard_error**2  # of the likelihood, along mu + tau t
    d_mu = slope.sum() - mu / 25
    d_log_tau = tau * (slope @ t - 2 * tau / (25 + tau**2)) + 1
    d_t = tau * slope - t
    return value, np.concatenate([[d_mu, d_log_tau], d_t])


names = ["mu", "tau_log", *(f"t[{school}]" for school in range(8))]
target = infimum.from_numpy(eight_schools, dim=10, names=names)
fit = infimum.fit(target, "fullrank", seed=0)
print(fit)

# The verdict is "reweight", so the draws are weighted.
tau = np.exp(fit.sample(10_000, weighted=True)["tau_log"])
low, middle, high = np.quantile(tau, [0.05, 0.5, 0.95])
print(f"\ntau: median {middle:.1f}, between {low:.1f} and {high:.1f} with probability 0.9")
