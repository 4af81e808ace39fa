"""Prompts of MLflow's registry: a prompt that is loaded inside a span is linked to that span's trace."""

from __future__ import annotations

from functools import wraps
from types import ModuleType
from typing import Any, Final

from opentelemetry import trace

from ..._guard import guard
from ..operations import semconv as sc

_CLIENT: Final = "mlflow.tracking.client"


def follow() -> None:
    """Track, from now on, which prompt is loaded inside which span. This waits until MLflow is imported."""
    import wrapt

    wrapt.register_post_import_hook(_note_loads, _CLIENT)


def _note_loads(client: ModuleType) -> None:
    """Patch ``MlflowClient.load_prompt``, which every way to load a prompt ends in. Without it, no prompt is linked."""
    client_class: Any = getattr(client, "MlflowClient", None)
    load = getattr(client_class, "load_prompt", None)
    if load is None or hasattr(load, "_mlspan"):
        return

    @wraps(load)
    def noted(*args: Any, **kwargs: Any) -> Any:
        prompt = load(*args, **kwargs)
        with guard("linking a prompt"):
            _link(prompt)
        return prompt

    noted._mlspan = True  # type: ignore[attr-defined]
    client_class.load_prompt = noted


def _link(prompt: Any) -> None:
    """Add *prompt* to the prompts of the current span, once."""
    span = trace.get_current_span()
    if prompt is None or not span.is_recording():
        return
    names = (getattr(span, "attributes", None) or {}).get(sc.PROMPTS) or ()
    name = f"{prompt.name}/{prompt.version}"
    if name not in names:
        span.set_attribute(sc.PROMPTS, [*names, name])
