"""Prompts of MLflow's registry: one that is loaded inside a span is linked to its trace."""

from __future__ import annotations

from functools import wraps
from types import ModuleType
from typing import Any, Final

from opentelemetry import trace

from .._guard import guard
from . import semconv as sc

_CLIENT: Final = "mlflow.tracking.client"


def follow() -> None:
    """Note, from now on, which prompt is loaded inside which span; waits for MLflow to be imported."""
    import wrapt

    wrapt.register_post_import_hook(_note_loads, _CLIENT)


def _note_loads(client: ModuleType) -> None:
    """Every way to load a prompt ends in this method: ``mlflow.genai.load_prompt`` and its older name do."""
    cls: Any = getattr(client, "MlflowClient", None)
    load = getattr(cls, "load_prompt", None)
    if load is None or hasattr(load, "_mlspan"):
        return

    @wraps(load)
    def noted(*args: Any, **kwargs: Any) -> Any:
        prompt = load(*args, **kwargs)
        with guard("linking a prompt"):
            _link(prompt)
        return prompt

    noted._mlspan = True  # type: ignore[attr-defined]
    cls.load_prompt = noted


def _link(prompt: Any) -> None:
    span = trace.get_current_span()
    if prompt is None or not span.is_recording():
        return
    before = (getattr(span, "attributes", None) or {}).get(sc.PROMPTS) or ()
    named = f"{prompt.name}/{prompt.version}"
    if named not in before:
        span.set_attribute(sc.PROMPTS, [*before, named])
