"""Run the tests as older processors would, with one thread and with two, on each Python here.

    python tests/portable.py [--python 3.12] [--only AVX] [--threads 1] [tests or options of pytest]

Libraries choose their kernels by the processor, and so round differently. Here XLA, BLAS, NumPy and
Numba are told to use no instructions beyond those of an older one. Each run prints what is in use,
measured and not merely asked for, and ends where that differs. The kernels of this machine itself
are what `make test` runs. Environments of other Pythons are kept in build/portable.
"""

from __future__ import annotations

import argparse
import collections
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
THREADS = (1, 2)


@dataclass(frozen=True)
class Level:
    """A set of instructions.

    Attributes
    ----------
    name
        As XLA calls it.
    blas, numba
        A processor that has no more than these, as OpenBLAS and LLVM call it.
    features
        NumPy's names of what is beyond the next lower level.
    registers
        What XLA's programs then consist of: registers, and whether products and sums are fused.
    """

    name: str
    blas: str
    numba: str
    features: frozenset[str]
    registers: str


LEVELS = (
    Level("SSE4_2", "Nehalem", "nehalem", frozenset({"X86_V2", "SSE41", "SSE42", "SSSE3"}), "xmm"),
    Level("AVX", "Sandybridge", "sandybridge", frozenset({"AVX", "F16C"}), "ymm"),
    Level("AVX2", "Haswell", "haswell", frozenset({"X86_V3", "AVX2", "FMA3"}), "ymm fused"),
    Level("AVX512", "SkylakeX", "skylake-avx512", frozenset({"X86_V4", "AVX512F"}), "zmm fused"),
)
"""From the oldest on that NumPy 2 runs on."""


def numpy_features() -> tuple[list[str], list[str]]:
    """What NumPy can choose, and what of it the processor has and nobody has disabled."""
    from numpy._core._multiarray_umath import __cpu_dispatch__, __cpu_features__

    return list(__cpu_dispatch__), [name for name, there in __cpu_features__.items() if there]


def in_use() -> dict[str, object]:
    """What the libraries of this process use."""
    import scipy.linalg  # noqa: F401 - it brings a BLAS of its own
    from threadpoolctl import threadpool_info

    blas = [pool for pool in threadpool_info() if pool["user_api"] == "blas"]
    dispatch, features = numpy_features()
    return {
        "numpy": [name for name in dispatch if name in features],
        "blas": sorted({str(pool["architecture"]) for pool in blas}),
        "blas threads": sorted({int(pool["num_threads"]) for pool in blas}),
        "numba": numba_processor(),
        "xla": xla_registers(),
        "xla threads": xla_threads(),
    }


def numba_processor() -> str:
    """What Numba compiles for."""
    from numba.core.registry import cpu_target

    return str(cpu_target.target_context.codegen().magic_tuple()[1])


def xla_registers() -> str:
    """The widest registers of a product and a sum, disassembled, and whether they are fused.

    Without objdump it is only measured whether they are fused, by what is rounded away.
    """
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_dump_to={folder}"
        import jax
        import numpy as np

        with jax.enable_x64(True):
            x, y = np.full(1024, 1 + 2.0**-30), np.full(1024, -1 - 2.0**-29)
            fused = bool(np.asarray(jax.jit(lambda x, y: x * x + y)(x, y))[0])
        end = " fused" if fused else ""
        if shutil.which("objdump") is None:
            return f"unknown{end}"
        files = list(Path(folder).glob("*.o"))
        code = subprocess.run(
            ["objdump", "-d", *files], check=True, capture_output=True, text=True
        ).stdout
        return max(re.findall("[xyz]mm", code)) + end


def xla_threads() -> int:
    """How many threads XLA computes in; -1 where the system does not tell."""
    names = [path.read_text() for path in Path("/proc/self/task").glob("*/comm")]
    return sum("XLAEigen" in name for name in names) if names else -1


def older_levels() -> list[Level]:
    """Those below this machine's own, newest first."""
    _, features = numpy_features()
    own = [place for place, level in enumerate(LEVELS) if level.features & set(features)]
    return list(reversed(LEVELS[: max(own, default=0)]))


def environment(level: Level, n_threads: int, python: str) -> dict[str, str]:
    """Variables under which libraries keep to this level and to so many threads."""
    code = "import json, portable; print(json.dumps(portable.numpy_features()))"
    dispatch, features = json.loads(output(python, code, os.environ | {"PYTHONPATH": "tests"}))
    newer = LEVELS[LEVELS.index(level) + 1 :]
    first = [name for above in newer for name in dispatch if name in above.features]
    beyond = dispatch[dispatch.index(first[0]) :] if first else []
    n = str(n_threads)
    return os.environ | {
        "XLA_FLAGS": f"--xla_cpu_max_isa={level.name}",
        "OPENBLAS_CORETYPE": level.blas,
        "NPY_DISABLE_CPU_FEATURES": " ".join(name for name in beyond if name in features),
        "NUMBA_CPU_NAME": level.numba,
        "NUMBA_CPU_FEATURES": "",
        "NPROC": n,  # what XLA reads
        "OPENBLAS_NUM_THREADS": n,
        "OMP_NUM_THREADS": n,
        "NUMBA_NUM_THREADS": n,
        "JAXTYPING_DISABLE": "1",
        "PYTHONPATH": "tests",
    }


