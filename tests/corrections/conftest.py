"""Fits that several tests of corrections start from."""

import pytest
from corrections import targets

import infimum


@pytest.fixture(scope="session")
def two_modes():
    """A full-rank fit of one of two modes; the other is known."""
    return infimum.fit(targets.two_modes(), "fullrank", progress=False)


@pytest.fixture(scope="session")
def intercepts():
    """A sparse fit of a hierarchy, and its data."""
    target, y = targets.intercepts()
    return infimum.fit(target, "sparse", progress=False), y
