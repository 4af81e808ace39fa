"""The training that the caller runs in, in its own thread, in threads that it has started, and in other processes."""

from __future__ import annotations

import itertools
import os
import sys
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final

from ..._guard import guard
from ...tracing.operations.call_context import reset_variable
from .logged_facts import LoggedFacts

if TYPE_CHECKING:
    from .mlflow_hook import MlflowAutologHook
    from .training import ActiveTraining

# A private name that threads lack unless multiprocessing has made them, with what is left out without it.
PRIVATE_FIELDS: Final[dict[str, str]] = {
    "_parent": "that a thread pool's training is part of a search",
    "_AUTOLOGGING_GLOBALLY_DISABLED": "that a program has turned off MLflow's autologging for a while",
}

_training_variable: ContextVar[Any] = ContextVar("mlspan_fitting", default=None)
_NONE: Final = object()  # a pool's thread works for no training, whichever has started the thread
# The innermost training of each thread, and the one that has started a thread. The training may be gone before the
# thread, and is not kept: it holds the model and the data.
_trainings_by_thread: weakref.WeakKeyDictionary[threading.Thread, weakref.ref[ActiveTraining]] = (
    weakref.WeakKeyDictionary()
)
_thread_state = threading.local()
_waiting: Final[list[Callable[[], None]]] = []  # for the end of the last training that is under way
_marks: Final = itertools.count(1)
# Trainings that have sent tasks, by their marks: a task may come back to this process, to a thread of a pool.
_trainings_with_tasks: weakref.WeakValueDictionary[int, ActiveTraining] = weakref.WeakValueDictionary()


def current_training() -> ActiveTraining | None:
    """Return the training that the caller runs in, or None.

    In a thread that has none of its own, return the training that the thread was started in, if that is under way.
    """
    own = _training_variable.get()
    if own is _NONE:
        return None
    if own is not None and own.is_open:
        return own  # type: ignore[no-any-return]
    if not _trainings_by_thread:
        return None
    thread = threading.current_thread()
    # The threads of joblib and of Spark's searches come from multiprocessing.dummy, which names their parent.
    for one in (thread, getattr(thread, "_parent", None)):
        reference = _trainings_by_thread.get(one) if one is not None else None
        fitting = reference() if reference is not None else None
        if fitting is not None and fitting.is_open:
            return fitting
    return None


def has_trainings() -> bool:
    """Return whether a training may be under way in any thread."""
    return bool(_trainings_by_thread)


def call_after_trainings(callback: Callable[[], None]) -> None:
    """Call *callback* when no training is under way: now, or when the last one has ended."""
    _waiting.append(callback)
    _call_waiting()


def _call_waiting() -> None:
    if not _waiting:
        return
    if any(
        fitting is not None and fitting.is_open for fitting in [ref() for ref in list(_trainings_by_thread.values())]
    ):
        return
    while _waiting:
        try:
            callback = _waiting.pop()
        except IndexError:  # another thread's training has ended at the same time
            return
        callback()


def note_thread(thread: threading.Thread, fitting: ActiveTraining | None) -> None:
    """Note that *thread* works for a training, if it is one."""
    if fitting is not None:
        _trainings_by_thread[thread] = weakref.ref(fitting)


@contextmanager
def work_for(fitting: ActiveTraining | None) -> Iterator[None]:
    """Let the block be a part of a training; with None, of no training that the thread may know of."""
    token = _training_variable.set(_NONE if fitting is None else fitting)
    try:
        yield
    finally:
        reset_variable(token, fitting, None)


def mark_training() -> int | None:
    """Return a mark of the caller's training, for its tasks; None outside of trainings."""
    if (fitting := current_training()) is None:
        return None
    if (mark := fitting.task_mark) is None:
        mark = fitting.task_mark = next(_marks)
    _trainings_with_tasks[mark] = fitting
    return mark


@contextmanager
def join_marked_training(mark: int) -> Iterator[None]:
    """Let the block, a task in the process that has sent it, be a part of its training if that is under way."""
    fitting = _trainings_with_tasks.get(mark)
    if fitting is None or not fitting.is_open:
        yield
        return
    with work_for(fitting):
        yield


