"""The past: what changed, when, and how the state was then."""