def output(python: str, code: str, variables: dict[str, str]) -> str:
    """What a program prints."""
    return subprocess.run(
        [python, "-c", code], check=True, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=variables
    ).stdout


def run(python: str, level: Level, n_threads: int, arguments: list[str]) -> str:
    """Run the tests once: what came of it, in a line."""
    variables = environment(level, n_threads, python)
    code = "import json, portable; print(json.dumps(portable.in_use()))"
    found = json.loads(output(python, code, variables))
    print("in use:", ", ".join(f"{name} {value}" for name, value in found.items()), flush=True)
    expected = {"blas": [level.blas], "blas threads": [n_threads], "numba": level.numba}
    if not found["xla"].startswith("unknown"):
        expected["xla"] = level.registers
    if found["xla threads"] >= 0:
        expected["xla threads"] = n_threads
    wrong = [f"{name} is {found[name]}" for name, value in expected.items() if found[name] != value]
    if wrong or set(found["numpy"]) & set(variables["NPY_DISABLE_CPU_FEATURES"].split()):
        return f"not run, the variables have no effect: {', '.join(wrong) or found['numpy']}"
    workers = max(1, (os.cpu_count() or 1) // n_threads)
    began = time.perf_counter()
    command = [python, "-m", "pytest", "--quiet", "--no-cov", "--numprocesses", str(workers)]
    done = subprocess.run([*command, *arguments], cwd=ROOT, env=variables, check=False)
    outcome = "passed" if done.returncode == 0 else f"FAILED ({done.returncode})"
    return f"{outcome} in {time.perf_counter() - began:.0f} s"


def interpreter(version: str) -> str | None:
    """A Python of this version that has all that the tests need; None if there is none here."""
    if version == f"{sys.version_info.major}.{sys.version_info.minor}":
        return sys.executable
    program = next((p for p in candidates(version) if answers(p, version)), None)
    if program is None:
        return None
    folder = ROOT / "build" / "portable" / version
    python, stamp = folder / "bin" / "python", folder / "installed"
    if not stamp.exists() or stamp.stat().st_mtime < (ROOT / "pyproject.toml").stat().st_mtime:
        print(f"Setting up {folder}", flush=True)
        pip = [python, "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
        subprocess.run([program, "-m", "venv", folder], check=True)
        subprocess.run([*pip, "--upgrade", "pip>=25.1"], check=True)
        needed = ["--editable", ".[all]", "--group", "suite"]
        subprocess.run([*pip, *needed], check=True, cwd=ROOT)
        stamp.touch()
    return str(python)


def candidates(version: str) -> list[str]:
    """Where a Python of this version may be."""
    found = shutil.which(f"python{version}")
    shims = sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/python"), reverse=True)
    return ([found] if found else []) + [str(path) for path in shims]


def answers(program: str, version: str) -> bool:
    """Whether it runs and is of this version."""
    code = "import sys; print('%d.%d' % sys.version_info[:2])"
    done = subprocess.run([program, "-c", code], capture_output=True, text=True, check=False)
    return done.stdout.strip() == version


def main() -> None:
    """Run all of it; the exit code is 1 if anything failed."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--python", action="append", choices=PYTHONS)
    parser.add_argument("--only", action="append", choices=[level.name for level in LEVELS])
    parser.add_argument("--threads", action="append", type=int, choices=THREADS)
    chosen, arguments = parser.parse_known_args()
    levels = [x for x in older_levels() if chosen.only is None or x.name in chosen.only]
    print(f"Older than this processor: {', '.join(level.name for level in levels) or 'none'}")
    outcomes: dict[str, str] = collections.OrderedDict()
    for version in chosen.python or PYTHONS:
        python = interpreter(version)
        if python is None:
            print(f"There is no Python {version} here.")
            continue
        for level in levels:
            for n_threads in chosen.threads or THREADS:
                what = f"Python {version}, {level.name}, {n_threads} thread{'s' * (n_threads > 1)}"
                print(f"\n{what}", flush=True)
                outcomes[what] = run(python, level, n_threads, arguments)
                print(f"{what}: {outcomes[what]}", flush=True)
    print("\n", *(f"{what}: {outcome}\n" for what, outcome in outcomes.items()), sep="")
    sys.exit(any(not outcome.startswith("passed") for outcome in outcomes.values()))


if __name__ == "__main__":
    main()
