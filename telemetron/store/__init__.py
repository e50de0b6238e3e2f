"""The state in memory: the parts that sources put, their entities, and the published bytes."""
