"""Logistic regression in NumPyro: a fit, its summary, and predictions for new data."""

import numpy as np
import numpyro
import numpyro.distributions as dist
from sklearn.datasets import load_breast_cancer

import infimum

tumours = load_breast_cancer()
x = tumours.data[:, :10]  # the means of ten measurements
x = (x - x.mean(axis=0)) / x.std(axis=0)
y = tumours.target  # 1 is benign


def logistic(x, y=None):
    """The probability that a tumour is benign, given its measurements."""
    alpha = numpyro.sample("alpha", dist.Normal(0.0, 5.0))
    beta = numpyro.sample("beta", dist.Normal(0.0, 2.5).expand([x.shape[1]]).to_event(1))
    with numpyro.plate("tumour", len(x)):
        numpyro.sample("y", dist.Bernoulli(logits=alpha + x @ beta), obs=y)


fit = infimum.fit(infimum.from_numpyro(logistic, x, y), "fullrank", seed=0)
print(fit)
print(fit.summary().round(2).to_string())

ordinary = np.zeros(10)  # average in everything; the other is rougher by one standard deviation
rough = np.where(tumours.feature_names[:10] == "mean texture", 1.0, 0.0)
benign = infimum.predict(fit, np.array([ordinary, rough]), n=10_000)["y"].mean(axis=0)
print(f"\nchance to be benign: ordinary {benign[0]:.2f}, of rougher texture {benign[1]:.2f}")
