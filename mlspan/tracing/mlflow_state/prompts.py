"""Prompts of MLflow's registry: a prompt that is loaded inside a span is linked to that span's trace."""

from __future__ import annotations

from functools import partial
from typing import Any, Final

from opentelemetry import trace

from ..._import_waiting import patch_when_imported
from ..._patching import Patch, Undo, observe_method
from ..operations import semconv as sc

_LOAD_PROMPT: Final = "mlflow.tracking.client:MlflowClient.load_prompt"


def track_prompt_loads() -> Undo:
    """Track which prompt is loaded inside which span, once MLflow is imported, until the returned function is called.

    Every way to load a prompt ends in ``MlflowClient.load_prompt``, which is observed. Without it, none is linked.
    """
    observe = partial(observe_method, callback=_note_prompt)
    return patch_when_imported([Patch(_LOAD_PROMPT, observe, "which prompts a trace uses")])


def _note_prompt(_args: tuple[object, ...], _kwargs: dict[str, object], prompt: object) -> None:
    _link_prompt(prompt)


def _link_prompt(prompt: Any) -> None:
    """Add *prompt* to the prompts of the current span, once."""
    span = trace.get_current_span()
    if prompt is None or not span.is_recording():
        return
    names = (getattr(span, "attributes", None) or {}).get(sc.PROMPTS) or ()
    name = f"{prompt.name}/{prompt.version}"
    if name not in names:
        span.set_attribute(sc.PROMPTS, [*names, name])
