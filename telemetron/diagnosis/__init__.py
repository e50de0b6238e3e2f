"""Findings: what is wrong, at its root, with the evidence. A collector whose input is the snapshot."""
