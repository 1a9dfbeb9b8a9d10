"""Stan models with known answers, compiled from the C files beside this one."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import zlib
from itertools import count
from pathlib import Path

FOLDER = Path(__file__).parent
COMPILER = shlex.split(os.environ.get("CC", "cc"))
HAS_COMPILER = shutil.which(COMPILER[0]) is not None


def compiled(name: str, folder: Path, *flags: str) -> Path:
    """A shared object of the model `name`, in `folder`.

    It is compiled once for a folder and flags, and copied under a new name for every call:
    BridgeStan warns of a file that is loaded twice, and a warning is an error in the tests.
    """
    stem = f"{name}-{zlib.crc32(' '.join(flags).encode()):08x}"
    original = folder / f"{stem}.so"
    if not original.exists():
        _compile(name, original, flags)
    copies = (folder / f"{stem}-{number}.so" for number in count(1))
    copy = next(path for path in copies if not path.exists())
    return Path(shutil.copy(original, copy))


def _compile(name: str, output: Path, flags: tuple[str, ...]) -> None:
    model = f'-DMODEL_FILE="{name}.c"'
    options = ["-std=c99", "-Wall", "-Wextra", "-O2", "-shared", "-fPIC", model, *flags]
    source = str(FOLDER / "interface.c")
    subprocess.run([*COMPILER, *options, source, "-o", str(output), "-lm"], check=True)
