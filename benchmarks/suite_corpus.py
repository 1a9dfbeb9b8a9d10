"""Every posterior of a folder: the default fit beside two samplers, and claims against long runs.

The folder has posteriordb's shape. Its Stan programs run without a compiler, by stanli.
"""

from __future__ import annotations

import importlib.util
import math
import re
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import infimum
from benchmarks.apart import apart
from benchmarks.database import data_size, load_data, load_program, posterior_names
from benchmarks.table import Report, Table, number

PACKAGES = ("stanli", "nutpie", "jax", "numpyro", "numpy", "scipy")
"""Those whose versions matter here."""

BUDGET = 120.0
"""Seconds that the default fit is given."""

OVERRUN = 180.0
"""Seconds after its budget at which a fit is given up."""

CHAINS, ITERATIONS = 4, 1_000
"""Of the samplers: chains, and iterations of each for the warm-up and again to keep."""

LIMIT = 180.0
"""Seconds of stanli's NUTS, the longer runs included."""

NUTPIE_LIMIT = 120.0
"""Seconds after which nutpie is given up."""

R_HAT, ENOUGH = 1.01, 1_000
"""A reference run is made longer until the largest R-hat and the least bulk ESS are these."""

MEAN, SD = 0.1, 0.1
"""Posterior sds by which a right mean may be off, and part by which a right sd may be."""

ERRORS = 3.0
"""Standard errors of the reference beyond which its noise is no explanation."""

SHARE = {"good": 0.99, "reweight": 0.97}
"""Part of the quantities with this verdict that has to be right, as in `trust`."""

LISTED = 5
"""Wrong claims of a posterior that have a line each; the JSON has all."""

WORDS = 110
"""Characters of an error message that are shown."""

GIVEN_UP = "given up after"
"""How the words of a run begin that took too long, which is no error."""

OURS, STANLI, NUTPIE = "infimum", "stanli NUTS", "nutpie"

Record = dict[str, Any]


def posteriors(folder: Path) -> list[str]:
    """Names of all posteriors in a folder, those with small data first: a stop keeps many."""
    return sorted(posterior_names(folder), key=lambda name: data_size(folder, name))


def measure(folder: Path, names: Sequence[str], seeds: Sequence[int], report: Report) -> None:
    """Run all methods on every posterior; write the files again after each of them.

    Posteriors that the report already has are left out.
    """
    known = {record["posterior"] for record in report.records}
    for name in names:
        if name not in known:
            report.records.append(_compared(folder, name, seeds[0], report))
            report.write_so_far(_parts(report.records, names))
    for part in _parts(report.records, names):
        report.add(part)
    errors = [run.get("error") for r in report.records for run in r["runs"].values()]
    report.n_errors = sum(error is not None and GIVEN_UP not in error for error in errors)
    report.close()


def _compared(folder: Path, name: str, seed: int, report: Report) -> Record:
    """The runs of all methods on a posterior, and the fit's claims against the longest run."""
    methods = {OURS: ("default_fit", BUDGET + OVERRUN), STANLI: ("nuts", LIMIT + OVERRUN)}
    if importlib.util.find_spec("nutpie"):
        methods[NUTPIE] = ("nutpie_nuts", NUTPIE_LIMIT)
    runs = {}
    for method, (function, seconds) in methods.items():
        runs[method] = _run(function, str(folder), name, seed, seconds=seconds)
        report.progress(f"{name} {method}: {_in_short(runs[method])}")
    claims = runs[OURS].pop("quantities", {})
    reference = runs[STANLI].pop("reference", None)
    record: Record = {"posterior": name, "seed": seed, "runs": runs, "reference": reference}
    if reference:
        truth = reference.pop("quantities")
        if claims:
            parameters = set(reference.pop("parameters"))
            record["comparison"] = _comparison(claims, truth, parameters)
    return record


def _run(function: str, *arguments: Any, seconds: float) -> Record:
    """What a function returns from a process of its own, or the first words of its error."""
    try:
        run: Record = apart("suite_corpus", function, *arguments, seconds=seconds)
    except subprocess.TimeoutExpired:
        return {"error": f"{GIVEN_UP} {seconds:.0f} s"}
    except RuntimeError as error:
        return {"error": f"the process died with {str(error).rpartition(' ')[2]}"}
    return run


