"""Benchmarks: the costs of Telemetron, each figure beside an attainable one."""
