"""Google's Agent Development Kit, which traces itself: its spans of agents, models and tools join mlspan's."""

from __future__ import annotations

import functools
import importlib
import os
from collections.abc import Callable, Iterator

from ..hooks.hook import Hook
from ..hooks.joined_spans import is_content_wanted, join_tracers
from ..hooks.patching import Patch, Undo, apply_patches, replace_function

__all__ = ["HOOK", "autolog"]

_CAPTURE = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
_CONTEXT = "google.adk.telemetry.context"


def _ask_for_content(own: Callable[[], object]) -> Callable[[], object]:
    """Have content on the spans where the program has said nothing of it, and mlspan's settings let it be there."""

    @functools.wraps(own)
    def read_mode() -> object:
        if _CAPTURE in os.environ or not HOOK.should_record() or not is_content_wanted():
            return own()
        return importlib.import_module(_CONTEXT).ContentCapturingMode.SPAN_ONLY

    return read_mode


def _install(hook: Hook) -> Undo:
    def list_patches() -> Iterator[Patch]:
        yield from join_tracers(hook, ["google.adk.telemetry.tracing:tracer"], "all spans of ADK")
        reader = f"{_CONTEXT}:_read_content_capturing_mode"  # versions before 2 always have the content
        apply = functools.partial(replace_function, make=_ask_for_content)
        yield Patch(reader, apply, "content of calls to models", is_optional=True)

    return apply_patches(list_patches())


HOOK = Hook("google-adk>=2.0,<3", "google.adk", _install)
autolog = HOOK.autolog
