"""Telemetron without shortcuts: every request is an ASGI call, to measure what they save."""

from telemetron.cli.commands import main
from telemetron.web.app import App

if __name__ == "__main__":
    del App.shortcut
    main()