def _in_short(run: Record) -> str:
    if "error" in run:
        return str(run["error"])
    ending = run.get("verdict") or f"R-hat {run['r_hat']:.3f}"
    return f"{ending}, {run['seconds']:.1f} s, ESS {run['ess']:.0f}"


# In processes of their own ------------------------------------------------------------------------


def default_fit(folder: str, name: str, seed: int) -> Record:
    """The default fit: seconds from the program to its summary, and every row of that."""
    return _or_error(folder, lambda: _default_fit(folder, name, seed))


def _default_fit(folder: str, name: str, seed: int) -> Record:
    program, data = load_program(folder, name), load_data(folder, name)
    normal = infimum.Target(lambda z: -0.5 * (z**2).sum(), np.zeros(2))
    _ = infimum.fit(normal, progress=False).verdict  # imports happen before anything is timed
    began, cpu = time.perf_counter(), time.process_time()
    target = infimum.from_stan(program, data)
    # `infimum.fit` returns the best fit of this climb; the others tell their gradients.
    climb = infimum.climb(target, budget=BUDGET, seed=seed, progress=False)
    fit = climb.best
    summary = fit.summary()
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    columns = ["mean", "sd", "weighted_mean", "weighted_sd", "verdict"]
    return {
        "d": target.dim,
        "seconds": seconds,
        "cpu_seconds": cpu,
        "gradients": sum(each.work.n_gradients for each in climb.fits),
        "verdict": fit.verdict,
        "family": fit.family.name,
        "ess": fit.ess,
        "n_draws": fit.n_draws,
        "kl": fit.kl.value,
        "khat": fit.khat,
        "advice": _plain(fit.advice, folder),
        "route": _plain(str(climb.route), folder),
        "quantities": {
            quantity: dict(zip(columns, row, strict=True))
            for quantity, *row in summary[columns].itertuples()
        },
    }


def nuts(folder: str, name: str, seed: int) -> Record:
    """stanli's NUTS as it comes, then longer until it can be a reference."""
    return _or_error(folder, lambda: _nuts(folder, name, seed))


def _nuts(folder: str, name: str, seed: int) -> Record:
    import stanli

    program, data = load_program(folder, name), load_data(folder, name)
    # stanli stops for Ctrl-C only, and then between two draws.
    signal.signal(signal.SIGALRM, lambda *_: signal.raise_signal(signal.SIGINT))
    signal.setitimer(signal.ITIMER_REAL, LIMIT)
    begin, cpu = time.perf_counter(), time.process_time()
    run: Record = {}
    try:
        model = stanli.Model(stan_file=str(program), data=data)
        run["d"] = model.n_unconstrained
        options = {"chains": CHAINS, "seed": seed + 1, "refresh": 0}
        sample = model.sample(warmup=ITERATIONS, samples=ITERATIONS, save_warmup=True, **options)
        seconds = time.perf_counter() - begin
        run |= {"seconds": seconds, "cpu_seconds": time.process_time() - cpu}
        leapfrogs = sample.sampler_stats[:, :, stanli.SAMPLER_COLUMNS.index("n_leapfrog__")]
        run["gradients"] = int(leapfrogs.sum())
        sample, divergent = _kept(sample), int(sample.divergences.sum())
        run |= {"divergent": divergent, **_mixing(sample, model.constrained_names)}
        run["reference"] = _reference(sample, ITERATIONS, seconds, divergent, model)
        iterations = ITERATIONS
        while not _long_enough(run["reference"]):
            left = LIMIT - (time.perf_counter() - begin)
            if 2 * run["reference"]["seconds"] > left:
                break
            iterations *= 2
            began = time.perf_counter()
            sample = model.sample(warmup=iterations, samples=iterations, **options)
            seconds, divergent = time.perf_counter() - began, int(sample.divergences.sum())
            run["reference"] = _reference(sample, iterations, seconds, divergent, model)
    except KeyboardInterrupt:
        if "reference" not in run:
            run["error"] = f"{GIVEN_UP} {LIMIT:.0f} s"
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    return run


