"""A simulator that several tests share."""

import infimum


def normal_mean(rng, power=1.0, offset=0.0):
    """One observation of a normal mean; a density raised to a power, or of data that are off."""
    mean = rng.normal()
    data = mean + rng.normal() + offset

    def log_density(p):
        return -0.5 * power * (p["mean"] ** 2 + (data - p["mean"]) ** 2)

    return {"mean": mean}, infimum.Target(log_density, {"mean": 0.0})
