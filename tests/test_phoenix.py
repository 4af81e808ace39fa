"""What a person sees in Phoenix, asked by its GraphQL: each framework's example, sent by OTLP with the names it reads.

The main tests take a sample; ``MLSPAN_WIDE=1`` runs the example of every framework that is installed.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import requests

EXAMPLES = Path(__file__).parent.parent / "examples"
SAMPLE = ("openai_agents", "langgraph_approval")
# example: what it needs, and the kinds of its spans that a person has to find
FRAMEWORKS = {
    "openai_chat": ("openai", {"agent", "llm"}),
    "openai_agents": ("agents", {"agent", "llm", "tool"}),
    "langchain_agent": ("langchain_openai", {"llm", "tool"}),
    "langchain_rag": ("langchain_openai", {"llm", "retriever"}),
    "langgraph_approval": ("langgraph", {"chain"}),
    "mcp_weather": ("mcp", {"agent", "tool"}),
    "anthropic_chat": ("anthropic", {"llm"}),
    "google_genai_chat": ("google.genai", {"llm", "tool"}),
    "llama_index_agents": ("llama_index", {"agent", "llm", "tool"}),
    "llama_index_rag": ("llama_index", {"llm", "retriever"}),
    "autogen_team": ("autogen_agentchat", {"agent", "llm"}),
    "ag2_chat": ("autogen", {"agent", "llm"}),
}
# example: the kinds of its spans, from the root down to each
PATHS = {
    "openai_chat": {"agent", "agent > llm", "agent > tool"},
    "openai_agents": {"chain", "chain > agent", "chain > agent > llm", "chain > agent > tool"},
    "langchain_agent": {"agent", "agent > chain", "agent > chain > llm", "agent > chain > tool"},
    "langchain_rag": {
        *("chain", "chain > chain", "chain > chain > chain", "chain > chain > chain > chain"),
        *("chain > chain > chain > retriever", "chain > llm"),
    },
    "langgraph_approval": {"chain", "chain > chain", "chain > chain > chain"},
    "mcp_weather": {"agent", "agent > chain", "agent > chain > chain", "agent > tool", "agent > tool > tool"},
    "anthropic_chat": {"agent", "agent > llm", "agent > tool"},
    "google_genai_chat": {"agent", "agent > llm", "agent > tool"},
    "llama_index_agents": {"chain", "chain > agent", "chain > agent > llm", "chain > agent > tool", "chain > chain"},
    "llama_index_rag": {
        *("chain", "chain > embedding", "chain > llm", "chain > retriever", "chain > retriever > embedding"),
    },
    "autogen_team": {"chain", "chain > agent", "chain > agent > llm", "chain > agent > tool"},
    "ag2_chat": {"chain", "chain > agent", "chain > agent > llm", "chain > agent > tool"},
}
# the stand-in counts no tokens of responses that call tools, and none of Claude's and Gemini's
UNCOUNTED = {"anthropic_chat", "google_genai_chat", "openai_agents"}
RUN = FRAMEWORKS if os.environ.get("MLSPAN_WIDE") else SAMPLE
QUERY = """{projects(first: 100) {edges {node {name
  spans(first: 500) {edges {node {name spanKind spanId parentId tokenCountTotal
    trace {traceId session {sessionId}}
    input {value} output {value} costSummary {total {cost}}}}}
  sessions(first: 50) {edges {node {sessionId firstInput {value} lastOutput {value}
    tokenUsage {total} costSummary {total {cost}}}}}
}}}}"""


def is_installed(module: str) -> bool:
    """Return whether *module* is there: other distributions have modules below ``google`` as well."""
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def list_nodes(found: Any) -> list[dict[str, Any]]:
    return [edge["node"] for edge in found["edges"]]


def ask(url: str, project: str) -> dict[str, Any] | None:
    """Return what Phoenix shows of *project*, once it has a root and no more spans arrive; it stores them by and by."""
    seen, until = -1, time.monotonic() + 60
    while time.monotonic() < until:
        answer = requests.post(f"{url}/graphql", json={"query": QUERY}, timeout=20).json()
        assert "errors" not in answer, answer["errors"]
        for one in list_nodes(answer["data"]["projects"]):
            spans = list_nodes(one["spans"])
            if one["name"] == project and any(span["parentId"] is None for span in spans):
                if len(spans) == seen:
                    return {"spans": spans, "sessions": list_nodes(one["sessions"])}
                seen = len(spans)
        time.sleep(1)
    return None


def run_example(example: str, phoenix: str, aimock: str, folder: Path) -> None:
    """Run it as a person would, with Phoenix for its receiver; its project is named after it."""
    base = aimock.removesuffix("/v1")
    keep = {k: v for k, v in os.environ.items() if not k.startswith(("MLSPAN_", "MLFLOW_", "OTEL_"))}
    env = {"MLSPAN_OTLP_ENDPOINT": phoenix, "MLSPAN_OTLP_NAMES": "openinference", "MLSPAN_STRICT": "1"}
    env |= {"MLSPAN_TRACKING_URI": "none", "OTEL_RESOURCE_ATTRIBUTES": f"openinference.project.name={example}"}
    env |= {"OPENAI_BASE_URL": aimock, "OPENAI_API_KEY": "test", "GEMINI_API_KEY": "test"}
    env |= {"ANTHROPIC_BASE_URL": base, "ANTHROPIC_API_KEY": "test", "GOOGLE_GEMINI_BASE_URL": base}
    command = [sys.executable, str(EXAMPLES / f"{example}.py")]
    done = subprocess.run(
        command, cwd=folder, env={**keep, **env}, capture_output=True, text=True, timeout=170, check=False
    )
    assert done.returncode == 0, done.stderr


def list_paths(spans: list[dict[str, Any]]) -> set[str]:
    """Return the kinds of the spans from the root down to each, such as ``agent > llm``."""
    by_id = {span["spanId"]: span for span in spans}

    def find_path(span: dict[str, Any]) -> str:
        above = span["parentId"]
        return f"{find_path(by_id[above])} > {span['spanKind']}" if above else span["spanKind"]

    return {find_path(span) for span in spans}


@pytest.mark.parametrize("example", RUN)
def test_what_a_person_sees(example: str, phoenix: Any, aimock: str, tmp_path: Path) -> None:
    """No span without a kind, no root and no step that is blank; the session's first and last, tokens and cost."""
    needed, kinds = FRAMEWORKS[example]
    if not is_installed(needed):
        pytest.skip(f"{needed} is not installed here")
    run_example(example, phoenix.http, aimock, tmp_path)
    shown = ask(phoenix.http, example)
    assert shown is not None, "nothing has arrived"
    spans = shown["spans"]
    assert {span["parentId"] for span in spans} - {None} <= {span["spanId"] for span in spans}, "no parent"
    roots_by_trace = [span["trace"]["traceId"] for span in spans if span["parentId"] is None]
    assert sorted(roots_by_trace) == sorted({span["trace"]["traceId"] for span in spans}), "one root of each trace"
    assert list_paths(spans) == PATHS[example]
    assert "unknown" not in {span["spanKind"] for span in spans}
    assert kinds <= {span["spanKind"] for span in spans}
    roots = [span for span in spans if span["parentId"] is None]
    blank = [f"{span['name']}: {side}" for span in roots for side in ("input", "output") if not span[side]]
    assert blank == []
    calls = [span for span in spans if span["spanKind"] == "llm"]
    assert [span["name"] for span in calls if not span["input"]] == []
    if not calls:
        return
    tokens = sum(span["tokenCountTotal"] or 0 for span in calls)
    assert (tokens > 0) is (example not in UNCOUNTED)
    for session in shown["sessions"]:
        assert session["firstInput"], session
        assert session["lastOutput"], session
    if shown["sessions"]:
        of_sessions = sum(span["tokenCountTotal"] or 0 for span in calls if span["trace"]["session"])
        assert sum(session["tokenUsage"]["total"] for session in shown["sessions"]) == of_sessions
        costs = [session["costSummary"]["total"]["cost"] or 0 for session in shown["sessions"]]
        assert (sum(costs) > 0) is (tokens > 0)
