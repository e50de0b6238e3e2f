"""The composition root: the store, the history and the collectors of one process."""
