"""The steps of ``mlspan demo``: record a chat, show its trace, and store it in an MLflow run."""

from __future__ import annotations

import getpass
import importlib.util
import logging
import shlex
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import Final

import orjson
from opentelemetry.sdk.trace import ReadableSpan

from .._extras import tell_install
from .._guard import quiet_loggers
from ..tracing.export.mlflow.http import HttpClient
from ..tracing.export.mlflow.sink import MlflowSink
from ..tracing.export.mlflow.store import StoreRejected
from ..tracing.export.shown_addresses import hide_user_info
from ..tracing.export.types import BackendUnavailable, Refusal, TraceSegment
from . import form
from .common import CommandFailure, find_own_command, make_output_console, print_note, show_busy, write_line
from .demo_chat import LABELS, record_chat
from .places import StoreLocation, find_database_file, is_tracking_server, locate_store, resolve_settings
from .recorded import build_recorded_trace
from .show import collect_facts_of_trace, print_trace

RUN_NAME: Final = "mlspan demo"
_RUNS: Final = "api/2.0/mlflow/runs"


def run_demo(tracking_uri: str | None, experiment: str | None, base: str | None, key: str | None) -> None:
    """Record the chat, show its trace, store it where the options say, and name a next step.

    *base* and *key* are of the model's server, as in :func:`record_chat`.

    Raises:
        CommandFailure: if the model does not answer, or the trace is not stored.
    """
    location = locate_store(tracking_uri, experiment, exists=False)
    is_default = location.uri == resolve_settings({})[0]["tracking_uri"].value
    is_server = is_tracking_server(location.uri)
    spans = record_chat(base, key)
    trace_id = _show_recorded(spans)
    if not is_server and importlib.util.find_spec("mlflow") is None:
        print_note(f"The trace is not stored: {location.display_uri} needs MLflow. Install it, and run the demo again:")
        write_line(tell_install("mlflow"))
        return
    _store_recorded(location, spans)
    print_note("Show it again:" if is_server else "Look at it in MLflow:")
    uri_option = "" if is_default else f" --tracking-uri {shlex.quote(location.uri)}"
    write_line(f"{find_own_command()} {f'show {trace_id}' if is_server else 'ui'}{uri_option}")


def _show_recorded(spans: Sequence[ReadableSpan]) -> str:
    """Print the trace that *spans* form, and return its id."""
    trace, console = build_recorded_trace(spans), make_output_console()
    print_trace(trace, console, collect_facts_of_trace(trace))
    console.print()
    return trace.id


def _store_recorded(location: StoreLocation, spans: Sequence[ReadableSpan]) -> None:
    """Store *spans*, which form a trace, the root last, and say what is done and where they are.

    Raises:
        CommandFailure: if the trace is not stored.
    """
    file, is_local = find_database_file(location.uri), not is_tracking_server(location.uri)
    how = " by MLflow, which takes some seconds" if is_local else ""
    how += ", as it makes the database first" if file is not None and not file.exists() else ""
    print_note(f"Storing it in {location.display_uri}{how} ...")
    began = time.perf_counter()
    try:
        with show_busy("Storing the trace"):
            run, refused = _store_in_run(location, spans)
    except (BackendUnavailable, StoreRejected) as error:
        raise CommandFailure(f"the trace was not stored: {error}; to find out why, run: mlspan doctor") from error
    if refused:
        raise CommandFailure(f"the trace was not stored: {refused[0].reason}; to find out why, run: mlspan doctor")
    took = form.format_duration((time.perf_counter() - began) * 1000)
    print_note(f"Stored in {took}: experiment {location.experiment or 'Default'}, run {run}.")


def _store_in_run(location: StoreLocation, spans: Sequence[ReadableSpan]) -> tuple[str, list[Refusal]]:
    """Store a trace in the run of the settings, or in a new one. Return the run's name or id, and what is refused."""
    run_id, root = resolve_settings({})[0]["run"].value, spans[-1].get_span_context()
    sink = MlflowSink(tracking_uri=location.uri, experiment=location.experiment, run=run_id)
    try:
        with quiet_loggers(logging.WARNING, "mlflow", "alembic"):
            (_, experiment_id), run_id = sink.find_destination(LABELS)
            run = _open_run(location.uri, experiment_id) if run_id is None else nullcontext(run_id)
            with run as open_run:
                origin = replace(LABELS, run_id=open_run)
                refused = sink.send([TraceSegment(origin, spans, root.span_id if root else 0, whole=True)])
            return run_id or RUN_NAME, refused
    finally:
        sink.close()


@contextmanager
def _open_run(uri: str, experiment_id: str) -> Iterator[str]:
    """Start a run, give its id, and end it. Of a tracking server, MLflow is not imported."""
    if not is_tracking_server(uri):
        import mlflow

        client = mlflow.MlflowClient(uri)
        run_id = client.create_run(experiment_id, run_name=RUN_NAME).info.run_id
        try:
            yield run_id
        finally:
            client.set_terminated(run_id)
        return
    server = HttpClient(uri)
    started = {
        "experiment_id": experiment_id,
        "run_name": RUN_NAME,
        "user_id": _read_user_name(),
        "start_time": _get_time_ms(),
    }
    run_id = orjson.loads(_post_to_server(server, f"{_RUNS}/create", started))["run"]["info"]["run_id"]
    try:
        yield run_id
    finally:
        _post_to_server(server, f"{_RUNS}/update", {"run_id": run_id, "status": "FINISHED", "end_time": _get_time_ms()})
        server.close()


def _post_to_server(server: HttpClient, path: str, body: dict[str, object]) -> bytes:
    answer = server.send_request("POST", path, data=orjson.dumps(body), headers={"Content-Type": "application/json"})
    if answer.status >= 300:
        raise answer.make_exception(f"{hide_user_info(server.uri)}/{path}", len(answer.content))
    return answer.content


def _read_user_name() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a process whose user has no name
        return ""


def _get_time_ms() -> int:
    return time.time_ns() // 1_000_000
