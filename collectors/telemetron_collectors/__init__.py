"""The built-in collectors: each a module or folder of its own, found by its entry point."""
