"""The target p̂: a log density on R^d, with what its points mean and who computes it."""
