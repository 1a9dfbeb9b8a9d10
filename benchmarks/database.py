"""Read data sets and reference draws from a folder in posteriordb's layout."""

import json
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np


def load_data(folder: Path | str, posterior_name: str) -> dict[str, np.ndarray]:
    """Read the data that a posterior conditions on.

    Parameters
    ----------
    folder
        The folder that contains ``posterior_database/``.
    posterior_name
        The posterior's full name, such as ``"kidiq-kidscore_momhsiq"``.

    Returns
    -------
    dict[str, np.ndarray]
        Every entry of the data set by its name; scalars are arrays of shape ``()``.

    Raises
    ------
    ValueError
        If the folder does not describe such a posterior.
    """
    entries = _read_zipped_json(_data_path(folder, posterior_name))
    return {name: np.asarray(value) for name, value in entries.items()}


def load_reference(folder: Path | str, posterior_name: str) -> dict[str, np.ndarray]:
    """Read a posterior's reference draws, with their chains joined end to end.

    Parameters
    ----------
    folder
        The folder that contains ``posterior_database/``.
    posterior_name
        The posterior's full name, such as ``"kidiq-kidscore_momhsiq"``.

    Returns
    -------
    dict[str, np.ndarray]
        The draws of each scalar quantity, shape ``(draws,)``, by posteriordb's names
        (``"sigma"``, ``"beta[1]"``, ...).

    Raises
    ------
    ValueError
        If the folder does not describe such a posterior.
    """
    reference_name = _describe(folder, posterior_name)["reference_posterior_name"]
    draws = _database(folder) / "reference_posteriors" / "draws" / "draws"
    chains = _read_zipped_json(draws / f"{reference_name}.json.zip")
    return {name: np.concatenate([chain[name] for chain in chains]) for name in chains[0]}


def data_size(folder: Path | str, posterior_name: str) -> int:
    """Bytes of a posterior's compressed data."""
    return _data_path(folder, posterior_name).stat().st_size


def load_program(folder: Path | str, posterior_name: str) -> Path:
    """Path of a posterior's Stan program.

    Raises
    ------
    ValueError
        If the folder does not describe such a posterior.
    """
    model_name = _describe(folder, posterior_name)["model_name"]
    return _database(folder) / "models" / "stan" / f"{model_name}.stan"


def posterior_names(folder: Path | str) -> list[str]:
    """Names of all posteriors that a folder describes, sorted."""
    return sorted(path.stem for path in (_database(folder) / "posteriors").glob("*.json"))


def _database(folder: Path | str) -> Path:
    return Path(folder) / "posterior_database"


def _data_path(folder: Path | str, posterior_name: str) -> Path:
    data_name = _describe(folder, posterior_name)["data_name"]
    return _database(folder) / "data" / "data" / f"{data_name}.json.zip"


def _describe(folder: Path | str, posterior_name: str) -> dict[str, Any]:
    """Read a posterior's description, which names its data set and its reference draws."""
    descriptions = {path.stem: path for path in (_database(folder) / "posteriors").glob("*.json")}
    if posterior_name not in descriptions:
        raise ValueError(
            f"{folder} describes no posterior named {posterior_name!r}. "
            f"It has: {', '.join(sorted(descriptions)) or 'none'}."
        )
    return json.loads(descriptions[posterior_name].read_text(encoding="utf-8"))


def _read_zipped_json(path: Path) -> Any:
    """Read the JSON document ``NAME.json`` in the archive ``NAME.json.zip``."""
    with ZipFile(path) as archive:
        return json.loads(archive.read(path.stem))