def _kept(sample: Any) -> Any:
    """A run without its warm-up, which was saved for its leapfrog steps."""
    import stanli

    return stanli.Fit(
        sample.names,
        sample.draws()[:, ITERATIONS:],
        sample.sampler_stats[:, ITERATIONS:],
        sample.max_depth,
        sample.seed,
    )


def _mixing(sample: Any, names: Sequence[str]) -> Record:
    """Largest R-hat and least bulk ESS over parameters; infinite and 0 if a chain stands still."""
    summary = sample.summary(names)
    moves = np.array([np.ptp(sample[name]) != 0 for name in names])
    r_hat, ess = summary.r_hat[moves], summary.ess_bulk[moves]
    if not np.isfinite(r_hat).all():
        return {"r_hat": math.inf, "ess": 0.0}
    return {"r_hat": float(r_hat.max()), "ess": float(ess.min())}


def _reference(sample: Any, iterations: int, seconds: float, divergent: int, model: Any) -> Record:
    """Moments of every quantity with their standard errors, in posterior sds."""
    summary = sample.summary()
    moves = (summary.sd > 0) & np.isfinite(summary.r_hat)
    sd = np.where(moves, summary.sd, 1.0)
    columns = (summary.mean, summary.sd, summary.mcse_mean / sd, summary.mcse_sd / sd)
    rows = np.column_stack([*columns, summary.r_hat]).tolist()
    keys = ("mean", "sd", "mean_error", "sd_error", "r_hat")
    names = [_from_zero(column) for column in summary.names]
    quantities = {
        quantity: {"moves": bool(moved), **dict(zip(keys, row, strict=True))}
        for quantity, row, moved in zip(names, rows, moves, strict=True)
    }
    return {
        "iterations": iterations,
        "seconds": seconds,
        "divergent": divergent,
        **_mixing(sample, model.constrained_names),
        "parameters": [_from_zero(column) for column in model.constrained_names],
        "quantities": quantities,
    }


def _from_zero(name: str) -> str:
    """Stan's `L[1,2]` as infimum's `L[0, 1]`."""
    base, bracket, indices = name.partition("[")
    if not bracket:
        return name
    return f"{base}[{', '.join(str(int(i) - 1) for i in indices.rstrip(']').split(','))}]"


def _long_enough(reference: Record) -> bool:
    return bool(reference["r_hat"] <= R_HAT and reference["ess"] >= ENOUGH)


class UndefinedError(ValueError):
    """No density at a point; nutpie rejects the point for this attribute."""

    is_recoverable = True


def nutpie_nuts(folder: str, name: str, seed: int) -> Record:
    """nutpie on stanli's gradient: a call of Python for each gradient and each draw."""
    return _or_error(folder, lambda: _nutpie(folder, name, seed))


def _nutpie(folder: str, name: str, seed: int) -> Record:
    import nutpie
    import stanli
    from nutpie.compiled_pyfunc import from_pyfunc

    program, data = load_program(folder, name), load_data(folder, name)
    counts: list[list[float]] = []

    def density() -> Callable[[np.ndarray], tuple[float, np.ndarray]]:
        spent = [0, 0.0]
        counts.append(spent)

        def evaluate(z: np.ndarray) -> tuple[float, np.ndarray]:
            began = time.thread_time()
            try:
                return bridged.log_density_gradient(z, propto=True, jacobian=True)
            except RuntimeError as error:
                raise UndefinedError(str(error)) from error
            finally:
                spent[0] += 1
                spent[1] += time.thread_time() - began

        return evaluate

    def unchanged(*_: Any) -> Callable[[np.ndarray], dict[str, np.ndarray]]:
        return lambda z: {"z": z}

    began, cpu = time.perf_counter(), time.process_time()
    # `stanli.Model.log_prob_grad` crashes in nutpie's threads; this interface does not.
    bridged = stanli.bridgestan_model(stan_file=str(program), data=data)
    d = bridged.param_unc_num()
    model = from_pyfunc(d, density, unchanged, [np.dtype(float)], [(d,)], ["z"])
    trace = nutpie.sample(
        model,
        draws=ITERATIONS,
        tune=ITERATIONS,
        chains=CHAINS,
        seed=seed,
        save_warmup=False,
        progress_bar=False,
    )
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    draws = np.ascontiguousarray(trace.posterior["z"])
    names = [f"z[{i + 1}]" for i in range(d)]
    sample = stanli.Fit(names, draws, np.zeros((*draws.shape[:2], 1)), 10, seed)
    return {
        "d": d,
        "seconds": seconds,
        "cpu_seconds": cpu,
        "python_seconds": cpu - sum(spent for _, spent in counts),
        "gradients": sum(int(count) for count, _ in counts),
        "divergent": int(trace.sample_stats["diverging"].sum()),
        **_mixing(sample, names),
    }


