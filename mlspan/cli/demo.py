"""``mlspan demo``: record a chat that calls a tool, as one trace of an MLflow run."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Final

from . import canned
from .common import Experiment, Failure, TrackingUri, busy, command, myself, need, note, out
from .places import database_file, is_server, place
from .reading import Traces
from .show import facts, render

QUESTION: Final = "What is the weather in Paris?"
MODEL: Final = "gpt-4o-mini"
_TOOLS: Final[Any] = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": "The weather in a city.",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
        },
    }
]


@command
def demo(tracking_uri: TrackingUri = None, experiment: Experiment = None) -> None:
    """Record a trace and show it.

    Runs a chat that calls a tool, inside an MLflow run. The trace is stored where a program started here would store
    its traces.

    The model is OpenAI's if OPENAI_API_KEY is set, or that of the server in OPENAI_BASE_URL. Otherwise the answers are
    canned.
    """
    need("mlflow", "mlflow", "the demo")
    need("openai", "openai", "the demo")
    location = place(tracking_uri, experiment, exists=False)
    file = database_file(location.uri)
    is_new = file is not None and not file.exists()
    with busy("Preparing MLflow" + (" (a new database takes some seconds)" if is_new else "")):
        trace_id = _record(location.uri, location.experiment)
    traces = Traces(location)
    trace, console = traces.whole(trace_id), out()
    render(trace, console, facts(trace, traces))
    console.print()
    note("Show it again:" if is_server(location.uri) else "Look at it in MLflow:")
    is_default = location.uri == place(None, None, exists=False).uri
    uri_option = "" if is_default else f" --tracking-uri {shlex.quote(location.uri)}"
    next_command = f"show {trace_id}" if is_server(location.uri) else "ui"
    console.print(f"{myself()} {next_command}{uri_option}", soft_wrap=True)


def _record(uri: str, experiment: str | None) -> str:
    """Run the chat with tracing on, and return the id of its trace.

    Raises:
        CommandFailure: if the model does not answer, or the trace is not stored within 60 seconds.
    """
    import logging

    import mlflow

    from .. import integrations, tracing
    from ..tracing.export.mlflow.database import _quiet_migrations

    logging.getLogger("mlflow").setLevel(logging.WARNING)
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    mlflow.set_tracking_uri(uri)
    with _quiet_migrations():
        if experiment is not None:
            mlflow.set_experiment(**{"experiment_id" if experiment.isdigit() else "experiment_name": experiment})
        tracing.configure(tracking_uri=uri, experiment=experiment)
        integrations.openai.autolog(include_usage=True)
        with mlflow.start_run(run_name="mlspan demo"), tracing.session("demo"), tracing.user("ada"), _model() as client:
            trace_id = _ask(client)
    if not tracing.shutdown(60):
        raise Failure("the trace was not stored; to find out why, run: mlspan doctor")
    integrations.openai.autolog(disable=True)
    return trace_id


def _ask(client: Any) -> str:
    """Ask the question, call the tool that the model asks for, read the answer as a stream, and return the trace id."""
    from .. import tracing

    @tracing.trace(name="get_weather", kind="tool")
    def get_weather(city: str) -> str:
        return f"sunny in {city}, 21 degrees"

    with tracing.span("weather assistant", kind="agent", input=QUESTION) as agent:
        messages: Any = [
            {"role": "system", "content": "Answer in one sentence."},
            {"role": "user", "content": QUESTION},
        ]
        reply = client.chat.completions.create(model=MODEL, messages=messages, tools=_TOOLS).choices[0].message
        messages.append(reply)
        for call in reply.tool_calls or []:
            result = get_weather(**json.loads(call.function.arguments))
            messages.append({"role": "tool", "tool_call_id": call.id, "content": result})
        parts = client.chat.completions.create(model=MODEL, messages=messages, stream=True)
        agent.output = "".join(part.choices[0].delta.content or "" for part in parts if part.choices)
        return f"tr-{tracing.current_trace_id()}"


@contextmanager
def _model() -> Iterator[Any]:
    """Yield a client of the server that the environment names, or else of a server with canned answers.

    Print which one it is.

    Raises:
        CommandFailure: if a request to the model fails.
    """
    import openai

    key, base = os.environ.get("OPENAI_API_KEY"), os.environ.get("OPENAI_BASE_URL")
    note(f"asking {base or 'OpenAI'}" if key or base else "no OPENAI_API_KEY is set: the answers are canned")
    with ExitStack() as stack:
        url = None if key or base else stack.enter_context(canned.server())
        client = stack.enter_context(openai.OpenAI(base_url=base or url, api_key=key or "none"))
        try:
            yield client
        except openai.OpenAIError as error:
            raise Failure(f"the model did not answer ({type(error).__name__}): {str(error).splitlines()[0]}") from error
