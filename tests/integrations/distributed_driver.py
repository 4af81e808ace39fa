"""What the process of a distributed training's test does around its trainings: ``drive(functions)``."""

from __future__ import annotations

import faulthandler
import json
import os
import sys
from collections.abc import Callable, Iterable
from typing import Any, Final

# Seconds, which only what hangs takes: on a busy machine, each process imports its libraries for minutes.
LIMIT: Final = 1200


def drive(functions: Iterable[Callable[..., object]], *given: Any) -> None:
    """Call the functions that the command line names, each in a span of its name, and print what they return."""
    from mlspan import tracing

    named = {function.__name__: function for function in functions}
    results = {}
    for name in sys.argv[1:]:
        with tracing.span(name):
            results[name] = named[name](*given)
    tracing.flush(60)
    faulthandler.cancel_dump_traceback_later()
    print("RESULT", json.dumps(results), flush=True)


def start() -> None:
    """Turn mlspan on, as the first thing."""
    faulthandler.dump_traceback_later(LIMIT, exit=True)  # one that hangs says where
    from mlspan import integrations

    integrations.autolog(silent=True, **json.loads(os.environ.get("TEST_AUTOLOG", "{}")))
