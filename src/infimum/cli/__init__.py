"""The command line: a command for each thing that is done with a posterior, or its fit."""

from infimum.cli.app import app, main

__all__ = ["app", "main"]
