"""NUTS in PyMC, on the eight schools: a fit replaces most of the warm-up."""

import arviz_stats
import numpy as np
import pymc as pm

import infimum

effect = [28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0]  # Rubin (1981)
standard_error = [15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0]
chains, draws = 4, 500

with pm.Model(coords={"school": list("ABCDEFGH")}) as eight_schools:
    mu = pm.Normal("mu", 0.0, 5.0)
    tau = pm.HalfCauchy("tau", 5.0)
    t = pm.Normal("t", 0.0, 1.0, dims="school")
    pm.Normal("effect", mu + tau * t, standard_error, observed=effect, dims="school")


def nuts(warm_up, **options):
    """Smallest ESS, largest R-hat and gradients per draw, after this many warm-up steps."""
    trace = pm.sample(
        draws,
        tune=warm_up,
        chains=chains,
        cores=1,
        random_seed=0,
        progressbar=False,
        quiet=True,
        compute_convergence_checks=False,
        model=eight_schools,
        **options,
    )
    table = arviz_stats.summary(trace, kind="diagnostics", round_to="none")
    gradients = float(trace.sample_stats["n_steps"].mean())
    return table["ess_bulk"].min(), table["r_hat"].max(), gradients


fit = infimum.fit(infimum.from_pymc(eight_schools), "fullrank", seed=0)
print(fit)

# PyMC takes constrained values, chain by chain. Its vector has the variables in the order in which
# the model defines them; the fit's vector has them in the order of their names.
start, mass = fit.inits(chains, seed=0), fit.inverse_mass_matrix()
variables = [name.split("[")[0] for name in fit.space.free_names]
stated = [value.name for value in eight_schools.continuous_value_vars]
order = [i for name in stated for i, variable in enumerate(variables) if variable == name]
usual = nuts(1000)
with eight_schools:
    step = pm.NUTS(scaling=mass[np.ix_(order, order)], is_cov=True)
begun = nuts(50, step=step, initvals=list(start))

print(f"\n{'warm-up':<24}{'least ESS':>10}{'largest R-hat':>15}{'gradients a draw':>18}")
for name, (ess, r_hat, gradients) in [
    ("1,000 steps, as usual", usual),
    ("50 steps, from the fit", begun),
]:
    print(f"{name:<24}{ess:>10.0f}{r_hat:>15.3f}{gradients:>18.1f}")
