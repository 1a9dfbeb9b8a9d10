"""Run a benchmark: ``python -m benchmarks NAME PATH``, PATH holding ``posterior_database/``."""

import argparse
import importlib
from pathlib import Path

from benchmarks.posteriors import POSTERIORS
from benchmarks.table import PACKAGES, Report

SUITES = {
    "posteriordb": [0, 1, 2, 3, 4],
    "climb": [0, 1, 2, 3, 4],
    "peers": [0],
    "languages": [0],
    "modes": [0, 1, 2, 3, 4],
    "lowrank": [0],
    "sparse": [0],
    "trust": [0],
    "corpus": [0],
    "warmup": [0],
    "scale": [0],
    "svi": [0],
}
"""Benchmarks, and the seeds of each if none are given."""

WITHOUT_PATH = ("modes", "lowrank", "sparse", "scale", "svi")
"""Those that make their own targets."""


def main() -> None:
    """Read the command line, run one benchmark, write its files."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("name", choices=SUITES, help="which one")
    parser.add_argument(
        "path",
        type=Path,
        nargs="?",
        help=f"folder that contains posterior_database/; not for {' and '.join(WITHOUT_PATH)}",
    )
    parser.add_argument("--posteriors", default="", help="only names with this in them")
    parser.add_argument("--seeds", type=int, nargs="+", help="0, or 0 1 2 3 4")
    parser.add_argument(
        "--out",
        type=Path,
        action="append",
        default=[],
        help="also write here: JSON if it ends in .json, a picture (of scale) if in .png, else "
        "Markdown; may be repeated",
    )
    parser.add_argument(
        "--resume", action="store_true", help="go on with the JSON of --out (corpus alone)"
    )
    options = parser.parse_args()
    if options.path is None and options.name not in WITHOUT_PATH:
        parser.error("give the folder that contains posterior_database/")
    suite = importlib.import_module(f"benchmarks.suite_{options.name}")
    if hasattr(suite, "posteriors"):
        posteriors = [name for name in suite.posteriors(options.path) if options.posteriors in name]
    else:
        posteriors = [p for name, p in POSTERIORS.items() if options.posteriors in name]
    if not posteriors:
        parser.error(f"no posterior has {options.posteriors!r} in its name")
    seeds = options.seeds or SUITES[options.name]
    report = Report(
        f"{options.name}, seeds {' '.join(map(str, seeds))}",
        getattr(suite, "PACKAGES", PACKAGES),
        [path for path in options.out if path.suffix != ".png"],
    )
    if options.resume:
        report.resume()
    suite.measure(options.path, posteriors, seeds, report)
    for path in options.out:
        if path.suffix == ".png":
            suite.draw(report.records, path)
        else:
            report.write(path)


if __name__ == "__main__":
    main()
