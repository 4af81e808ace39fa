"""``mlspan demo``: record a chat that calls a tool, as one trace of an MLflow run."""

from __future__ import annotations

import json
import logging
import os
import shlex
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Final

from .. import integrations, tracing
from . import canned
from .common import (
    CommandFailure,
    ExperimentOption,
    TrackingUriOption,
    find_own_command,
    make_output_console,
    print_note,
    require_module,
    show_busy,
)
from .opening import open_reader
from .places import find_database_file, is_tracking_server, locate_store
from .show import collect_facts, print_trace

DEMO_QUESTION: Final = "What is the weather in Paris?"
DEMO_MODEL: Final = "gpt-4o-mini"
_WEATHER_TOOLS: Final[object] = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": "The weather in a city.",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
        },
    }
]


def demo(tracking_uri: TrackingUriOption = None, experiment: ExperimentOption = None) -> None:
    """Record a trace and show it.

    Runs a chat that calls a tool, inside an MLflow run. The trace is stored where a program started here would store
    its traces.

    The model is OpenAI's if OPENAI_API_KEY is set, or that of the server in OPENAI_BASE_URL. Otherwise the answers are
    canned.
    """
    require_module("mlflow", "mlflow", "the demo")
    require_module("openai", "openai", "the demo")
    location = locate_store(tracking_uri, experiment, exists=False)
    # Asked before the demo runs, as MLflow's setter changes the environment.
    is_default = location.uri == locate_store(None, None, exists=False).uri
    file = find_database_file(location.uri)
    is_new = file is not None and not file.exists()
    with show_busy("Preparing MLflow" + (" (a new database takes some seconds)" if is_new else "")):
        trace_id = _record_trace(location.uri, location.experiment)
    traces = open_reader(location)
    trace, console = traces.fetch_trace(trace_id), make_output_console()
    print_trace(trace, console, collect_facts(trace, traces))
    console.print()
    print_note("Show it again:" if is_tracking_server(location.uri) else "Look at it in MLflow:")
    uri_option = "" if is_default else f" --tracking-uri {shlex.quote(location.uri)}"
    next_command = f"show {trace_id}" if is_tracking_server(location.uri) else "ui"
    console.print(f"{find_own_command()} {next_command}{uri_option}", soft_wrap=True)


def _record_trace(uri: str, experiment: str | None) -> str:
    """Run the chat with tracing on, and return the id of its trace.

    Raises:
        CommandFailure: if the model does not answer, or the trace is not stored within 60 seconds.
    """
    import mlflow

    from ..tracing.export.mlflow.database import _quiet_migrations

    logging.getLogger("mlflow").setLevel(logging.WARNING)
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    mlflow.set_tracking_uri(uri)
    with _quiet_migrations():
        if experiment is not None:
            mlflow.set_experiment(**{"experiment_id" if experiment.isdigit() else "experiment_name": experiment})
        tracing.configure(tracking_uri=uri, experiment=experiment)
        integrations.openai.autolog(include_usage=True)
        with (
            mlflow.start_run(run_name="mlspan demo"),
            tracing.session("demo"),
            tracing.user("ada"),
            _connect_model() as client,
        ):
            trace_id = _ask_question(client)
    if not tracing.shutdown(60):
        raise CommandFailure("the trace was not stored; to find out why, run: mlspan doctor")
    integrations.openai.autolog(disable=True)
    return trace_id


def _ask_question(client: Any) -> str:
    """Ask the question, call the tool that the model asks for, read the answer as a stream, and return the trace id."""

    @tracing.trace(name="get_weather", kind="tool")
    def get_weather(city: str) -> str:
        return f"sunny in {city}, 21 degrees"

    with tracing.span("weather assistant", kind="agent", input=DEMO_QUESTION) as agent:
        messages: Any = [
            {"role": "system", "content": "Answer in one sentence."},
            {"role": "user", "content": DEMO_QUESTION},
        ]
        reply = (
            client.chat.completions.create(model=DEMO_MODEL, messages=messages, tools=_WEATHER_TOOLS).choices[0].message
        )
        messages.append(reply)
        for call in reply.tool_calls or []:
            result = get_weather(**json.loads(call.function.arguments))
            messages.append({"role": "tool", "tool_call_id": call.id, "content": result})
        parts = client.chat.completions.create(model=DEMO_MODEL, messages=messages, stream=True)
        agent.output = "".join(part.choices[0].delta.content or "" for part in parts if part.choices)
        return f"tr-{tracing.current_trace_id()}"


@contextmanager
def _connect_model() -> Iterator[object]:
    """Yield a client of the server that the environment names, or else of a server with canned answers.

    Print which one it is.

    Raises:
        CommandFailure: if a request to the model fails.
    """
    import openai

    key, base = os.environ.get("OPENAI_API_KEY"), os.environ.get("OPENAI_BASE_URL")
    print_note(f"asking {base or 'OpenAI'}" if key or base else "no OPENAI_API_KEY is set: the answers are canned")
    with ExitStack() as stack:
        url = None if key or base else stack.enter_context(canned.serve_canned_answers())
        client = stack.enter_context(openai.OpenAI(base_url=base or url, api_key=key or "none"))
        try:
            yield client
        except openai.OpenAIError as error:
            raise CommandFailure(
                f"the model did not answer ({type(error).__name__}): {str(error).splitlines()[0]}"
            ) from error
