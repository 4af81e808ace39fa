"""The exit watcher: the ends of a process, which are ``atexit``, SIGTERM and those of multiprocessing's children.

What is sent at the end, and how long that may take, is decided elsewhere: ``runtime.stop_runtime`` is what ``atexit``,
``tracing.shutdown`` and this watcher call; ``ExportProcessor.choose_exit_timeout`` chooses the seconds, from the
``exit_grace`` of each sink (``export/otlp/sink.py``, ``export/mlflow/sink.py``).
"""

from __future__ import annotations

import functools
import os
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import Any, Final

from .._guard import guard
from .._patching import Undo, replace_function
from .exit_handler import register_exit_handler, unregister_exit_handler
from .fork_signals import ForkSignals

_UTILITY_MODULES: Final = ("multiprocessing.util", "billiard.util")  # billiard is Celery's fork of multiprocessing


def _restore_interrupted_exit() -> None:
    """Let the interpreter still end as one that Ctrl-C has ended, with that signal.

    It notes such an end when the main module is over, and forgets it when any code is executed from text, as importing
    MLflow does.
    """
    with suppress(KeyboardInterrupt):
        exec("raise KeyboardInterrupt")  # noqa: S102  # only code that is executed from text makes it note that again


class ExitWatcher:
    """A watcher of these ends, from :meth:`start_watching`, called in the main thread, to :meth:`stop_watching`.

    Args:
        stop: sends all recorded spans and stops recording.
        save: stores all recorded spans; it must be quick, because the application goes on.
        postpone: given a signal, returns whether it has interrupted this thread while it stores; the signal is then
            sent again.
    """

    def __init__(self, stop: Callable[[], object], save: Callable[[], object], postpone: Callable[[int], bool]) -> None:
        self._stop, self._save, self._postpone = stop, save, postpone
        self._previous_handler: Any = None
        self._undo_observing: Undo | None = None  # of signal.signal
        self._watching = False
        self._finalizers: list[Any] = []  # multiprocessing's, in a child process
        self.has_ended = False  # whether the handler of atexit has run
        self.fork_signals = ForkSignals(self._is_installed, lambda: not callable(self._previous_handler))

    def start_watching(self) -> None:
        """Install the handlers of ``atexit`` and SIGTERM, and the finalizer of a child process."""
        self._watching = True
        register_exit_handler()
        if threading.current_thread() is not threading.main_thread():
            return
        previous = signal.getsignal(signal.SIGTERM)
        if previous == signal.SIG_DFL or (callable(previous) and previous != self._on_signal):
            self._previous_handler = previous
            signal.signal(signal.SIGTERM, self._on_signal)
            if callable(previous) and self._undo_observing is None:
                self._undo_observing = replace_function("signal:signal", self._keep_handler)
        self._register_in_child()

    def _keep_handler(self, set_handler: Callable[..., Any]) -> Callable[..., Any]:
        """Return ``signal.signal`` for a program whose own handler was there before ours.

        Whoever has set that handler may set the signal back to what it was before, and then send it to this process
        again: uvicorn ends so, and nothing of ours would run. Ours stays then, and sends all spans first.
        """

        @functools.wraps(set_handler)
        def keep_handler(signalnum: int, handler: Any) -> Any:
            if signalnum == signal.SIGTERM and handler == signal.SIG_DFL and self._is_needed_at_signal():
                self._previous_handler = handler
                handler = self._on_signal
            return set_handler(signalnum, handler)

        return keep_handler

    def _is_needed_at_signal(self) -> bool:
        """Return whether a signal that ends this process has to come to us first."""
        is_main = threading.current_thread() is threading.main_thread()
        return is_main and self._watching and callable(self._previous_handler)

    def stop_watching(self) -> None:
        """Remove our handlers and our finalizers.

        If another handler of SIGTERM has replaced ours, it stays. It may still call ours, which then only passes the
        signal on.
        """
        self._watching = False
        unregister_exit_handler()
        if self._undo_observing is not None:
            self._undo_observing()
            self._undo_observing = None
        while self._finalizers:
            self._finalizers.pop().cancel()
        on_main = threading.current_thread() is threading.main_thread()
        if on_main and self._previous_handler is not None and signal.getsignal(signal.SIGTERM) == self._on_signal:
            signal.signal(signal.SIGTERM, self._previous_handler)
            self._previous_handler = None

    def handle_exit(self) -> None:
        """Send all spans, as a handler of ``atexit``. Ctrl-C ends the waiting; what is not sent by then is on disk."""
        was_interrupted = isinstance(getattr(sys, "last_value", None), KeyboardInterrupt) and not hasattr(sys, "ps1")
        with suppress(KeyboardInterrupt):
            self._stop()
        self.has_ended = True
        if was_interrupted:
            _restore_interrupted_exit()

    def _is_installed(self) -> bool:
        return self._watching and signal.getsignal(signal.SIGTERM) == self._on_signal

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        """End by the signal, or, if it interrupts a fork or what stores our spans, once that is over.

        Under gevent that takes a greenlet of its own: where the hub is interrupted, nothing may wait; and in a greenlet
        other than the main one, which may be ours, ``sys.exit`` ends nothing but that greenlet.
        """
        if self.fork_signals.postpone(number) or self._postpone(number):
            return
        gevent = sys.modules.get("gevent")
        if gevent is not None and isinstance(gevent.getcurrent(), (gevent.hub.Hub, gevent.Greenlet)):
            gevent.spawn(self._end_in_greenlet, gevent.get_hub(), number, frame)
        else:
            self._end_by_signal(number, frame)

    def _end_in_greenlet(self, hub: Any, number: int, frame: FrameType | None) -> None:
        """End by the signal; what a handler raises, such as SystemExit, is for the main greenlet."""
        try:
            self._end_by_signal(number, frame)
        except BaseException as error:  # noqa: BLE001  # see above
            hub.handle_system_error(type(error), error)

    def _end_by_signal(self, number: int, frame: FrameType | None) -> None:
        """Store or send all spans, then do what the previous handler does."""
        previous = self._previous_handler
        if self._watching:
            with guard("storing traces at a signal"):
                self._save() if callable(previous) else self._stop()
        if callable(previous):
            previous(number, frame)
        else:
            self._watching = False
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)

    def _register_in_child(self) -> None:
        """Register a finalizer in a spawned child of multiprocessing, which runs its finalizers but not ``atexit``."""
        multiprocessing = sys.modules.get("multiprocessing")
        if multiprocessing is not None and multiprocessing.parent_process() is not None:
            self._register_finalizer("multiprocessing.util")

    def _register_finalizer(self, name: str) -> None:
        """Register :attr:`_stop` as a finalizer with the multiprocessing utilities *name*."""
        if self._watching:
            self._finalizers.append(sys.modules[name].Finalize(None, self._stop, exitpriority=100))

    def handle_fork(self) -> None:
        """Register the finalizers again in a forked child.

        Multiprocessing clears a child's finalizers, then calls what is registered here.
        """
        for name in _UTILITY_MODULES:
            if self._watching and (utility := sys.modules.get(name)) is not None:
                utility.register_after_fork(self, lambda _, name=name: self._register_finalizer(name))
