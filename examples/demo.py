"""``make demo``: openai_chat.py inside an MLflow run, then its trace as a tree, and where to look at it.

Against OpenAI if OPENAI_API_KEY is set, else against a local server that speaks its API.
"""

from __future__ import annotations

import os
import runpy
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
SERVERS = HERE.parent / "tests/servers"


@contextmanager
def local_server() -> Iterator[str]:
    """The base URL of a server that answers as ``tests/servers/fixtures`` says."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [str(SERVERS / "node_modules/.bin/llmock"), "-p", str(port), "-f", str(SERVERS / "fixtures")]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(100):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        server.terminate()
        server.wait()


def run_example() -> None:
    runpy.run_path(str(HERE / "openai_chat.py"), run_name="__main__")


def tree(trace: Any) -> Iterator[str]:
    """A line for each span: name, how long, tokens, dollars."""

    def below(parent: str | None, depth: int) -> Iterator[str]:
        spans = [span for span in trace.data.spans if span.parent_id == parent]
        for span in sorted(spans, key=lambda span: span.start_time_ns):
            usage = span.get_attribute("mlflow.chat.tokenUsage") or {}
            cost = span.get_attribute("mlflow.llm.cost") or {}
            tokens = f"{usage['input_tokens']:>6} in {usage['output_tokens']:>5} out" if usage else ""
            dollars = f"${cost['total_cost']:.7f}" if cost else ""
            took = (span.end_time_ns - span.start_time_ns) / 1e6
            yield f"{'  ' * depth + span.name:<34}{took:>9.1f} ms {tokens:<20}{dollars}".rstrip()
            yield from below(span.span_id, depth + 1)

    yield from below(None, 0)


def main() -> None:
    print("Running examples/openai_chat.py ...\n")
    if os.environ.get("OPENAI_API_KEY"):
        run_example()
    else:
        with local_server() as url:
            os.environ |= {"OPENAI_API_KEY": "none", "OPENAI_BASE_URL": url}
            run_example()
    import mlflow

    from mlspan import tracing

    (trace,) = mlflow.search_traces(max_results=1, return_type="list")
    run = mlflow.get_run(trace.info.trace_metadata["mlflow.sourceRun"])
    print("\nIts trace in MLflow:\n")
    print("\n".join(f"  {line}" for line in tree(trace)))
    cost = (trace.info.cost or {}).get("total_cost", 0)
    total = trace.info.token_usage or {}
    print(f"\n  {total.get('total_tokens', 0)} tokens, ${cost:.7f}, in the run {run.info.run_name!r}\n")
    uri = mlflow.get_tracking_uri()
    if not uri.startswith("http"):
        print("Look at it:  .venv/bin/mlflow ui   and then")
    print(tracing.trace_url(trace.info.trace_id))


if __name__ == "__main__":
    sys.exit(main())
