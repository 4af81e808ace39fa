"""A framework that traces itself, and our hook of the client that it calls: each call to the model counts once."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

PROGRAM = Path(__file__).with_name("live_frameworks.py")
SEMANTIC_KERNEL = "SEMANTICKERNEL_EXPERIMENTAL_GENAI_ENABLE_OTEL_DIAGNOSTICS"
FRAMEWORKS = ["agent_framework", "google_adk", "livekit", "pipecat", "pydantic_ai", "semantic_kernel", "strands"]
CAPTURE_CONTENT = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"  # without it ADK's spans have none


def run_program(name: str, way: str, store: str, aimock: str, folder: Path) -> Any:
    """Run it and return its one trace."""
    mlflow = pytest.importorskip("mlflow")
    keep = {k: v for k, v in os.environ.items() if not k.startswith(("MLSPAN_", "MLFLOW_", "OTEL_"))}
    env = {"MLFLOW_TRACKING_URI": store, "MLSPAN_STRICT": "1", "OPENAI_BASE_URL": aimock, "OPENAI_API_KEY": "test"}
    env |= {"GOOGLE_GEMINI_BASE_URL": aimock.removesuffix("/v1"), "GEMINI_API_KEY": "test"}
    if way == "global":
        env |= {SEMANTIC_KERNEL: "true", f"{SEMANTIC_KERNEL}_SENSITIVE": "true", CAPTURE_CONTENT: "SPAN_ONLY"}
    done = subprocess.run(
        [sys.executable, str(PROGRAM), name, way],
        cwd=folder,
        env={**keep, **env},
        capture_output=True,
        text=True,
        timeout=170,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (trace,) = mlflow.MlflowClient(store).search_traces(["0"])
    return trace


def is_gemini(span: Any) -> bool:
    """Return whether our hook of Google's client has made *span*: ADK's own has another name."""
    return span.name.startswith("generate_content gemini") and span.get_attribute("server.address") is not None


@pytest.mark.parametrize("way", ["joined", "global"])
@pytest.mark.parametrize("name", FRAMEWORKS)
def test_each_call_counts_once(name: str, way: str, mlflow_store: str, aimock: str, tmp_path: Path) -> None:
    """The trace has the tokens that the server has told, and so have its spans together."""
    module = {"google_adk": "google.adk", "livekit": "livekit.agents"}.get(name, name)
    if importlib.util.find_spec(module.partition(".")[0]) is None or importlib.util.find_spec(module) is None:
        pytest.skip("in the nox sessions frameworks")
    trace = run_program(name, way, mlflow_store, aimock, tmp_path)
    spans = trace.data.spans
    ours = [span for span in spans if span.get_attribute("openai.api.type") or is_gemini(span)]
    assert len(ours) == (1 if name == "semantic_kernel" else 2)

    counted = [usage for span in spans if (usage := span.get_attribute("mlflow.chat.tokenUsage"))]
    assert [usage["total_tokens"] for usage in counted] == ([17] if name == "semantic_kernel" else [48, 58])
    assert trace.info.token_usage["total_tokens"] == sum(usage["total_tokens"] for usage in counted)
    root = next(span for span in spans if span.parent_id is None)
    assert root.span_type == ("WORKFLOW" if name in {"google_adk", "livekit", "pipecat"} else "AGENT")
    if name != "semantic_kernel":  # whose messages are log records
        assert trace.info.request_preview == "How is the sky over Paris?"
        assert trace.info.response_preview.strip() == "It is sunny in Paris."
        if (name, way) == ("pipecat", "global"):
            return  # which has no spans of its own for functions
        (tool,) = [span for span in spans if span.span_type == "TOOL"]
        assert tool.inputs == {"city": "Paris"}
        assert "sunny in Paris" in str(tool.outputs)