def _or_error(folder: str, run: Callable[[], Record]) -> Record:
    """What a run returns, or the first words of its error."""
    try:
        return run()
    except Exception as error:  # whatever a library raises is the result of its row
        return {"error": _plain(f"{type(error).__name__}: {error}", folder)[:WORDS]}


def _plain(text: str, folder: str) -> str:
    """Text in one line, without this machine's paths or what ends a cell of a table."""
    for path in (str(Path(folder).resolve()), folder):
        text = text.replace(f"{path}/", "")
    return re.sub(r"\s+", " ", text).replace("|", "/")


# Claims -------------------------------------------------------------------------------------------


def _comparison(claims: Record, truth: Record, parameters: set[str]) -> Record:
    """The largest errors of weighted moments, and how many claims are right."""
    means, sds = {}, {}
    counts: Counter[str] = Counter()
    wrong = []
    for name, row in claims.items():
        known = truth.get(name)
        if known is None:
            counts["not in the reference"] += 1
            continue
        if not known["moves"]:
            continue
        if name in parameters:
            means[name], sds[name] = _off(row["weighted_mean"], row["weighted_sd"], known)
        verdict = row["verdict"]
        if verdict == "unreliable":
            counts[verdict] += 1
            continue
        weighted = "weighted_" if verdict == "reweight" else ""
        off = _off(row[f"{weighted}mean"], row[f"{weighted}sd"], known)
        answer = _judged(off, known)
        counts[f"{verdict}, {answer}"] += 1
        if answer == "wrong":
            errors = {"mean_error": known["mean_error"], "sd_error": known["sd_error"]}
            wrong.append({"name": name, "verdict": verdict, "mean": off[0], "sd": off[1], **errors})
    wrong.sort(key=lambda claim: -max(claim["mean"], claim["sd"]))
    usable = [name for name in means if claims[name]["verdict"] != "unreliable"]
    return {
        "counts": dict(counts),
        "wrong": wrong,
        "n_parameters": len(means),
        "mean": _largest(means),
        "sd": _largest(sds),
        "usable": {
            "mean": _largest({name: means[name] for name in usable}),
            "sd": _largest({name: sds[name] for name in usable}),
        },
    }


def _largest(errors: dict[str, float]) -> Record | None:
    """The largest error, and whose it is; NaN is larger than any."""
    if not errors:
        return None
    name = max(errors, key=lambda name: np.nan_to_num(errors[name], nan=np.inf))
    return {"error": errors[name], "name": name}


def _off(mean: float, sd: float, known: Record) -> tuple[float, float]:
    """Error of a mean in posterior sds, and of an sd relative to it."""
    return abs(mean - known["mean"]) / known["sd"], abs(sd / known["sd"] - 1)


def _judged(off: tuple[float, float], known: Record) -> str:
    """Whether a claim is right; "unknown" if the reference is too noisy to tell."""
    noise = ERRORS * known["mean_error"], ERRORS * known["sd_error"]
    if not known["r_hat"] <= R_HAT or not np.isfinite(noise).all():
        return "unknown"
    bounds = MEAN, SD
    if any(not error <= bound + x for error, bound, x in zip(off, bounds, noise, strict=True)):
        return "wrong"
    certain = all(x <= bound for x, bound in zip(noise, bounds, strict=True))
    within = all(error <= bound for error, bound in zip(off, bounds, strict=True))
    return "right" if certain and within else "unknown"


