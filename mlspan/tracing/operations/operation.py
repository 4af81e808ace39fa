"""Operations: one call in flight, with its record and its span. An operation is finished once and never raises."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from contextvars import Token
from itertools import chain
from time import perf_counter
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final
from weakref import ref

from opentelemetry import context as otel
from opentelemetry.trace import Span, Status, StatusCode

from ..._guard import guard, let_handler_through, swallow_error
from ..otel.compat import find_span_limits
from ..otel.fast_span import SPAN_KEY, SamplingDecision, backdate_span
from . import semconv as sc
from .call_context import (
    EMPTY_CONTEXT,
    EMPTY_SCOPE,
    build_scope_attributes,
    detach_context,
    get_call_scope,
    reset_variable,
    use_context,
)
from .content import to_attribute
from .control_flow import is_control_flow, is_generator_close
from .exceptions import get_error_type, write_exception
from .links import link_span
from .metrics import Measurement
from .raw_response import BodyBuffer, RawResponse, find_proxy_class, get_cached_body
from .records import HIDE_CHUNK, Agent, Chat, ModelCall, Observe, Record
from .response_proxy import StreamEnd

if TYPE_CHECKING:
    from ..configured_runtime import Runtime

# Operations that are open although their call has returned, by id().
handed_over_operations: Final[dict[int, ref[Operation]]] = {}
operation_sources: Final[list[Callable[[], Iterable[Operation]]]] = []  # each lists more such operations
_NO_MARKS: Mapping[str, object] = {}
# Key of the operation of the framework's model call that a context is inside.
_OUTER_CALL_KEY = otel.create_key("mlspan-outer-call")
_AGENT_KEY = otel.create_key("mlspan-agent")  # likewise, of the record of the agent's turn


def start_operation(
    runtime: Runtime,
    record: Record,
    observe: Observe[Any] | None = None,
    *,
    sampling: SamplingDecision | None = None,
    marks: Mapping[str, object] = _NO_MARKS,
) -> Operation:
    """Start the operation of *record*.

    A request made inside a framework's call to a model is part of that call: it becomes an inner call, without a span.

    Args:
        runtime: the runtime that records it.
        record: the facts known at the start.
        observe: reads the answer, or each chunk of it, into the record.
        sampling: the sampling decision, if it was made already. Default: decided here, below the caller's current span.
        marks: values that the operation's context holds besides the span, by context key.
    """
    if sampling is None:
        sampling = runtime.get_span_starter().decide_sampling(otel.get_current())
    if isinstance(record, ModelCall):
        outer_call = sampling.around.get(_OUTER_CALL_KEY)
        if isinstance(outer_call, Operation) and outer_call.accepts_inner_call(record):
            return InnerCall(outer_call, runtime, record, observe)
    return Operation(runtime, record, observe, sampling, marks)


class Operation:
    """One call that is being recorded.

    Use it as a context manager around the caller's function, or call :meth:`finish`. The span starts when the object is
    made and is current inside the ``with`` block.
    """

    __slots__ = (
        "__weakref__",
        "_awaited",
        "_awaits_first_chunk",
        "_body_buffer",
        "_chunk_times",
        "_duration",
        "_ended",
        "_finish_lock",
        "_handed_over",
        "_inner_calls",
        "_observe",
        "_runtime",
        "_start_values",
        "_started",
        "_token",
        "context",
        "record",
        "span",
    )

    def __init__(
        self,
        runtime: Runtime,
        record: Record,
        observe: Observe[Any] | None,
        sampling: SamplingDecision,
        marks: Mapping[str, object],
    ) -> None:
        self._init_operation(runtime, record, observe)
        self._start_values = record.read_start_values(record)
        attributes = record.build_start_attributes()
        if get_call_scope() is not EMPTY_SCOPE:
            attributes |= build_scope_attributes()
        self.span: Span = sampling.start_span(record.span_name, record.kind, attributes)
        context_values: dict[str, object] = {**sampling.around, SPAN_KEY: self.span, **marks}
        if isinstance(record, ModelCall):
            if record.outer:
                context_values[_OUTER_CALL_KEY] = self
        elif isinstance(record, Agent):
            outer = sampling.around.get(_AGENT_KEY)
            record.outer_agent = outer if isinstance(outer, Agent) else None
            record.adds_usage = runtime.config.agent_usage
            context_values[_AGENT_KEY] = record
        self.context = otel.Context(context_values)

    def _init_operation(self, runtime: Runtime, record: Record, observe: Observe[Any] | None) -> None:
        """Set the fields that operations and inner calls share."""
        self.record, self._observe, self._runtime = record, observe, runtime
        self._handed_over = self._awaits_first_chunk = self._awaited = False
        self._inner_calls: list[InnerCall] | None = None
        self._body_buffer: BodyBuffer | None = None
        self._chunk_times: list[float] | None = None  # when chunks came, where somebody measures that
        self._ended: int | None = None  # when the call was over, if that is known to be before finish()
        self._finish_lock = threading.Lock()  # the first to finish takes it and never releases it
        self._started = perf_counter()

    def __enter__(self) -> Operation:
        self._token = otel.attach(self.context)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if type(self._token) is Token:
            reset_variable(self._token, self.context, EMPTY_CONTEXT)
        else:
            detach_context(self._token, self.context)
        if error is not None or not self._handed_over:
            self.finish(error)

    def use_span(self) -> AbstractContextManager[None]:
        """Make the span current inside the block, whose end does not end the span."""
        return use_context(self.context)

    def set_times(self, started: int, ended: int) -> None:
        """Set when a call was made and when it was over, in nanoseconds since the epoch, if both are known by now."""
        backdate_span(self.span, started)
        self._ended, self._duration = ended, (ended - started) / 1e9

    def record_result(self, value: object, *, awaited: bool = False) -> object:
        """Record the answer *value* and return it.

        A stream or an unread response is returned as a proxy, which finishes the operation when it ends. What looks
        like both kinds of stream, as other libraries' proxies do, is of the kind of the call: *awaited* or not. So is
        what is read from a raw response later.
        """
        self._awaited = awaited = awaited or self._awaited
        proxy_class = find_proxy_class(type(value), awaited)  # type: ignore[arg-type]  # mypy: type[Any] is not hashable
        if proxy_class is None:
            self.observe(value)
            return value
        if proxy_class is RawResponse and (body := get_cached_body(value)) is not None:
            self.get_body_buffer().add_piece(body)
            return value
        self.hand_over()
        return proxy_class(value, self)

    def hand_over(self) -> None:
        """Keep the operation open after the ``with`` block: somebody else will call :meth:`finish`.

        The end of the process will, at the latest.
        """
        self._handed_over = self._awaits_first_chunk = True
        handed_over_operations[id(self)] = ref(self)

    def note_first_chunk(self) -> None:
        """Record the time to the first chunk of a streamed answer, in seconds, on the first call."""
        self._awaits_first_chunk = False
        if isinstance(self.record, Chat) and self.record.time_to_first_chunk is None:
            now = perf_counter()
            self.record.time_to_first_chunk = now - self._started
            if self._runtime.instruments.has_meter_provider():
                self._chunk_times = [now]

    def note_chunk(self) -> None:
        """Note that another chunk of a streamed answer has come, for the metric of the time between chunks."""
        if self._chunk_times is not None:
            self._chunk_times.append(perf_counter())

    def observe(self, value: object) -> bool:
        """Read an answer, or a chunk of one, into the record. Return False if the caller may not see the chunk."""
        if self._awaits_first_chunk:
            self.note_first_chunk()
        elif self._chunk_times is not None:
            self.note_chunk()
        if (observe := self._observe) is None:
            return True
        try:  # not guard(): there are many chunks, and a context manager costs more
            return observe(self.record, value) is not HIDE_CHUNK
        except Exception as error:
            if not swallow_error("reading an answer", error):
                raise
            return True

    @property
    def captures_content(self) -> bool:
        """Return whether messages and other content are recorded."""
        return self._runtime.policy.capture

    @property
    def hides_chunks(self) -> bool:
        """Return whether :meth:`observe` may hide chunks of the answer from the caller."""
        return hasattr(self._observe, "hides_chunks")

    def get_body_buffer(self) -> BodyBuffer:
        """Return the buffer for an answer that the caller reads as text or bytes. It is decoded once, at the end."""
        if self._body_buffer is None:
            self._body_buffer = BodyBuffer()
        return self._body_buffer

    def finish(
        self, error: BaseException | None = None, *, stream_end: StreamEnd | None = None, collecting: bool = False
    ) -> None:
        """End the operation and its span on the first call; later calls do nothing.

        Args:
            error: the exception that ended the call.
            stream_end: how a stream was left early, ``closed`` or ``abandoned``.
            collecting: True in a finalizer, which may not take the SDK's locks.
        """
        if not self._finish_lock.acquire(False):  # a keyword argument would take twice as long
            return
        if self._handed_over:
            handed_over_operations.pop(id(self), None)
        runtime, error_type, ended = self._runtime, None, self._ended
        seconds = perf_counter() - self._started if ended is None else self._duration
        try:  # not guard(): this runs for each call
            events = runtime.events
            if events is not None and not self.span.is_recording():  # asked before it ends
                events = None
            try:
                if error is not None:
                    error, error_type, stream_end = self._read_error(error, stream_end)
                self._complete_record(error, stream_end)
            finally:
                try:
                    self._write_span(error, error_type)
                finally:
                    self.span.end(ended)
            if (agent := self.context.get(_AGENT_KEY)) is not None:
                agent.note_call(self.record)  # type: ignore[attr-defined]  # nobody else knows the key
            if events is not None and isinstance(self.record, Chat):
                events.emit_details(self.record, self.context, error_type, collecting=collecting)
            if self.record.duration_metric is not None and runtime.instruments.has_meter_provider():
                error_type = error_type or (self.record.failure and self.record.failure[0]) or None
                measured = Measurement(self.record, seconds, error_type, self._chunk_times or ())
                runtime.instruments.record_call(measured, collecting=collecting)
        except Exception as internal_error:
            if not swallow_error("ending a span", internal_error):
                raise

    def _read_error(
        self, error: BaseException, stream_end: StreamEnd | None
    ) -> tuple[BaseException | None, str | None, StreamEnd | None]:
        """Return *error*, None if it is no failure, its type, and how the stream was left. It reads foreign classes."""
        try:
            if not is_control_flow(error):
                return error, get_error_type(error), stream_end
            if self._handed_over or is_generator_close(error):  # such as the close of the generator around a stream
                stream_end = stream_end or "closed"
        except Exception as internal_error:
            if not swallow_error("reading an exception", internal_error):
                raise
            return error, sc.ERROR_OTHER, stream_end
        return None, None, stream_end

    def accepts_inner_call(self, record: ModelCall) -> bool:
        """Return whether *record* is a request of this very call, rather than another call made inside it."""
        own = self.record
        if not isinstance(record, type(own)) or self._finish_lock.locked():
            return False
        return own.takes_many or all(inner_call.failed for inner_call in self._inner_calls or ())  # type: ignore[attr-defined]  # an outer call is one to a model

    def _complete_record(self, error: BaseException | None, stream_end: StreamEnd | None) -> None:
        """Complete the record: decode a raw body, note how the stream ended, and merge the inner calls."""
        record = self.record
        if self._observe is not None:
            if self._body_buffer is not None:
                for chunk in self._body_buffer.decode_values():
                    self._observe(record, chunk)
            if isinstance(error, Exception) and hasattr(self._observe, "sees_errors"):
                self._observe(record, error)
        if stream_end is not None:
            record.stream_end = stream_end
        record.complete_fields()
        if self._inner_calls is not None and isinstance(record, ModelCall):
            for inner_call in self._inner_calls:
                inner_call.finish(stream_end=stream_end)
                self._chunk_times = self._chunk_times or inner_call._chunk_times
            record.merge_inner_calls([inner_call.record for inner_call in self._inner_calls])

    def _write_span(self, error: BaseException | None, error_type: str | None) -> None:
        """Write the links, attributes and status of the record to the span."""
        record, policy, span = self.record, self._runtime.policy, self.span
        if record.can_link:
            link_span(span, record)
        if not span.is_recording():
            return
        if error is not None:
            write_exception(span, policy, error, error_type or sc.ERROR_OTHER)
        elif record.failure is not None:
            kind, message = record.failure
            span.set_attribute(sc.ERROR_TYPE, kind)
            span.set_status(Status(StatusCode.ERROR, policy.describe_error(kind, message)))
        content, others = record.build_end_attributes()
        limits = find_span_limits(span)
        said: dict[str, Any] = {}
        try:
            if policy.on_spans:
                if content:
                    self._write_content(content, said, getattr(limits, "max_span_attribute_length", None))
            elif policy.capture and "extra" in vars(record):
                others = {name: it for name, it in others.items() if not name.startswith(sc.PROMPT_VARIABLE_PREFIX)}
        finally:  # content comes first: where SpanLimits count attributes, the oldest are the ones to go
            said.update(others)
            most = getattr(limits, "max_span_attributes", None)
            changed = record.read_start_values(record) != self._start_values
            is_told_anew = changed or (most is not None and most < _MAX_RECORD_ATTRIBUTES)
            if is_told_anew:
                said.update(record.build_start_attributes())
            try:
                span.set_attributes(said)
            except Exception as raised:  # noqa: BLE001  # a value of the application's, such as a list that contains itself
                let_handler_through(raised)
                _set_one_by_one(span, said)
            if is_told_anew:
                span.update_name(record.span_name)

    def _write_content(self, content: dict[str, object], said: dict[str, object], longest: int | None) -> None:
        """Write each attribute by itself: one that cannot be written takes no other along."""
        policy = self._runtime.policy if longest is None else self._runtime.policy.limit_to(longest)
        wrong: Exception | None = None
        for name, value in content.items():
            try:
                is_text = issubclass(type(value), str)
                said[name] = policy.render_string(value) if is_text else policy.render_json(value)
            except Exception as error:  # noqa: BLE001  # raised below, if it may be
                if not swallow_error("writing content", error):
                    wrong = error
        if wrong is not None:
            raise wrong


def _set_one_by_one(span: Span, said: dict[str, Any]) -> None:
    """Write each of *said* by itself, the odd ones as what an attribute may hold, as the SDK fails at one of them."""
    for name, value in said.items():
        span.set_attribute(name, to_attribute(value))


class InnerCall(Operation):
    """A client's request inside a framework's call to a model: a record without a span, which the outer call merges."""

    __slots__ = ("failed",)
    record: ModelCall

    def __init__(
        self, outer_call: Operation, runtime: Runtime, record: ModelCall, observe: Observe[Any] | None
    ) -> None:
        self._init_operation(runtime, record, observe)
        self.failed = False
        self.span = outer_call.span
        self.context = otel.set_value(_OUTER_CALL_KEY, self)
        outer_call._inner_calls = [*(outer_call._inner_calls or ()), self]

    def finish(
        self,
        error: BaseException | None = None,
        *,
        stream_end: StreamEnd | None = None,
        collecting: bool = False,  # noqa: ARG002  # only an outer call writes
    ) -> None:
        """Complete the record, on the first call; the outer call merges it when it finishes."""
        if not self._finish_lock.acquire(False):  # a keyword argument would take twice as long
            return
        if self._handed_over:
            handed_over_operations.pop(id(self), None)
        self.failed = error is not None
        with guard("reading an answer"):
            self.failed = error is not None and not is_control_flow(error)
            self._complete_record(error, stream_end)


_MAX_RECORD_ATTRIBUTES = 64  # more attributes than any record of ours has


def finish_abandoned_operations() -> None:
    """Finish the operations that abandoned streams and registries still hold open, at shutdown."""
    handed_over = [
        operation for reference in list(handed_over_operations.values()) if (operation := reference()) is not None
    ]
    others = chain.from_iterable(map(list, (source() for source in list(operation_sources))))
    for operation in [*handed_over, *others]:
        operation.finish(stream_end="abandoned")
