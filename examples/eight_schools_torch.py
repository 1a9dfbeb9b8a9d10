"""Eight schools in PyTorch: a log density, its fit, and weighted draws as tensors."""

import torch
from torch.distributions import HalfCauchy, Normal

import infimum

effect = torch.tensor([28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0]).double()  # Rubin (1981)
standard_error = torch.tensor([15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0]).double()


def eight_schools(p):
    """Log prior plus log likelihood, at one point."""
    log_p = Normal(0.0, 5.0).log_prob(p["mu"])
    log_p += HalfCauchy(5.0).log_prob(p["tau"])
    log_p += Normal(0.0, 1.0).log_prob(p["t"]).sum()
    theta = p["mu"] + p["tau"] * p["t"]
    return log_p + Normal(theta, standard_error).log_prob(effect).sum()


example = {"mu": torch.tensor(0.0), "tau": torch.tensor(1.0), "t": torch.zeros(8)}
target = infimum.from_torch(eight_schools, example, {"tau": "positive"})
fit = infimum.fit(target, "fullrank", seed=0)
print(fit)

# The verdict is "reweight", so the draws are weighted.
p = fit.sample(10_000, weighted=True, backend="torch")
theta = p["mu"][:, None] + p["tau"][:, None] * p["t"]
chance = (theta.argmax(1, keepdim=True) == torch.arange(8)).double().mean(0)
print("\nchance of each school to be the one where coaching does most:")
print("  ".join(f"{school} {share:.2f}" for school, share in zip("ABCDEFGH", chance, strict=True)))
