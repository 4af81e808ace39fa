"""One JSON-RPC request of MCP: what is recorded of it, and what its result says."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from time import perf_counter
from typing import Any, ClassVar, Final

from opentelemetry import trace
from opentelemetry.trace import SpanKind

from ..._guard import guard
from ..._shape import get_field, get_list, get_nested
from ...hooks.call import Call
from ...hooks.hook import Hook
from ...hooks.own_spans import make_unrecorded_span
from ...tracing.operations import semconv as sc
from ...tracing.operations.call_context import reset_variable
from ...tracing.operations.control_flow import is_control_flow
from ...tracing.operations.exceptions import get_error_type
from ...tracing.operations.fields import span_attribute
from ...tracing.operations.noop import NOOP_OPERATION
from ...tracing.operations.operation import Operation
from ...tracing.operations.records import NamedRecord, Observe, Tool, sees_errors
from .durations import record_duration

TOOL_CALL: Final = "tools/call"
PROMPT: Final = "prompts/get"
RESOURCE: Final = "resources/read"
_NAMED: Final = (TOOL_CALL, PROMPT)
# Requests that keep a connection going: recorded as part of a trace, but no trace is made of them alone.
_UPKEEP: Final = frozenset({"initialize", "ping", "server/discover", "logging/setLevel"})
_LOCAL_FAILURES: Final = {"408", "-32000", "-32001"}  # a timeout, a closed connection: no response has told them


class Request:
    """A request in flight on one side of a connection.

    Attributes:
        method: such as ``tools/call``.
        params: its parameters, as JSON; none of those that are no object.
        target: the name of the tool or the prompt, if the request is about one.
        kind: CLIENT for the side that sends it, SERVER for the side that handles it.
        attributes: what is known of the connection and the request besides, by attribute.
    """

    def __init__(self, method: object, params: object, kind: SpanKind) -> None:
        self.method, self.kind = method if isinstance(method, str) else "unknown", kind
        self.params: Mapping[str, Any] = params if isinstance(params, Mapping) else {}
        name = self.params.get("name") if self.method in _NAMED else None
        self.target = name if isinstance(name, str) else None
        self.attributes: dict[str, Any] = {}
        self.error_type: str | None = None
        self._span: trace.Span | None = None  # of the tool's call that this request belongs to, if there is one

    def note(self, attributes: Mapping[str, Any]) -> None:
        """Add what is known of the request, or becomes known while it is in flight; what is None is left out."""
        known = {name: value for name, value in attributes.items() if value is not None}
        self.attributes |= known
        if self._span is not None:
            self._span.set_attributes(known)

    def note_id(self, id: object) -> None:
        """Note the id of the request in JSON-RPC, if it has one."""
        self.note({sc.JSONRPC_REQUEST_ID: None if id is None else str(id)})

    def join_tool_span(self) -> bool:
        """Add the request to the current span, if that records this very call of a tool. Return whether it does."""
        span = trace.get_current_span()
        said = getattr(span, "attributes", None) or {}
        if (
            self.kind is not SpanKind.CLIENT
            or self.method != TOOL_CALL
            or not span.is_recording()
            or said.get(sc.OPERATION) != sc.EXECUTE_TOOL
            or said.get(sc.TOOL_NAME) != self.target
            or sc.MCP_METHOD in said
        ):
            return False
        self._span = span
        span.set_attributes({sc.MCP_METHOD: self.method, **self.attributes})
        return True


read_guard: Final = guard("reading a request of MCP")
current_request: Final[ContextVar[Request | None]] = ContextVar("mlspan-mcp-request", default=None)


class _McpToolCall(Tool):
    """A call of a tool by MCP."""

    duration_metric: ClassVar[str | None] = None  # MCP has its own, and both sides would count the same execution
    method: str = span_attribute(sc.MCP_METHOD, "start", default=TOOL_CALL)

    @property
    def span_name(self) -> str:
        return " ".join(filter(None, (self.method, self.name)))


class _SentToolCall(_McpToolCall):
    kind: ClassVar[SpanKind] = SpanKind.CLIENT


class _HandledToolCall(_McpToolCall):
    kind: ClassVar[SpanKind] = SpanKind.SERVER


class _McpRequest(NamedRecord):
    """Any other request. *name* is that of a prompt; *type* becomes MLflow's span type."""

    method: str = span_attribute(sc.MCP_METHOD, "start")
    name: str | None = span_attribute(sc.PROMPT_NAME, "start")
    resource: str | None = span_attribute(sc.MCP_RESOURCE_URI, "start")
    type: str = span_attribute(sc.KIND, "start", default="request")

    @property
    def span_name(self) -> str:
        return " ".join(filter(None, (self.method, self.name)))


class _SentRequest(_McpRequest):
    kind: ClassVar[SpanKind] = SpanKind.CLIENT


class _HandledRequest(_McpRequest):
    kind: ClassVar[SpanKind] = SpanKind.SERVER


_Record = _McpToolCall | _McpRequest


def _make_record(request: Request, *, capture_content: bool) -> _Record:
    """Return the record of *request*, with its arguments as input if content is recorded."""
    params, is_sent, name = request.params, request.kind is SpanKind.CLIENT, request.target
    if request.method == TOOL_CALL:
        record: _Record = (_SentToolCall if is_sent else _HandledToolCall)(name=name, type="function")
        arguments = params.get("arguments") or {}
    else:
        uri = params.get("uri")
        record = (_SentRequest if is_sent else _HandledRequest)(
            method=request.method, name=name, resource=None if uri is None else str(uri)
        )
        if request.method == RESOURCE:
            record.type = "retriever"
        arguments = {key: value for key, value in params.items() if key != "_meta"}
    if capture_content and arguments:
        record.input = arguments
    return record


