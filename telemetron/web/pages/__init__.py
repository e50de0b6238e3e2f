"""What describes Telemetron to its readers: the welcome page, the schema, the API description."""
