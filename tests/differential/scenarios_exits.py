"""Scenarios: each way in which a process ends, inside of a span."""

from __future__ import annotations

import atexit
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, Final

from harness import EXITS, Tools, scenario


def _raise() -> None:
    raise ValueError("uncaught")


def _thread(*, daemon: bool) -> None:
    def work() -> None:
        time.sleep(0.02)
        print("the thread has ended", flush=True)

    threading.Thread(target=work, daemon=daemon).start()


def _fail_in_a_thread() -> None:
    thread = threading.Thread(target=_raise)
    thread.start()
    thread.join(10)


def _interrupt() -> None:
    raise KeyboardInterrupt


def _print_at_exit() -> None:
    atexit.register(print, "registered by the program")


def _excepthook() -> None:
    sys.excepthook = lambda *_: print("the program's own hook")
    _raise()


ENDS: Final[dict[str, Callable[[], Any]]] = {
    "the last line": lambda: print("done"),
    "sys.exit()": sys.exit,
    "sys.exit(3)": lambda: sys.exit(3),
    "sys.exit(text)": lambda: sys.exit("no such file"),
    "os._exit(4)": lambda: os._exit(4),
    "an exception": _raise,
    "an excepthook": _excepthook,
    "Ctrl-C": _interrupt,
    "SIGTERM": lambda: os.kill(os.getpid(), signal.SIGTERM),
    "SIGKILL": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "a thread goes on": lambda: _thread(daemon=False),
    "a thread fails": _fail_in_a_thread,
    "atexit": _print_at_exit,
}


@scenario(ENDS, into=EXITS)
def end(tools: Tools, run: Callable[[], Any]) -> None:
    with tools.block("span"):
        tools.trace(lambda: None)()
        run()
