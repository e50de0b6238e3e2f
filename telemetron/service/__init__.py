"""The composition root: what one process holds, and the collectors that it runs."""
