"""The command line: `telemetron.cli:main` is the program `telemetron`."""

from telemetron.cli.commands import main

__all__ = ["main"]
