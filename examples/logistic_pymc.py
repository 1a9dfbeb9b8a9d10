"""Logistic regression in PyMC: a fit, its summary by coordinate, and predictions for new data."""

import arviz_stats
import numpy as np
import pymc as pm
from sklearn.datasets import load_breast_cancer

import infimum

tumours = load_breast_cancer()
x = tumours.data[:, :10]  # the means of ten measurements
x = (x - x.mean(axis=0)) / x.std(axis=0)
y = tumours.target  # 1 is benign

with pm.Model(coords={"feature": tumours.feature_names[:10]}) as logistic:
    features = pm.Data("x", x, dims=("tumour", "feature"))
    alpha = pm.Normal("alpha", 0.0, 5.0)
    beta = pm.Normal("beta", 0.0, 2.5, dims="feature")
    pm.Bernoulli("y", logit_p=alpha + features @ beta, observed=y, dims="tumour")

fit = infimum.fit(infimum.from_pymc(logistic), "fullrank", seed=0)
print(fit)
print(arviz_stats.summary(fit.to_arviz(), kind="stats").to_string())

ordinary = np.zeros(10)  # average in everything; the other is rougher by one standard deviation
rough = np.where(tumours.feature_names[:10] == "mean texture", 1.0, 0.0)
benign = infimum.predict(fit, {"x": np.array([ordinary, rough])}, n=10_000)["y"].mean(axis=0)
print(f"\nchance to be benign: ordinary {benign[0]:.2f}, of rougher texture {benign[1]:.2f}")
