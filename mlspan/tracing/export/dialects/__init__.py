"""Spans of other instrumentations in the names of the GenAI conventions: one table for each dialect."""
