"""Prompts of MLflow's registry: a prompt that is loaded inside a span is linked to that span's trace."""

from __future__ import annotations

from functools import partial
from typing import Any, Final

from opentelemetry import trace

from ..._import_waiting import install_when_imported
from ..._patching import Patch, Undo, apply_patches, observe_method
from ..operations import semconv as sc

_CLIENT_MODULE: Final = "mlflow.tracking.client"


def track_prompt_loads() -> Undo:
    """Track which prompt is loaded inside which span, until the returned function is called.

    This waits until MLflow is imported.
    """
    return install_when_imported(_CLIENT_MODULE, _patch_load_prompt)


def _patch_load_prompt() -> Undo:
    """Observe ``MlflowClient.load_prompt``, which every way to load a prompt ends in. Without it, none is linked."""
    target = f"{_CLIENT_MODULE}:MlflowClient.load_prompt"
    return apply_patches([Patch(target, partial(observe_method, callback=_note_prompt), "which prompts a trace uses")])


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
