"""The differential harness: runs a scenario and returns all that its program can see, to be compared with another run.

A scenario is a function of :class:`Tools`, plain or a coroutine function; what it returns or raises is its result. It
is registered under its name by :func:`scenario`, once for each row of a table.
"""

from __future__ import annotations

import asyncio
import contextvars
import gc
import inspect
import logging
import os
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from descriptions import describe, describe_error, describe_pickle, normalize_text
from process_state import compare_contexts, read_context, take_state, wait_for_change

Scenario = Callable[..., Any]
SCENARIOS: Final[dict[str, Scenario]] = {}
EXITS: Final[dict[str, Scenario]] = {}  # each in a process of its own, which it ends
BLOCKS: Final = ("span", "session", "user", "tags", "run", "model", "request_id")


class _Block:
    """What stands in for a block of ``tracing`` in the program without it; as a decorator it returns the function."""

    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None: ...

    def __call__(self, fn: Any) -> Any:
        return fn


def _trace_nothing(fn: Any = None, **_: object) -> Any:
    return (lambda one: one) if fn is None else fn


async def run_to_end(value: Any) -> Any:
    """Return what a call comes to: what is awaited, and all that is yielded."""
    if hasattr(value, "__await__"):
        return await value
    if hasattr(value, "__anext__"):
        return [one async for one in value]
    return list(value) if hasattr(value, "__next__") else value


def redact_hello(text: str) -> str:
    """Redact, in this process and, as it is found by its name, in workers."""
    return text.replace("hello", "[redacted]")


@dataclass
class Tools:
    """What a scenario is given: the decorators and blocks of ``tracing``, or their stand-ins, and a server."""

    server: str = ""  # the start of the URL of the server of models
    trace: Any = staticmethod(_trace_nothing)
    wrap: Any = staticmethod(_trace_nothing)
    blocks: dict[str, Any] = field(default_factory=lambda: {name: lambda *_, **__: _Block() for name in BLOCKS})
    name: str = ""  # of the scenario

    def url(self, answer: str) -> str:
        """Return the base URL at which the server of models gives *answer*."""
        return f"{self.server}/{self.name}/{answer}/v1"

    def block(self, name: str) -> Any:
        """Enter or decorate with a block of ``tracing``."""
        return self.blocks[name](a="b") if name == "tags" else self.blocks[name]("x")


def scenario(table: Mapping[str, Any] | None = None, *, into: dict[str, Scenario] = SCENARIOS) -> Any:
    """Register a scenario; with a *table* once for each row, which it gets as second argument."""

    def register(fn: Scenario) -> Scenario:
        name = fn.__name__
        if table is None:
            _add(into, name, fn)
        for key, row in (table or {}).items():
            _add(into, f"{name}[{key}]", _bind(fn, row))
        return fn

    return register


def _add(into: dict[str, Scenario], name: str, fn: Scenario) -> None:
    assert name not in into, name
    into[name] = fn


def _bind(fn: Scenario, row: Any) -> Scenario:
    return lambda tools: fn(tools, row)


class _Records(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(normalize_text(f"{record.levelname} {record.name}: {record.getMessage()}"))


@contextmanager
def capture_output(seen: dict[str, Any]) -> Iterator[None]:
    """Put what is written to the descriptors 1 and 2 into *seen*."""
    kept, files = [os.dup(1), os.dup(2)], [tempfile.TemporaryFile() for _ in range(2)]  # noqa: SIM115  # read_file closes them
    sys.stdout.flush(), sys.stderr.flush()
    for number, file in zip((1, 2), files, strict=True):
        os.dup2(file.fileno(), number)
    try:
        yield
    finally:
        sys.stdout.flush(), sys.stderr.flush()
        for number, old, file, name in zip((1, 2), kept, files, ("stdout", "stderr"), strict=True):
            os.dup2(old, number)
            os.close(old)
            seen[name] = read_file(file)


def read_file(file: Any) -> str:
    """Return the text of an open file from its beginning, without what differs between runs, and close it."""
    with file:
        file.seek(0)
        return normalize_text(file.read().decode(errors="replace"))


def observe(fn: Scenario, tools: Tools, own_port: int = 0) -> dict[str, Any]:
    """Run a scenario and return what the program can see of it, as JSON."""
    seen: dict[str, Any] = {}
    records, root = _Records(), logging.getLogger()
    level = root.level
    before = take_state(own_port)
    with warnings.catch_warnings(record=True) as warned, capture_output(seen):
        warnings.simplefilter("always")
        root.addHandler(records)
        root.setLevel(logging.INFO)
        try:
            contextvars.copy_context().run(_run, fn, tools, seen)
            gc.collect()  # finalizers are part of what is seen
            gc.freeze()  # what is left is not looked at again, which would take long
        finally:
            root.removeHandler(records)
            root.setLevel(level)
    seen["log"] = records.lines
    seen["warnings"] = [
        f"{one.category.__name__}: {normalize_text(str(one.message))} ({Path(one.filename).name}:{one.lineno})"
        for one in warned
    ]
    seen["state"] = wait_for_change(before, own_port)
    return seen


def _run(fn: Scenario, tools: Tools, seen: dict[str, Any]) -> None:
    """Run *fn* to its end, and note its outcome and the context variables that it leaves changed."""
    try:
        context = read_context()
        result = fn(tools)
        if inspect.iscoroutine(result):
            result = asyncio.run(_await(result, seen))
        else:
            seen["context"] = compare_contexts(context)
        seen["result"], seen["pickle"] = describe(result), describe_pickle(result)
    except BaseException as error:
        seen["error"], seen["pickle"] = describe_error(error), describe_pickle(error)
        if "context" not in seen:
            seen["context"] = compare_contexts(context)


async def _await(awaited: Any, seen: dict[str, Any]) -> Any:
    context = read_context()
    try:
        return await awaited
    finally:
        seen["context"] = compare_contexts(context)
