"""Everything that knows the inside of OpenTelemetry's SDK."""
