"""Logistic regression in PyTorch: a log density, its fit, and predictions from draws as tensors."""

import torch
from sklearn.datasets import load_breast_cancer
from torch.distributions import Bernoulli, Normal

import infimum

tumours = load_breast_cancer()
x = torch.from_numpy(tumours.data[:, :10])  # the means of ten measurements
x = (x - x.mean(0)) / x.std(0, correction=0)
y = torch.from_numpy(tumours.target).double()  # 1 is benign


def logistic(p):
    """Log prior plus log likelihood, at one point."""
    log_p = Normal(0.0, 5.0).log_prob(p["alpha"]) + Normal(0.0, 2.5).log_prob(p["beta"]).sum()
    return log_p + Bernoulli(logits=p["alpha"] + x @ p["beta"]).log_prob(y).sum()


example = {"alpha": torch.tensor(0.0), "beta": torch.zeros(10)}
fit = infimum.fit(infimum.from_torch(logistic, example), "fullrank", seed=0)
print(fit)

p = fit.sample(1000, backend="torch")
benign = torch.sigmoid(p["alpha"] + x @ p["beta"].T).mean(1)
sure = (benign > 0.95) | (benign < 0.05)
right = (benign > 0.5) == (y == 1)
print(f"\n95% sure of {sure.sum()} of {len(y)} tumours, and right on {right[sure].sum()} of these")
