"""The command line: one command for each thing to do with a posterior or with its fit."""

from infimum.cli.app import app, main

__all__ = ["app", "main"]
