"""Logistic regression in Stan: a fit, its summary, and a posterior predictive check.

No compiler is needed: stanli runs the program.
"""

from pathlib import Path

from sklearn.datasets import load_breast_cancer

import infimum

tumours = load_breast_cancer()
x = tumours.data[:, :10]  # the means of ten measurements
x = (x - x.mean(axis=0)) / x.std(axis=0)
y = tumours.target  # 1 is benign
data = {"N": len(y), "K": 10, "x": x, "y": y}
program = Path(__file__).with_name("logistic.stan")

target = infimum.from_stan(program, data)
fit = infimum.fit(target, "fullrank", seed=0)
print(fit)
print(fit.summary(["alpha", "beta"]).round(2).to_string())

benign = infimum.predict(fit, weighted=True)["y_rep"].sum(axis=1)
print(f"\nbenign of {len(y)}: {y.sum()}; replicated {benign.mean():.0f} ± {benign.std():.0f}")
