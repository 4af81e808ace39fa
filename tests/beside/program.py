"""``python program.py PEER ORDER``: make every call beside another tracer, and print what has come of each as JSON.

ORDER is ``bare`` (nobody traces), ``alone`` (the peer alone), ``ours first`` or ``theirs first``.
"""

from __future__ import annotations

import asyncio
import gc
import importlib
import json
import logging
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent)]

from opentelemetry import trace
from peers import EXPORTER, PEERS, Seen, scope_of, turn_on_nothing
from servers.scripted import Scripted


class Lines(logging.Handler):
    """Collects what is logged as a warning or worse."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(f"{record.name}: {record.getMessage()}")


class Stored:
    """The traces in MLflow, those that are new at each look."""

    def __init__(self, *, traced: bool) -> None:
        self._traced, self._known = traced, set[str]()

    def read_new(self) -> list[Any]:
        import mlflow

        if self._traced:
            from mlspan import tracing

            assert tracing.flush(120)
        mlflow.flush_trace_async_logging()
        found = mlflow.search_traces(locations=["0"], return_type="list", max_results=500)
        new = [each for each in found if each.info.trace_id not in self._known]
        self._known |= {each.info.trace_id for each in new}
        return new


def make_call(calls: Any, name: str, server: Scripted) -> Any:
    """Make the call *name* of *calls* and return what its caller has seen: what it has returned, or its exception."""
    prepare, call = calls.CALLS[name]
    server.clear()
    prepare(server)
    try:
        if not asyncio.iscoroutinefunction(call):
            with calls.make_client(server, is_async=False) as client:
                return call(client)

        async def run() -> Any:
            async with calls.make_client(server, is_async=True) as client:
                return await call(client)

        return asyncio.run(run())
    except Exception as error:
        return [type(error).__name__, str(error)]


def turn_on(peer: str, order: str, turn_ours_on: Callable[[], None]) -> Any:
    """Turn tracers on in this order, and return the counter of the peer's spans."""
    if order == "bare":
        return turn_on_nothing()
    if order == "ours first":
        turn_ours_on()
    count = PEERS[peer].turn_on()
    if order == "theirs first":
        turn_ours_on()
    return count


def main(peer: str, order: str) -> None:
    calls = importlib.import_module(PEERS[peer].calls)  # which imports the client: an application has it first
    logged, server = Lines(), Scripted()
    logging.getLogger().addHandler(logged)
    count_theirs = turn_on(peer, order, calls.turn_ours_on)
    stored = Stored(traced="first" in order)
    stored.read_new()
    tracer, found = trace.get_tracer("app"), {}
    expected = {name: (int(name != "no arguments"), 1) for name in calls.CALLS} | getattr(calls, "EXPECTED", {})
    for name in calls.CALLS:
        EXPORTER.clear()
        with tracer.start_as_current_span("request"):
            result = make_call(calls, name, server)
        gc.collect()
        seen = Seen(EXPORTER.get_finished_spans(), stored.read_new())
        tokens = sum((each.info.token_usage or {}).get("total_tokens", 0) for each in seen.traces)
        found[name] = {
            "result": result,
            "ours": sum(scope_of(span) == "mlspan" for span in seen.spans),
            "theirs": count_theirs(seen),
            "app": sum(scope_of(span) == "app" for span in seen.spans),
            "tokens": tokens / calls.USAGE["total_tokens"] / max(expected[name][1], 1),
            "expected": expected[name][0],
        }
    versions = {name: metadata.version(name) for name in PEERS[peer].distributions}
    print(json.dumps({"calls": found, "log": logged.lines, "versions": versions}))


if __name__ == "__main__":
    main(*sys.argv[1:])
