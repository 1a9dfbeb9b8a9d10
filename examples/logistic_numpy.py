"""Logistic regression in NumPy: a batched log density and gradient, and the signs of beta."""

import numpy as np
from sklearn.datasets import load_breast_cancer

import infimum

tumours = load_breast_cancer()
x = tumours.data[:, :10]  # the means of ten measurements
x = (x - x.mean(axis=0)) / x.std(axis=0)
y = tumours.target  # 1 is benign

design = np.column_stack([np.ones(len(x)), x])
scale = np.array([5.0] + 10 * [2.5])


def logistic(z):
    """Log prior plus log likelihood, and its gradient, at each row of z."""
    logits = z @ design.T
    value = np.sum(y * logits - np.logaddexp(0.0, logits), axis=1)
    value += np.sum(-0.5 * (z / scale) ** 2 - np.log(scale) - 0.5 * np.log(2 * np.pi), axis=1)
    gradient = (y - 1 / (1 + np.exp(-logits))) @ design - z / scale**2
    return value, gradient


names = ["alpha", *(f"beta[{feature}]" for feature in range(10))]
target = infimum.from_numpy(logistic, dim=11, names=names, batched=True)
fit = infimum.fit(target, "fullrank", seed=0)
print(fit)

negative = np.mean(fit.sample(10_000)["beta"] < 0, axis=0)
print("\nprobability that a tumour is less likely benign the larger its")
for feature, share in zip(tumours.feature_names, negative, strict=False):
    print(f"  {feature:<24}{share:.2f}")
