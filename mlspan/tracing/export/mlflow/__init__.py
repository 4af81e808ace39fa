"""Traces into MLflow: the only package that knows MLflow's names for what a span says."""
