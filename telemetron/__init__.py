"""Telemetron: one service that always knows the state of a multi-agent AI system."""

__version__ = "0.1.0"
