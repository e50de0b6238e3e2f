"""The state in memory: the parts of all sources, the entities they become, and their bytes."""
