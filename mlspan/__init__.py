"""mlspan: one line turns every LLM, chain, agent and training call into an OpenTelemetry span and an MLflow trace."""

from __future__ import annotations

__version__ = "0.1.0"