def _begin(request: Request, call: Call) -> tuple[_Record, Observe[_Record]]:
    """Begin the record of *request*."""
    record = _make_record(request, capture_content=call.capture_content)
    record.extra = request.attributes  # the same dict, as more becomes known while the request is in flight
    return record, sees_errors(functools.partial(_observe, request, call.capture_content))


def _observe(request: Request, capture_content: bool, record: _Record, got: object) -> None:
    """Read a result, or the exception in its place, into the record."""
    if isinstance(got, BaseException):
        code = get_nested(got, "error.code", int)  # of MCP's own exception
        if code is not None:
            request.attributes[sc.ERROR_TYPE] = str(code)
            if str(code) not in _LOCAL_FAILURES:
                request.attributes[sc.RPC_STATUS_CODE] = str(code)
    else:
        result = dump_result(got)
        if result is not None:
            _observe_result(request, record, result, capture_content=capture_content)


def _observe_result(request: Request, record: _Record, result: dict[str, object], *, capture_content: bool) -> None:
    """Read a result: a tool that has failed says so in it; one of JSON-RPC's errors has a code and a message."""
    if "code" in result and "message" in result and "content" not in result:
        code = str(result["code"])
        record.failure = code, str(result["message"])
        request.attributes[sc.RPC_STATUS_CODE] = code
        return
    if result.get("isError") is True:
        texts = (get_nested(part, "text", str) for part in get_list(result, "content"))
        record.failure = "tool_error", next(filter(None, texts), "")
    if request.method == "initialize" and isinstance(version := result.get("protocolVersion"), str):
        request.attributes[sc.MCP_PROTOCOL_VERSION] = version
    if capture_content:
        record.output = {key: value for key, value in result.items() if key not in {"_meta", "resultType"}}


def dump_result(value: object) -> dict[str, object] | None:
    """Return a result as the JSON that is sent; None if there is none."""
    value = get_field(value, "root") or value  # the first version wraps each result
    dump = getattr(value, "model_dump", None)
    if dump is not None:
        value = dump(by_alias=True, mode="json", exclude_none=True, warnings=False)
    return value if isinstance(value, dict) else None


class TracedRequest:
    """A request that is being recorded: by an operation of its own, on the span of the tool's call, or not at all."""

    def __init__(self, operation: Any, request: Request) -> None:
        self._operation, self._request = operation, request

    def observe(self, result: object) -> None:
        """Record the result."""
        if isinstance(self._operation, Operation):
            self._operation.observe(result)
            failure = self._operation.record.failure
            self._request.error_type = failure[0] if failure else None


@contextmanager
def trace_request(hook: Hook, request: Request) -> Iterator[TracedRequest]:
    """Record *request* around the block, which makes or handles it."""
    operation, records = _start_request(hook, request)
    inside = request if records else None
    token, started = current_request.set(inside), perf_counter()
    try:
        with operation:
            yield TracedRequest(operation, request)
    except BaseException as error:
        with _error_guard:
            if not is_control_flow(error):  # as the span has it
                code = get_nested(error, "error.code", int)
                request.error_type = get_error_type(error) if code is None else str(code)
        raise
    finally:
        reset_variable(token, inside, None)
        if records:
            with _measure_guard:
                record_duration(request, perf_counter() - started)


_error_guard: Final = guard("reading an exception")
_measure_guard: Final = guard("measuring a request of MCP")
_start_guard: Final = guard("starting a request of MCP")


def _start_request(hook: Hook, request: Request) -> tuple[Any, bool]:
    """Return what records *request*, a no-op if nothing of its own does, and whether it is recorded at all."""
    with _start_guard:
        if not hook.should_record():
            return NOOP_OPERATION, False
        if request.method in _UPKEEP and not trace.get_current_span().get_span_context().is_valid:
            return NOOP_OPERATION, True
        if request.join_tool_span():
            return NOOP_OPERATION, True
        operation = hook.start_operation(functools.partial(_begin, request), (), {})
        return operation, operation is not NOOP_OPERATION
    return NOOP_OPERATION, False


@contextmanager
def hold_back_notification(hook: Hook, method: object, sender: AbstractContextManager[None]) -> Iterator[None]:
    """Have the SDK open no span for a notification around the block, if that would be a trace of nothing else.

    *sender* makes the span current that the notification names, if it names one: the SDK's span is part of its trace.
    """
    alone = None
    with _start_guard, sender:
        if hook.should_record() and not trace.get_current_span().get_span_context().is_valid:
            alone = Request(method, None, SpanKind.SERVER)
    token = current_request.set(alone)
    try:
        yield
    finally:
        reset_variable(token, alone, None)


def hold_back_own_span(own: Any) -> object:
    """Return the SDK's function that opens a span, changed to open none for a request that is recorded."""

    @functools.wraps(own)
    def open_request_span(*args: Any, **kwargs: Any) -> object:
        request, attributes = current_request.get(), kwargs.get("attributes") or {}
        if request is None or kwargs.get("kind") is not request.kind or attributes.get(sc.MCP_METHOD) != request.method:
            return own(*args, **kwargs)
        names = (sc.JSONRPC_REQUEST_ID, sc.MCP_PROTOCOL_VERSION)
        request.note({name: str(attributes[name]) for name in names if name in attributes})
        return nullcontext(make_unrecorded_span())

    return open_request_span
