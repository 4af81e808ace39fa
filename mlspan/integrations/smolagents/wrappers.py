"""Wrappers of smolagents' methods: generators whose steps run inside of a span, and what is running here."""

from __future__ import annotations

import functools
import inspect
from typing import Any, Final, NamedTuple

from opentelemetry import context as otel

from ...hooks.subclasses import OperationStarter, start_while_on
from ...tracing.operations.generators import ObservedGenerator, is_generator, keep_open, wrap_generator
from ...tracing.operations.operation import Operation

_RUNNING_KEY: Final = otel.create_key("mlspan-smolagents")


class Running(NamedTuple):
    """The innermost run, step or tool whose code the caller is inside.

    Attributes:
        kind: "run", "step", "tool" or "code".
        owner: the agent, the ActionStep, the tool or the executor.
        operation: its operation.
        asked: of a step, the calls of tools that its model has asked for and that have begun.
        chats: the operations of its calls to a model.
        outer: what it runs inside of.
    """

    kind: str
    owner: object
    operation: Operation
    asked: list[object]
    chats: list[Operation]
    outer: Running | None


def find_running() -> Running | None:
    """Return what is running here; None outside of any run."""
    found = otel.get_value(_RUNNING_KEY)
    return found if isinstance(found, Running) else None


def is_running(kind: str, owner: object) -> bool:
    """Return whether *owner* is what runs here, as where a method calls the one that it overrides."""
    running = find_running()
    return running is not None and running.kind == kind and running.owner is owner


def mark_running(operation: Any, kind: str, owner: object) -> Any:
    """Put *owner* into the context of its operation, and return that."""
    if isinstance(operation, Operation):
        running = Running(kind, owner, operation, [], [], find_running())
        operation.context = otel.set_value(_RUNNING_KEY, running, operation.context)
    return operation


def trace_steps(fn: Any, open_: OperationStarter, on: list[bool]) -> Any:
    """Wrap a method: its span ends with its result, or with the generator that it is or returns.

    The span is current in each step of a generator, and not in between.

    Args:
        fn: the method.
        open_: starts an operation from arguments and keyword arguments.
        on: the wrapper passes calls through once this list is empty.
    """
    open_operation = start_while_on(open_, on)

    if inspect.isgeneratorfunction(inspect.unwrap(fn)):
        return functools.wraps(fn)(wrap_generator(fn, open_operation, ObservedGenerator))

    @functools.wraps(fn)
    def call_in_span(*args: Any, **kwargs: Any) -> Any:
        with open_operation(args, kwargs) as operation:
            result = fn(*args, **kwargs)
            if isinstance(operation, Operation) and is_generator(result):
                return keep_open(operation, result)
            return operation.record_result(result)

    return call_in_span
