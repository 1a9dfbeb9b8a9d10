"""A measurement in a process of its own: its peak memory is its own, and it can be given up."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any


def apart(suite: str, function: str, *arguments: Any, seconds: float | None = None) -> Any:
    """What a function of a suite returns, through JSON.

    Parameters
    ----------
    suite, function
        Names of the module in `benchmarks`, and of the function in it.
    seconds
        After which it is given up.

    Raises
    ------
    RuntimeError
        If the process fails; what it wrote has been shown.
    subprocess.TimeoutExpired
        If it takes longer.
    """
    child = begun(suite, function, *arguments)
    try:
        return answer(child, seconds)
    finally:
        child.kill()
        child.wait()


def begun(suite: str, function: str, *arguments: Any) -> subprocess.Popen[str]:
    """The process of a measurement, on its way; its `answer` is for whoever began it."""
    call = f"benchmarks.{suite}.{function}{arguments!r}"
    code = f"import json, benchmarks.{suite}; print(json.dumps({call}))"
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)


def answer(child: subprocess.Popen[str], seconds: float | None = None) -> Any:
    """What the function returned; raises as `apart` does."""
    told, _ = child.communicate(timeout=seconds)
    if child.returncode:
        raise RuntimeError(f"the process of {child.args!r} ended with {child.returncode}")
    return json.loads(told.splitlines()[-1])


def peak_megabytes() -> float:
    """The most memory that this process ever held.

    Linux hands what `getrusage` tells on to a process from the one that began it.
    """
    status = Path("/proc/self/status")
    if status.exists():
        line = next(x for x in status.read_text().splitlines() if x.startswith("VmHWM:"))
        return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
