"""``mlspan demo``: record a chat that calls a tool, show it at once, and store it as a trace of an MLflow run.

What takes long to import is imported when the first line has been printed.
"""

from __future__ import annotations

import importlib.util
import os
import shlex

from .._extras import tell_install
from .common import (
    ExperimentOption,
    TrackingUriOption,
    find_own_command,
    print_note,
    require_module,
    write_line,
)


def demo(tracking_uri: TrackingUriOption = None, experiment: ExperimentOption = None) -> None:
    """Record a trace and show it.

    Runs a chat that calls a tool, shows its trace, and stores it in an MLflow run, where a program started here would
    store its traces.

    The model is OpenAI's if OPENAI_API_KEY is set, or that of the server in OPENAI_BASE_URL. Otherwise the answers are
    canned.
    """
    require_module("openai", "openai", "the demo")
    key, base = os.environ.get("OPENAI_API_KEY"), os.environ.get("OPENAI_BASE_URL")
    answers = f"by {base or 'OpenAI'}" if key or base else "canned, as no OPENAI_API_KEY is set"
    print_note(f"Recording a chat that calls a tool. The answers are {answers}.")
    from . import demo_steps

    location = demo_steps.locate_store(tracking_uri, experiment, exists=False)
    is_default = location.uri == demo_steps.resolve_settings({})[0]["tracking_uri"].value
    is_server = demo_steps.is_tracking_server(location.uri)
    spans = demo_steps.record_chat(base, key)
    trace_id = demo_steps.show_recorded(spans)
    if not is_server and importlib.util.find_spec("mlflow") is None:
        print_note(f"The trace is not stored: {location.display_uri} needs MLflow. Install it, and run the demo again:")
        write_line(tell_install("mlflow"))
        return
    demo_steps.store_recorded(location, spans)
    print_note("Show it again:" if is_server else "Look at it in MLflow:")
    uri_option = "" if is_default else f" --tracking-uri {shlex.quote(location.uri)}"
    write_line(f"{find_own_command()} {f'show {trace_id}' if is_server else 'ui'}{uri_option}")
