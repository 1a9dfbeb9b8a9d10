"""NUTS in NumPyro, on the eight schools: a fit replaces most of the warm-up."""

import jax
import numpy as np
import numpyro
import numpyro.distributions as dist
from numpyro.diagnostics import summary
from numpyro.infer import MCMC, NUTS
from numpyro.infer.util import unconstrain_fn

import infimum

effect = np.array([28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0])  # Rubin (1981)
standard_error = np.array([15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0])
chains, draws = 4, 500


def eight_schools(standard_error, effect=None):
    """Each school's observed effect of coaching is its true effect plus an error of known size."""
    mu = numpyro.sample("mu", dist.Normal(0.0, 5.0))
    tau = numpyro.sample("tau", dist.HalfCauchy(5.0))
    with numpyro.plate("school", len(standard_error)):
        t = numpyro.sample("t", dist.Normal(0.0, 1.0))
        numpyro.sample("effect", dist.Normal(mu + tau * t, standard_error), obs=effect)


def nuts(warm_up, init_params=None, **options):
    """Smallest ESS, largest R-hat and gradients per draw, after this many warm-up steps."""
    sampler = MCMC(
        NUTS(eight_schools, **options),
        num_warmup=warm_up,
        num_samples=draws,
        num_chains=chains,
        chain_method="vectorized",
        progress_bar=False,
    )
    key, data = jax.random.key(0), (standard_error, effect)
    sampler.run(key, *data, init_params=init_params, extra_fields=["num_steps"])
    sites = summary(sampler.get_samples(group_by_chain=True)).values()
    gradients = sampler.get_extra_fields()["num_steps"].mean()
    return min(x["n_eff"].min() for x in sites), max(x["r_hat"].max() for x in sites), gradients


target = infimum.from_numpyro(eight_schools, standard_error, effect)
fit = infimum.fit(target, "fullrank", seed=0)
print(fit)

# NumPyro takes unconstrained values, site by site. Its mass matrix refers to a vector with the
# sites in the order of their names, as in the fit. The context switches JAX to double precision,
# which the fit uses, and restores its setting afterwards.
start, mass = fit.inits(chains, seed=0), fit.inverse_mass_matrix()
with jax.enable_x64(True):
    free = jax.vmap(lambda p: unconstrain_fn(eight_schools, (standard_error, effect), {}, p))
    known = {"inverse_mass_matrix": mass, "adapt_mass_matrix": False, "dense_mass": True}
    usual = nuts(1000)
    begun = nuts(50, init_params=free(start.constrained), **known)

print(f"\n{'warm-up':<24}{'least ESS':>10}{'largest R-hat':>15}{'gradients a draw':>18}")
for name, (ess, r_hat, gradients) in [
    ("1,000 steps, as usual", usual),
    ("50 steps, from the fit", begun),
]:
    print(f"{name:<24}{ess:>10.0f}{r_hat:>15.3f}{gradients:>18.1f}")
