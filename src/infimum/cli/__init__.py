"""The command line: one command for each thing to do with a posterior or with its fit."""

from infimum.cli.entry import main

__all__ = ["main"]
