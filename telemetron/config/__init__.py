"""The configuration: from a file and the environment to settings."""
