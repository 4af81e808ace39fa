"""Threads, where there are any: Python 3.12 starts none once its main thread has ended, a full machine none at all."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any


def stay_behind() -> None:
    """Wait for ever: a thread of gevent's that goes on in a forked child, where threading no longer knows it."""
    threading.Event().wait()


def start(name: str, target: Callable[..., Any], *args: Any) -> threading.Thread | None:
    """Return a daemon thread that runs *target*; None where none can be started, and the caller has to do the work."""
    thread = threading.Thread(target=target, args=args, name=name, daemon=True)
    try:
        thread.start()
    except RuntimeError:
        return None
    return thread
