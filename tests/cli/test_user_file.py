"""The model that a command reads from a Python file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from infimum.cli.user_file import UserError, read_target

NAMED = ("posterior", "model", "makes_target", "makes_model")


@pytest.mark.parametrize("stated", ["one.py", "model.py", *(f"model.py:{name}" for name in NAMED)])
def test_every_way_to_state_a_target_is_read(folder, stated):
    target = read_target(stated)
    assert target.names == ["a", "b"]
    far, near = target.values(np.array([[2.0, 1.0], [1.0, 0.8]]))
    assert far - near == pytest.approx(-0.5 * (1 + 0.6**2 / 0.36))


def test_a_model_that_cannot_be_sampled_is_read(folder):
    assert read_target("model.py:flat").names == ["a"]


def test_several_functions_and_no_name_lists_them(run, folder, capsys):
    (folder / "two.py").write_text("def f(): ...\ndef g(): ...\ndef h(x): ...\n")
    assert run("fit", "two.py") == 2
    assert (
        "the file has functions without arguments: f, g. Name one, `infimum fit two.py:NAME`"
        in capsys.readouterr().err
    )


def test_models_of_other_libraries_are_read(folder):
    """A PyMC model is an object of its own; what is not a model by its type is a function."""
    pytest.importorskip("pymc")
    (folder / "other.py").write_text(
        "import pymc as pm\n"
        "with pm.Model() as chosen:\n"
        "    pm.Normal('x', 1.0, 2.0)\n"
        "def made():\n"
        "    return chosen\n"
    )
    assert read_target("other.py").names == ["x"]
    assert read_target("other.py:chosen").names == ["x"]
    assert read_target("other.py:made").names == ["x"]
    with pytest.raises(UserError, match="--data is for Stan programs"):
        read_target("other.py", Path("data.json"))
