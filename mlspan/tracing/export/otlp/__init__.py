"""Spans by OTLP: the bytes, and the client that sends them to any receiver."""
