"""Prompts of MLflow's registry: a prompt that is loaded inside a span is linked to that span's trace."""

from __future__ import annotations

from functools import wraps
from types import ModuleType
from typing import Any, Final

from opentelemetry import trace

from ..._guard import guard
from ..operations import semconv as sc

_CLIENT_MODULE: Final = "mlflow.tracking.client"


def track_prompt_loads() -> None:
    """Track, from now on, which prompt is loaded inside which span. This waits until MLflow is imported."""
    import wrapt

    wrapt.register_post_import_hook(_patch_load_prompt, _CLIENT_MODULE)


def _patch_load_prompt(client: ModuleType) -> None:
    """Patch ``MlflowClient.load_prompt``, which every way to load a prompt ends in. Without it, no prompt is linked."""
    client_class: Any = getattr(client, "MlflowClient", None)
    load = getattr(client_class, "load_prompt", None)
    if load is None or hasattr(load, "_mlspan"):
        return

    @wraps(load)
    def load_and_link(*args: Any, **kwargs: Any) -> Any:
        prompt = load(*args, **kwargs)
        with guard("linking a prompt"):
            _link_prompt(prompt)
        return prompt

    load_and_link._mlspan = True  # type: ignore[attr-defined]
    client_class.load_prompt = load_and_link


def _link_prompt(prompt: Any) -> None:
    """Add *prompt* to the prompts of the current span, once."""
    span = trace.get_current_span()
    if prompt is None or not span.is_recording():
        return
    names = (getattr(span, "attributes", None) or {}).get(sc.PROMPTS) or ()
    name = f"{prompt.name}/{prompt.version}"
    if name not in names:
        span.set_attribute(sc.PROMPTS, [*names, name])
