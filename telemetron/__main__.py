"""`python -m telemetron` is `telemetron`."""

from telemetron.cli import main

main(prog_name="telemetron")
