"""Answers: what a reader asks about one task, and what matters within a budget of tokens.

They are made from one snapshot and the history, and belong to the revision that they name.
"""
