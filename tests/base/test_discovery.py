"""Members of a folder are found by the file system; what begins with an underscore is none."""

from infimum.base.discovery import classes_in
from infimum.families import Family
from infimum.solvers import Solver


def test_every_file_of_a_folder_holds_a_member():
    names = [solver.__name__ for solver in classes_in("infimum.solvers", Solver)]
    assert "FixedDraws" in names
    assert "SubspaceNewton" in names  # defined in a folder, and found in its __init__
    assert len(set(names)) == len(names)


def test_contracts_are_no_members():
    found = classes_in("infimum.families", Family)
    assert Family not in found
    assert all(not cls.__module__.rpartition(".")[2].startswith("_") for cls in found)
