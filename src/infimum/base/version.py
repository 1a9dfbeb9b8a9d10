"""The version of this package, which files and checkpoints record."""

__version__ = "0.2.0"
