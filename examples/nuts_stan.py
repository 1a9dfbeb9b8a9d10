"""NUTS in CmdStan, on the eight schools: a fit writes files that replace most of the warm-up.

Pass the path of the library that BridgeStan has compiled from the program. Without an argument,
BridgeStan compiles the program first. The files go to the folder given as the second argument, or
to a temporary folder.
"""

import json
import sys
import tempfile
from pathlib import Path

import bridgestan
import numpy as np

import infimum

data = {
    "J": 8,
    "effect": [28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0],  # Rubin (1981)
    "standard_error": [15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0],
}
chains = 4
program = Path(__file__).with_name("eight_schools.stan")

model = bridgestan.StanModel(sys.argv[1] if len(sys.argv) > 1 else program, json.dumps(data))
target = infimum.from_stan(model)
fit = infimum.fit(target, "fullrank", seed=0)
print(fit)

# CmdStan takes constrained values, chain by chain. Its vector has the parameters in the order in
# which the program declares them; the fit's vector has them in the order of their names. There is
# no matrix here; Stan would store one by columns, and the fit stores it by rows.
start, mass = fit.inits(chains, seed=0), fit.inverse_mass_matrix()
variables = [name.split("[")[0] for name in fit.space.free_names]
stated = dict.fromkeys(name.split(".")[0] for name in model.param_unc_names())
order = [i for name in stated for i, variable in enumerate(variables) if variable == name]

folder = Path(sys.argv[2] if len(sys.argv) > 2 else tempfile.mkdtemp())
for chain, values in enumerate(start, start=1):
    text = json.dumps({name: value.tolist() for name, value in values.items()})
    (folder / f"inits_{chain}.json").write_text(text, encoding="utf-8")
metric = {"inv_metric": mass[np.ix_(order, order)].tolist()}
(folder / "metric.json").write_text(json.dumps(metric), encoding="utf-8")
(folder / "data.json").write_text(json.dumps(data), encoding="utf-8")

# The whole warm-up is the last buffer: without a window the metric stays fixed, and only the step
# size adapts. The first buffer would not do, because a window always ends where it ends.
print(
    f"""
{program.stem} sample num_chains={chains} num_warmup=50 \\
  adapt init_buffer=0 window=0 term_buffer=50 \\
  algorithm=hmc metric=dense_e metric_file={folder}/metric.json \\
  data file={folder}/data.json init={folder}/inits.json"""
)

# Check that what Stan reads from these files is what the fit has drawn.
print(f"\n{'file':<15}{'log density by Stan':>20}{'by the fit':>14}{'off by':>10}")
log_p = target.values(start.unconstrained)
for chain, z in enumerate(start.unconstrained):
    path = folder / f"inits_{chain + 1}.json"
    read = model.param_unconstrain_json(path.read_text(encoding="utf-8"))
    off = np.abs(read - z[order]).max()
    by_stan = model.log_density(read, propto=False)
    print(f"{path.name:<15}{by_stan:>20.6f}{log_p[chain]:>14.6f}{off:>10.0e}")
