"""Eight schools in Stan: a fit, its summary, and generated quantities as predictions.

No compiler is needed: stanli runs the program.
"""

from pathlib import Path

import numpy as np

import infimum

data = {
    "J": 8,
    "effect": [28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0],  # Rubin (1981)
    "standard_error": [15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0],
}
program = Path(__file__).with_name("eight_schools.stan")

target = infimum.from_stan(program, data)
fit = infimum.fit(target, "fullrank", seed=0)
print(fit)
print(fit.summary(["mu", "tau", "theta"]).round(2).to_string())

# If the study were repeated in these schools, would an effect of 28 be a surprise? The verdict is
# "reweight", so the predictions are weighted.
largest = infimum.predict(fit, weighted=True)["effect_rep"].max(axis=1)
print(f"\nlargest of eight effects, predicted: {largest.mean():.0f} ± {largest.std():.0f}")
print(f"chance that it is 28 or more: {np.mean(largest >= 28):.2f}")