def find_root_training() -> ActiveTraining | None:
    """Return the outermost training that the caller runs in, whose run MLflow logs to; None outside of trainings."""
    fitting = current_training()
    while fitting is not None and fitting.parent is not None:
        fitting = fitting.parent
    return fitting


def read_training_state() -> dict[str, Any]:
    """Return the state of MLflow's autologging for the current training; outside of trainings, for the thread.

    A training shares its state with the trainings inside of it. MLflow reads it some sixty times in each.
    """
    own = _training_variable.get()
    if own is not None and own is not _NONE and own.is_open:
        return own.state  # type: ignore[no-any-return]
    fitting = current_training()
    return _thread_state.__dict__ if fitting is None else fitting.state


def make_unlogged_state() -> dict[str, Any]:
    """Return a state in which MLflow's autologging logs nothing: after a failure it only calls the library."""
    return {"_AutologgingSessionManager._session": SimpleNamespace(state="failed")}


def is_nested(hook: MlflowAutologHook, args: tuple[Any, ...]) -> bool:
    """Return whether a training that begins is part of another that *hook* already traces."""
    fitting = current_training()
    if fitting is not None and (hook.library.is_helper or fitting.hook is None):
        return True
    while fitting is not None:
        if fitting.hook is hook or (args and fitting.subject is args[0]):
            return True
        fitting = fitting.parent
    return False


def enter_training(fitting: ActiveTraining) -> Callable[[], None]:
    """Make *fitting* the caller's training; return what makes the one around it the caller's again."""
    token, thread = _training_variable.set(fitting), threading.current_thread()
    before = _trainings_by_thread.get(thread)
    note_thread(thread, fitting)

    def leave_training() -> None:
        reset_variable(token, fitting, None)
        if before is None:
            _trainings_by_thread.pop(thread, None)
        else:
            _trainings_by_thread[thread] = before
        _call_waiting()

    return leave_training


class _RemoteTraining:
    """Stand-in for a training of another process, of which this process runs a part."""

    parent = hook = subject = record = operation = run_id = None
    has_started, is_trained, is_open = True, False, True
    task_mark: int | None = None

    def __init__(self) -> None:
        self.state = make_unlogged_state()
        self.logged = LoggedFacts()

    def end_epoch(self, number: int | None, metrics: Mapping[str, object]) -> None: ...
    def note_ended_run(self, run_id: str) -> None: ...


class _Switch:
    """MLflow's switch of all autologging of the process, which is off while any of several blocks lasts."""

    def __init__(self) -> None:
        self._lock, self._blocks = threading.Lock(), 0
        self._undo = ExitStack()

    def renew_lock(self) -> None:
        """Give a forked child a lock of its own: another thread may have held this one."""
        self._lock = threading.Lock()

    def turn_off(self) -> Callable[[], None]:
        """Turn it off; return what ends the block. One that is off already stays so."""
        with self._lock, guard("turning off MLflow's autologging"):
            self._blocks += 1
            autologging = sys.modules.get("mlflow.utils.autologging_utils")
            if self._blocks == 1 and not getattr(autologging, "_AUTOLOGGING_GLOBALLY_DISABLED", autologging is None):
                self._undo.enter_context(autologging.disable_autologging())  # type: ignore[union-attr]
        return self._end_block

    def _end_block(self) -> None:
        with self._lock, guard("turning on MLflow's autologging"):
            self._blocks -= 1
            if not self._blocks:
                self._undo.close()


_switch: Final = _Switch()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_switch.renew_lock)


@contextmanager
def join_remote_training() -> Iterator[None]:
    """Treat trainings inside the block as parts of a training in another process: no spans and no MLflow runs."""
    training: Any = _RemoteTraining()  # it has every attribute that is read
    token = _training_variable.set(training)
    try:
        with ExitStack() as undo:
            undo.callback(_switch.turn_off())
            yield
    finally:
        reset_variable(token, training, None)
