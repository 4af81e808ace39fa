"""Our handler of ``atexit``. ``tracing`` registers it when it is imported, long before the runtime that it calls.

Python calls no handler that is registered while it calls them, and what an application registers later is called
earlier, so what its own handlers record is sent as well.
"""

from __future__ import annotations

import atexit
import concurrent.futures.thread  # noqa: F401  # the SDK and MLflow use it, and it cannot be imported as Python ends
import sys
import weakref

_registered: list[bool] = []  # empty while it is not


def register_exit_handler() -> None:
    """Register the handler, unless it is: it runs before what was registered earlier.

    That includes the handler of :mod:`weakref`, which is registered with the first finalizer: urllib3 has one for each
    pool of connections, and whoever asks an emptied pool for one waits for ever.
    """
    if not _registered:
        _registered.append(True)
        weakref.finalize(_handle_exit, int)
        atexit.register(_handle_exit)


def unregister_exit_handler() -> None:
    """Take the handler away."""
    _registered.clear()
    atexit.unregister(_handle_exit)


def _handle_exit() -> None:
    runtime = sys.modules.get(f"{__package__}.runtime")
    if runtime is not None:
        runtime.handle_exit()
