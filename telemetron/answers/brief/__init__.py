"""The brief: what a reader should know now, within a budget of tokens.

It is a pure function of one snapshot, the past of a few of its entities, and the parameters.
"""
