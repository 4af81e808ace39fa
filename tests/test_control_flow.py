"""What steers a program is no failure: neither the span nor the trace is an error; the program sees it unchanged."""

from __future__ import annotations

import asyncio
import unittest
from collections.abc import Callable
from typing import Any

import pytest

from mlspan import tracing
from mlspan.testing import Spans
from mlspan.tracing.operations import operation


def make_foreign_error(module: str, name: str, base: type[BaseException] = Exception) -> type[BaseException]:
    """Return a class that stands where a library has it, which is not installed here."""
    return type(name, (base,), {"__module__": module})


class _Exit(make_foreign_error("click.exceptions", "Exit", RuntimeError)):  # type: ignore[misc]
    def __init__(self, exit_code: int) -> None:
        self.exit_code = exit_code


_Exit.__name__, _Exit.__module__ = "Exit", "click.exceptions"

CONTROL_FLOW: dict[str, Callable[[], BaseException]] = {
    "SystemExit(0)": lambda: SystemExit(0),
    "SystemExit()": SystemExit,
    "pytest.skip": lambda: pytest.skip.Exception("not here"),
    "pytest.exit": lambda: pytest.exit.Exception("enough"),
    "SkipTest": lambda: unittest.SkipTest("not here"),
    "click.Exit(0)": lambda: _Exit(0),
    "st.stop": make_foreign_error("streamlit.runtime.scriptrunner_utils.exceptions", "StopException", BaseException),
    "st.rerun": make_foreign_error("streamlit.runtime.scriptrunner_utils.exceptions", "RerunException", BaseException),
    "airflow skip": make_foreign_error("airflow.sdk.exceptions", "AirflowSkipException"),
    "airflow defer": make_foreign_error("airflow.exceptions", "TaskDeferred", BaseException),
    "celery retry": make_foreign_error("celery.exceptions", "Retry"),
    "a subclass of celery's": type("Own", (make_foreign_error("celery.exceptions", "Ignore"),), {}),
    "prefect pause": make_foreign_error("prefect.exceptions", "Pause"),
    "django's client gone": make_foreign_error("django.core.exceptions", "RequestAborted"),
    "client gone": make_foreign_error("starlette.requests", "ClientDisconnect"),
    "cancel scope": lambda: asyncio.CancelledError("Cancelled via cancel scope 7f00 by <Task>"),
}
FAILURES: dict[str, Callable[[], BaseException]] = {
    "SystemExit(1)": lambda: SystemExit(1),
    "SystemExit(text)": lambda: SystemExit("no such file"),
    "click.Exit(2)": lambda: _Exit(2),
    "KeyboardInterrupt": KeyboardInterrupt,
    "cancelled": asyncio.CancelledError,
    "an application's own of that name": type("StopException", (Exception,), {"__module__": "shop.orders"}),
    "ValueError": lambda: ValueError("bad"),
}


@tracing.trace
def step(error: BaseException) -> None:
    raise error


@pytest.mark.parametrize("name", CONTROL_FLOW)
def test_control_flow_is_no_error(name: str, spans: Spans) -> None:
    error = CONTROL_FLOW[name]()
    with pytest.raises(type(error)) as raised, tracing.span("root"):
        step(error)
    assert raised.value is error
    assert [(span.status.status_code.name, span.events) for span in spans.all] == [("UNSET", ())] * 2


@pytest.mark.parametrize("name", FAILURES)
def test_failures_stay_errors(name: str, spans: Spans) -> None:
    error = FAILURES[name]()
    with pytest.raises(type(error)), tracing.span("root"):
        step(error)
    assert [span.status.status_code.name for span in spans.all] == ["ERROR"] * 2


class _RaisingName(type):
    """Of a class whose module's name cannot be read, as of a proxy that has lost what it stands for."""

    @property
    def __module__(cls) -> str:  # type: ignore[override]
        raise LookupError("gone")


class _NoBool:
    """As an array, which compares to another, and is neither true nor false."""

    def __eq__(self, other: object) -> Any:
        return self

    def __bool__(self) -> bool:
        raise ValueError("ambiguous")

    __hash__ = None  # type: ignore[assignment]


class _OddExit(_Exit):
    def __init__(self) -> None: ...

    @property
    def exit_code(self) -> int:
        raise LookupError("no code")


ODD: dict[str, Callable[[], BaseException]] = {
    "no module": type("Own", (Exception,), {"__module__": None}),
    "a number for a module": type("Own", (Exception,), {"__module__": 7}),
    "below one without a module": type("Own", (type("Base", (Exception,), {"__module__": None}),), {}),
    "a module that raises": _RaisingName("Own", (Exception,), {}),
    "an exit with an array": lambda: SystemExit(_NoBool()),
    "an exit whose code raises": _OddExit,
}


@pytest.mark.parametrize("strict", ["0", "1"])
@pytest.mark.parametrize("name", ODD)
def test_an_odd_exception_reaches_its_caller(
    name: str, strict: str, spans: Spans, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is the caller's own, unchanged; each span ends, and is an error. There is nothing to swallow either."""
    monkeypatch.setenv("MLSPAN_STRICT", strict)
    error = ODD[name]()
    with pytest.raises(type(error)) as raised, tracing.span("root"):
        step(error)
    assert raised.value is error
    assert [span.status.status_code.name for span in spans.all] == ["ERROR"] * 2
    assert all((span.attributes or {})["error.type"] for span in spans.all)


@pytest.mark.parametrize("broken", ["is_control_flow", "get_error_type"])
def test_a_fault_of_our_own_at_the_end_costs_no_span(
    broken: str, spans: Spans, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever fails while an exception is read, the span ends as an error, and the caller sees its exception."""

    def fail(error: BaseException) -> None:
        raise LookupError("ours")

    monkeypatch.setattr(operation, broken, fail)
    monkeypatch.delenv("MLSPAN_STRICT", raising=False)
    error = ValueError("mine")
    with pytest.raises(ValueError, match="mine") as raised, tracing.span("root"):
        step(error)
    assert raised.value is error
    assert [span.status.status_code.name for span in spans.all] == ["ERROR"] * 2


def test_a_client_that_goes_away(spans: Spans) -> None:
    """Starlette cancels the scope of a response whose client has gone: the stream it was reading is closed."""
    anyio = pytest.importorskip("anyio")

    @tracing.trace
    async def answer() -> Any:
        with tracing.span("model"):
            yield "Hel"
            await asyncio.sleep(30)

    async def respond(scope: Any) -> None:
        with tracing.span("request"):
            async for _ in answer():
                scope.cancel()

    async def main() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(respond, group.cancel_scope)

    asyncio.run(main())
    assert [span.status.status_code.name for span in spans.all] == ["UNSET"] * 3
    assert all(not span.events for span in spans.all)
