"""Benchmarks: what Telemetron costs, each figure beside one that says what is attainable."""
