"""One trace with everything in it, and the file that takes what was found of it (``MLSPAN_MATRIX``)."""

from __future__ import annotations

import json
import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from mlspan import tracing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

RESULTS: Final = os.environ.get("MLSPAN_MATRIX")
NASTY: Final = 'NUL \0, half a character \ud83d, \u202e backwards, 🦊, \'; drop table spans; -- \\u0000 "quoted"\n\ttab'
LONG: Final = "🦊" * 5_000
PICTURE: Final = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="


def record_everything(load_prompt: Callable[[], object]) -> str:
    """Record a trace of two spans and return its id. *load_prompt* is called inside of it."""
    about_picture = [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "What is this?"},
                {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PICTURE}"}},
            ],
        }
    ]
    with tracing.session("session-1"), tracing.user("user-1"), tracing.tags(team="blue"):
        with tracing.span("all", kind="agent") as root:
            trace_id = tracing.current_trace_id()
            root.input, root.output = NASTY, LONG
            load_prompt()
            tracing.feedback("good", 0.5, rationale=NASTY, source="human", source_id="me")
            with tracing.span("look", kind="tool") as look:
                look.input = about_picture
    assert trace_id is not None
    return trace_id


def record_chat() -> str:
    """Record a chat of plain text, which a server can show by its span alone, and return its trace's id."""
    said = {"gen_ai.input.messages": ("user", "Hi?"), "gen_ai.output.messages": ("assistant", "Yes.")}
    messages = {
        name: json.dumps([{"role": role, "parts": [{"type": "text", "content": text}], "finish_reason": "stop"}])
        for name, (role, text) in said.items()
    }
    attributes = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "m", **messages}
    tracer = tracing.tracer_provider().get_tracer("app")
    with tracer.start_as_current_span("chat m", attributes=attributes) as span:
        return f"{span.get_span_context().trace_id:032x}"


@contextmanager
def report(version: str, store: str, what: str) -> Iterator[None]:
    """Note in the file of results whether the block ends without an exception."""
    passed = False
    try:
        yield
        passed = True
    finally:
        if RESULTS is not None:
            with Path(RESULTS).open("a") as file:
                file.write(json.dumps({"mlflow": version, "store": store, "what": what, "passed": passed}) + "\n")
