"""The state as metrics for Prometheus: families, their lines, and pages of them."""
