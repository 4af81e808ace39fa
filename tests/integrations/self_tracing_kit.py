"""What the tests of LiveKit and Pipecat share: what a streaming model says next, and the trace as MLflow shows it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import pytest

pytest.importorskip("mlflow")

from openai_chunks import USAGE, WHOLE, chunk
from opentelemetry.sdk.trace import ReadableSpan
from test_dialects import tell, traces

QUESTION = "How is the sky over Paris?"


def stream_answer(server: Any) -> None:
    """Have the server answer with the two words of ``WHOLE``."""
    server.stream(*WHOLE)


def stream_tool_call(server: Any, name: str, **arguments: Any) -> None:
    """Have the server ask for a call of a tool."""
    function = {"name": name, "arguments": json.dumps(arguments)}
    call = {"index": 0, "id": "call_1", "type": "function", "function": function}
    asking = chunk()
    asking["choices"][0]["delta"] = {"role": "assistant", "tool_calls": [call]}
    server.stream(asking, chunk(finish="tool_calls"), chunk(usage=USAGE) | {"choices": []}, "[DONE]")


def tell_traces(spans: Iterable[ReadableSpan], *, without: tuple[str, ...] = ()) -> str:
    """Return what a person sees of the spans in MLflow, but for the lines of spans with one of these names."""
    lines = "\n".join(map(tell, traces(list(spans)))).splitlines()
    return "\n".join(line for line in lines if line.split()[0] not in without)
