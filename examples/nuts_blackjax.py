"""NUTS in BlackJAX, on the eight schools: a fit replaces most of the warm-up."""

import blackjax
import jax
import jax.numpy as jnp
import numpy as np
from blackjax.adaptation.step_size import dual_averaging_adaptation
from blackjax.diagnostics import effective_sample_size, potential_scale_reduction
from jax.scipy.stats import norm

import infimum

effect = np.array([28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0])  # Rubin (1981)
standard_error = np.array([15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0])
chains, draws = 4, 500


def eight_schools(p):
    """Log prior plus log likelihood."""
    log_p = norm.logpdf(p["mu"], 0.0, 5.0) + norm.logpdf(p["t"]).sum()
    log_p += jnp.log(2 / (5 * jnp.pi)) - jnp.log1p((p["tau"] / 5) ** 2)  # half-Cauchy(5)
    return log_p + norm.logpdf(effect, p["mu"] + p["tau"] * p["t"], standard_error).sum()


example = {"mu": 0.0, "tau": 1.0, "t": np.zeros(8)}
target = infimum.Target(eight_schools, example, {"tau": "positive"})
fit = infimum.fit(target, "fullrank", seed=0)
print(fit)
start, mass = fit.inits(chains, seed=0), fit.inverse_mass_matrix()

kernel = blackjax.nuts.build_kernel()
first, update, final = dual_averaging_adaptation(0.8)


def advance(step_size, mass):
    """One step of the sampler, in the form that a scan takes."""
    return lambda state, key: kernel(key, state, target.log_p, step_size, mass)


def sampled(state, step_size, mass, key):
    """A chain's position and its number of leapfrog steps at each draw."""

    def step(state, key):
        state, info = advance(step_size, mass)(state, key)
        return state, (state.position, info.num_integration_steps)

    return jax.lax.scan(step, state, jax.random.split(key, draws))[1]


def usual(z, key):
    """A chain after 1,000 steps of BlackJAX's own adaptation of step size and mass matrix."""
    warm_up = blackjax.window_adaptation(blackjax.nuts, target.log_p)
    (state, found), _ = warm_up.run(key, z, 1000)
    return sampled(state, found["step_size"], found["inverse_mass_matrix"], key)


def begun(z, key):
    """A chain after 50 steps that adapt only the step size, with the fit's mass matrix."""

    def step(carry, key):
        state, adaptation = carry
        state, info = advance(jnp.exp(adaptation.log_step_size), mass)(state, key)
        return (state, update(adaptation, info.acceptance_rate)), None

    carry = blackjax.nuts.init(z, target.log_p), first(1.0)
    (state, adaptation), _ = jax.lax.scan(step, carry, jax.random.split(key, 50))
    return sampled(state, final(adaptation), mass, key)


# BlackJAX takes the unconstrained vector z itself. The context switches JAX to double precision and
# restores its setting afterwards.
with jax.enable_x64(True):
    keys = jax.random.split(jax.random.key(0), chains)
    anywhere = jax.random.uniform(jax.random.key(1), (chains, target.dim), minval=-2, maxval=2)
    print(f"\n{'warm-up':<24}{'least ESS':>10}{'largest R-hat':>15}{'gradients a draw':>18}")
    for name, chain, points in [
        ("1,000 steps, as usual", usual, anywhere),
        ("50 steps, from the fit", begun, jnp.asarray(start.unconstrained)),
    ]:
        z, gradients = jax.jit(jax.vmap(chain))(points, keys)
        ess, r_hat = effective_sample_size(z).min(), potential_scale_reduction(z).max()
        print(f"{name:<24}{ess:>10.0f}{r_hat:>15.3f}{gradients.mean():>18.1f}")
