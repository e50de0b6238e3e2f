"""Pages that describe Telemetron: an overview, the JSON Schema, the HTTP interface."""
