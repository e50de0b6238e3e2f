"""The Kubernetes API: connection, credentials, the objects it serves, and how they are watched."""