def _known(record: Record) -> bool:
    """Whether there is a truth: a reference whose parameters all have a small R-hat."""
    return bool(record["reference"] and record["reference"]["r_hat"] <= R_HAT)


# Tables -------------------------------------------------------------------------------------------


def _parts(records: Sequence[Record], names: Sequence[str]) -> list[Table | str]:
    """All tables and lines for the posteriors so far."""
    records = sorted(records, key=lambda record: str(record["posterior"]))
    return [
        *_missing(records, names),
        _costs(records),
        _errors(records),
        *_endings(records),
        *_speed(records),
        *_claims(records),
    ]


def _missing(records: Sequence[Record], names: Sequence[str]) -> list[str]:
    lines = []
    if not importlib.util.find_spec("nutpie"):
        lines.append("nutpie is not installed, so it is left out")
    known = {record["posterior"] for record in records}
    left = [name for name in sorted(names) if name not in known]
    if left:
        lines.append(
            f"INCOMPLETE: {len(left)} of {len(names)} posteriors are missing: {', '.join(left)}"
        )
    return lines


def _costs(records: Sequence[Record]) -> Table:
    columns = ("posterior", "method", "d", "s", "CPU s", "of these outside gradients", "gradients")
    columns += ("verdict", "family", "ESS", "of draws", "largest R-hat", "divergences")
    rows = []
    for record in records:
        known = [run["d"] for run in record["runs"].values() if "d" in run]
        d = number(known[0]) if known else "–"
        for method, run in record["runs"].items():
            rows.append((record["posterior"], method, d, *_cost(run)))
    title = f"The default fit in {BUDGET:g} s, and {CHAINS} chains of {ITERATIONS:,} draws"
    return Table(title, columns, tuple(rows), n_left=2)


def _cost(run: Record) -> tuple[str, ...]:
    if "error" in run:
        return ("–", "–", "–", "–", str(run["error"]), "–", "–", "–", "–", "–")
    return (
        number(run["seconds"], 1),
        number(run["cpu_seconds"], 1),
        number(run.get("python_seconds"), 1),
        number(run["gradients"]),
        run.get("verdict", "–"),
        run.get("family", "–"),
        number(run["ess"]),
        number(run.get("n_draws", CHAINS * ITERATIONS)),
        "stands still" if run.get("r_hat") == math.inf else number(run.get("r_hat"), 3),
        number(run.get("divergent")),
    )


def _errors(records: Sequence[Record]) -> Table:
    columns = ("posterior", "reference draws", "s", "largest R-hat", "least ESS", "divergences")
    columns += ("truth", "verdict", "mean (sds)", "sd (rel.)")
    columns += ("mean, usable", "sd, usable")
    columns += ("good: right", "wrong", "unknown", "reweight: right", "wrong", "unknown")
    columns += ("unreliable",)
    rows = []
    for record in records:
        reference, comparison = record["reference"], record.get("comparison")
        verdict = record["runs"][OURS].get("verdict", "–")
        cells = ["–"] * 5
        if reference:
            cells = [f"{CHAINS} × {reference['iterations']:,}", number(reference["seconds"], 1)]
            cells += [number(reference["r_hat"], 3), number(reference["ess"])]
            cells += [number(reference["divergent"])]
        cells += ["yes" if _known(record) else "no", verdict]
        if comparison and _known(record):
            counts = comparison["counts"]
            for part in (comparison, comparison["usable"]):
                cells += [number(part[key] and part[key]["error"], 3) for key in ("mean", "sd")]
            cells += [
                str(counts.get(f"{verdict}, {answer}", 0))
                for verdict in SHARE
                for answer in ("right", "wrong", "unknown")
            ]
            cells += [str(counts.get("unreliable", 0))]
        else:
            cells += ["–"] * 11
        rows.append((record["posterior"], *cells))
    title = "Largest errors of infimum's weighted moments over the parameters, and its claims"
    return Table(title, columns, tuple(rows))


# Lines --------------------------------------------------------------------------------------------


