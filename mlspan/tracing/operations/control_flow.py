"""Exceptions that steer a program and tell of no failure. A span that one of them ends is not an error."""

from __future__ import annotations

import asyncio
from typing import Final

from ..._guard import let_handler_through
from .exceptions import read_module

# Private names that some versions or classes lack, each with what is then left out.
PRIVATE_FIELDS: Final[dict[str, str]] = {
    "_pytest": "that skipping a test is no failure",
}

# By class name and the package that defines it, so that none of them has to be imported. A subclass counts as well.
_CONTROL_FLOW: Final[frozenset[tuple[str, str]]] = frozenset(
    {
        ("airflow", "AirflowRescheduleException"),
        ("airflow", "AirflowSkipException"),
        ("airflow", "DagRunTriggerException"),
        ("airflow", "DownstreamTasksSkipped"),
        ("airflow", "TaskDeferred"),
        ("billiard", "WorkerShutdown"),
        ("_pytest", "Exit"),
        ("builtins", "Skipped"),  # pytest's say that they are builtins
        ("builtins", "XFailed"),
        ("celery", "Ignore"),
        ("celery", "Reject"),
        ("celery", "Retry"),
        ("celery", "WorkerShutdown"),
        ("dagster", "RetryRequested"),
        ("haystack", "BreakpointException"),  # a pipeline that pauses where it was told to
        ("django", "RequestAborted"),  # the client has gone
        ("langgraph", "GraphBubbleUp"),
        ("prefect", "Abort"),
        ("prefect", "Pause"),
        ("prefect", "PrefectSignal"),
        ("prefect", "Suspend"),
        ("starlette", "ClientDisconnect"),
        ("streamlit", "RerunException"),
        ("streamlit", "StopException"),
        ("unittest", "SkipTest"),
        ("workflows", "WaitingForEvent"),  # LlamaIndex's
        ("workflows", "WorkflowDone"),
    }
)
_EXITS: Final = frozenset({("click", "Exit"), ("typer", "Exit")})  # with exit code 0, as for SystemExit
# What AnyIO says of a task that its owner no longer wants: Starlette's when the client has gone away, for one.
_SCOPE_MESSAGES: Final = ("Cancelled via cancel scope", "Cancelled by cancel scope")


_CLOSING_COROUTINE: Final = "async_generator_athrow"  # the class of what a generator's aclose() returns


def is_generator_close(error: BaseException) -> bool:
    """Return whether *error* closes a generator that is read no further.

    The event loop closes an asynchronous one in a task of its own. If the loop ends before that task has begun, the
    generator gets the task's cancellation instead.
    """
    if not isinstance(error, asyncio.CancelledError):
        return isinstance(error, GeneratorExit)
    try:
        task = asyncio.current_task()
    except RuntimeError:  # no loop is running
        return False
    return task is not None and type(task.get_coro()).__name__ == _CLOSING_COROUTINE


def is_control_flow(error: BaseException) -> bool:
    """Return whether *error* steers the program: a closed generator, an exit with code 0, a skipped test, a rerun.

    A cancellation counts only where a cancel scope of AnyIO made it, as for a client that has gone away. Any other may
    stem from a time limit, which its caller sees as an error.
    """
    if is_generator_close(error):
        return True
    if isinstance(error, SystemExit):
        return error.code is None or _is_zero(error.code)  # Python ends with code 1 for what is no int
    if isinstance(error, asyncio.CancelledError):
        said = error.args[0] if error.args else None
        return isinstance(said, str) and said.startswith(_SCOPE_MESSAGES)
    names = {(read_module(cls).partition(".")[0], cls.__name__) for cls in type(error).__mro__}
    return not names.isdisjoint(_CONTROL_FLOW) or (not names.isdisjoint(_EXITS) and _has_exit_code_0(error))


def _is_zero(code: object) -> bool:
    return isinstance(code, int) and code == 0


def _has_exit_code_0(error: BaseException) -> bool:
    try:
        return _is_zero(getattr(error, "exit_code", None))
    except Exception as raised:  # noqa: BLE001  # a property of somebody else's
        let_handler_through(raised)
        return False
