"""Findings: a collector whose input is the snapshot concludes what is wrong, and why."""