def _endings(records: Sequence[Record]) -> list[str]:
    """How fits ended, and why where that is not well."""
    verdicts = Counter(record["runs"][OURS].get("verdict", "error") for record in records)
    order = ("good", "reweight", "unreliable", "error")
    counted = ", ".join(f"{verdicts[verdict]} {verdict}" for verdict in order)
    lines = [f"verdicts of {len(records)} posteriors: {counted}"]
    without = [record["posterior"] for record in records if not _known(record)]
    truths = f"references with R-hat <= {R_HAT}: {len(records) - len(without)} of {len(records)}"
    lines.append(truths + (f"; no truth for {', '.join(without)}" if without else ""))
    for record in records:
        run = record["runs"][OURS]
        if run.get("verdict") == "unreliable":
            lines.append(
                f"UNRELIABLE  {record['posterior']}: {run['advice']} Climb: {run['route']}"
            )
        for method, run in record["runs"].items():
            if "error" in run:
                lines.append(f"FAILED  {record['posterior']}, {method}: {run['error']}")
    return lines


def _speed(records: Sequence[Record]) -> list[str]:
    """Seconds of the methods, posterior by posterior."""
    lines = []
    for method in (STANLI, NUTPIE):
        pairs = [(r["runs"][OURS], r["runs"].get(method, {"error": ""})) for r in records]
        both = [(ours, theirs) for ours, theirs in pairs if "seconds" in ours and "ess" in theirs]
        if not both:
            continue
        ratios = [theirs["seconds"] / ours["seconds"] for ours, theirs in both]
        cpu = [theirs["cpu_seconds"] / ours["cpu_seconds"] for ours, theirs in both]
        lines.append(
            f"{method} / infimum, seconds: median {np.median(ratios):.2f}, infimum is faster on "
            f"{sum(x > 1 for x in ratios)} of {len(both)} that both finished; CPU seconds: median "
            f"{np.median(cpu):.2f}, less on {sum(x > 1 for x in cpu)}"
        )
        useful = sum(ours["verdict"] != "unreliable" for ours, _ in both)
        mixed = sum(theirs["r_hat"] <= R_HAT for _, theirs in both)
        lines.append(
            f"of these, infimum has an answer on {useful}, and {method} has R-hat <= {R_HAT} "
            f"on {mixed}"
        )
    return lines


def _claims(records: Sequence[Record]) -> list[str]:
    """Wrong claims, and shares of the right ones."""
    lines = []
    compared = [r for r in records if _known(r) and "comparison" in r]
    for record in compared:
        lost = record["comparison"]["counts"].get("not in the reference")
        if lost:
            lines.append(f"LOST  {record['posterior']}: {lost} quantities are not in the reference")
        wrong = record["comparison"]["wrong"]
        for claim in wrong[:LISTED]:
            lines.append(
                f"WRONG  {record['posterior']} {claim['name']}, called {claim['verdict']}: mean "
                f"off by {claim['mean']:.3f} sds (reference ± {claim['mean_error']:.3f}), sd by "
                f"{claim['sd']:.1%} (± {claim['sd_error']:.1%})"
            )
        if len(wrong) > LISTED:
            lines.append(f"WRONG  {record['posterior']}: {len(wrong) - LISTED} quantities more")
    for verdict, least in SHARE.items():
        counts = [_counted(record, verdict) for record in compared]
        right, wrong, unknown = (sum(count[i] for count in counts) for i in range(3))
        shares = [count[0] / (count[0] + count[1]) for count in counts if count[0] + count[1]]
        if not shares:
            lines.append(f"nothing is called {verdict} where there is a truth")
            continue
        share = right / (right + wrong)
        lines.append(
            f"{'PASS' if share >= least else 'FAIL'}  {verdict}: at least {least:.0%} right: "
            f"{right:,} of {right + wrong:,} ({share:.1%}) on {len(shares)} posteriors, whose "
            f"shares have the mean {np.mean(shares):.1%}; the reference is too noisy to tell for "
            f"{unknown:,} more"
        )
    return lines


def _counted(record: Record, verdict: str) -> tuple[int, int, int]:
    """Quantities with a verdict that are right, that are wrong, and that nobody can tell."""
    counts = record["comparison"]["counts"]
    right, wrong, unknown = (
        counts.get(f"{verdict}, {answer}", 0) for answer in ("right", "wrong", "unknown")
    )
    return right, wrong, unknown
