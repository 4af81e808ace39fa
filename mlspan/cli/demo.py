"""``mlspan demo``: record a chat that calls a tool, show it at once, and store it as a trace of an MLflow run.

What takes long to import is imported when the first line has been printed.
"""

from __future__ import annotations

import os

from .common import ExperimentOption, TrackingUriOption, print_note, require_module


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
    from .demo_steps import run_demo

    run_demo(tracking_uri, experiment, base, key)
