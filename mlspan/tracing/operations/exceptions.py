"""Exceptions of the caller's code on a span: type, message and stack, as an event and as the span's status."""

from __future__ import annotations

import asyncio
import traceback

from opentelemetry.trace import Span, Status, StatusCode

from ..._guard import let_handler_through
from . import semconv as sc
from .content import ContentPolicy, replace_surrogates


def write_exception(span: Span, policy: ContentPolicy, error: BaseException, error_type: str) -> None:
    """Write an exception to the span, as an event and as its status; without content, its type and its stack alone."""
    span.set_attribute(sc.ERROR_TYPE, error_type)
    span.set_status(Status(StatusCode.ERROR))
    cancelled = isinstance(error, asyncio.CancelledError)
    message = policy.describe_error(error_type, _read_message(error)) or ("cancelled" if cancelled else "")
    stack = _format_stack(error) if policy.on_spans else "".join(traceback.format_tb(error.__traceback__))
    named = {
        "exception.type": error_type,
        "exception.message": message,
        "exception.stacktrace": policy.render_error(stack),
    }
    span.add_event("exception", named)
    span.set_status(Status(StatusCode.ERROR, message))


def _read_message(error: BaseException) -> str:
    """Return what *error* says; nothing where saying it raises."""
    try:
        return replace_surrogates(str(error))
    except (Exception, SystemExit):  # noqa: BLE001  # it is somebody else's code
        return ""


def _format_stack(error: BaseException) -> str:
    """Return the stack of *error*, without what it says where saying it raises."""
    try:
        return "".join(traceback.format_exception(type(error), error, error.__traceback__))
    except (Exception, SystemExit):  # noqa: BLE001  # as above
        return "".join(traceback.format_tb(error.__traceback__))


def get_error_type(error: BaseException) -> str:
    """Return the qualified name of an exception's class, such as ``openai.NotFoundError``, or a builtin's bare name."""
    cls = type(error)
    module = read_module(cls)
    return cls.__qualname__ if module in {"", "builtins"} else f"{module}.{cls.__qualname__}"


def read_module(cls: type) -> str:
    """Return the name of the module that defines *cls*; "" if it names none, as it may say anything at all."""
    try:
        module: object = cls.__module__
    except Exception as raised:  # noqa: BLE001  # a property of a metaclass
        let_handler_through(raised)
        return ""
    return module if isinstance(module, str) else ""
