"""DSPy's callbacks, as starts and ends of spans.

DSPy calls them in the thread and task of the call, the end in a ``finally``: so a call's span is current while it runs,
and it ends with the exception that was raised, whatever that is.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Hashable, Mapping
from typing import Any, Final

from opentelemetry import context as otel
from opentelemetry.trace import SpanContext

from ..._guard import guard
from ...hooks.hook import Hook
from ...hooks.run_registry import Run, RunRegistry
from ...tracing.feedback_spans import feedback
from ...tracing.operations.call_context import use_context
from ...tracing.operations.operation import Operation
from ...tracing.operations.records import Agent, Chat, NamedRecord, Record, Retrieval, Step, Tool, Workflow
from ...tracing.runtime import get_runtime
from . import models, records

_start_guard: Final = guard("starting a span of DSPy")
_end_guard: Final = guard("ending a span of DSPy")


class DspyRun(Run):
    """A call of DSPy.

    Attributes:
        last_call: of an agent, the span of its last call to a model, which asks for the tool that follows.
        metric: of an evaluation, the name of its metric.
    """

    last_call: SpanContext | None = None
    metric: str | None = None

    def __init__(self, parent: Hashable, operation: Operation | None = None) -> None:
        super().__init__(parent, operation)


dspy_runs: Final = RunRegistry(DspyRun)


class CallbackHandler:
    """The methods of DSPy's ``BaseCallback`` that are used; that class is mixed in once DSPy is imported."""

    hook: Hook

    def on_module_start(self, call_id: str, instance: object, inputs: Mapping[str, object]) -> None:
        def make(*, capture_content: bool) -> Record:
            if type(instance).__name__ == "Retrieve" or hasattr(instance, "input_variable"):
                return records.make_retrieval(instance, inputs, capture_content=capture_content)
            is_root = not _is_inside_module(_get_active_id())
            return records.make_module(instance, inputs, capture_content=capture_content, is_root=is_root)

        self._start_operation(call_id, make)

    def on_module_end(self, call_id: str, outputs: object, exception: BaseException | None = None) -> None:
        self._end_call(call_id, outputs, exception)

    def on_lm_start(self, call_id: str, instance: object, inputs: Mapping[str, object]) -> None:
        def make(*, capture_content: bool) -> Record:
            return models.make_model_call(instance, inputs, capture_content=capture_content)

        self._start_operation(call_id, make)

    def on_lm_end(self, call_id: str, outputs: object, exception: BaseException | None = None) -> None:
        with _end_guard:
            operation = dspy_runs.find_own_operation(call_id)
            if operation is not None and isinstance(chat := operation.record, Chat):
                models.read_outputs(chat, outputs)
                _note_call(call_id, operation)
        _end_traced_call(call_id, exception)

    def on_adapter_format_start(self, call_id: str, instance: object, inputs: Mapping[str, object]) -> None:
        self._start_step(call_id, "prompt", f"{type(instance).__name__}.format", inputs.get("inputs"))

    def on_adapter_format_end(self, call_id: str, outputs: object, exception: BaseException | None = None) -> None:
        self._end_call(call_id, outputs, exception)

    def on_adapter_parse_start(self, call_id: str, instance: object, inputs: Mapping[str, object]) -> None:
        self._start_step(call_id, "parser", f"{type(instance).__name__}.parse", inputs.get("completion"))

    def on_adapter_parse_end(self, call_id: str, outputs: object, exception: BaseException | None = None) -> None:
        self._end_call(call_id, outputs, exception)

    def on_tool_start(self, call_id: str, instance: object, inputs: Mapping[str, object]) -> None:
        def make(*, capture_content: bool) -> Record:
            record = records.make_tool_record(instance, inputs, capture_content=capture_content)
            if (agent := _find_agent(_get_active_id())) is not None:
                record.agent = agent.operation.record.name  # type: ignore[union-attr]
                if agent.last_call is not None:
                    record.add_cause("asked_by", agent.last_call)
            return record

        self._start_operation(call_id, make)

    def on_tool_end(self, call_id: str, outputs: object, exception: BaseException | None = None) -> None:
        self._end_call(call_id, outputs, exception)

    def on_interpreter_execute_start(self, call_id: str, instance: object, inputs: Mapping[str, object]) -> None:
        def make(*, capture_content: bool) -> Record:
            return records.make_interpreter(instance, inputs, capture_content=capture_content)

        self._start_operation(call_id, make)

    def on_interpreter_execute_end(self, call_id: str, outputs: object, exception: BaseException | None = None) -> None:
        self._end_call(call_id, outputs, exception)

    def on_evaluate_start(self, call_id: str, instance: object, inputs: Mapping[str, object]) -> None:
        def make(*, capture_content: bool) -> Record:
            return records.make_evaluation(instance, inputs, capture_content=capture_content)

        self._start_operation(call_id, make)
        if (run := dspy_runs.find_run(call_id)) is not None:
            run.metric = records.name_metric(instance, inputs)

    def on_evaluate_end(self, call_id: str, outputs: object, exception: BaseException | None = None) -> None:
        with _end_guard:
            run = dspy_runs.find_run(call_id)
            operation = None if run is None else run.operation
            if run is not None and operation is not None and isinstance(record := operation.record, NamedRecord):
                score = records.read_scores(record, outputs, capture_content=operation.captures_content)
                if score is not None:
                    with operation.use_span():
                        feedback(run.metric or "metric", score, source="code")
        _end_traced_call(call_id, exception)

    def on_compile_start(self, call_id: str, instance: object, inputs: Mapping[str, object]) -> None:
        def make(*, capture_content: bool) -> Record:
            return records.make_compilation(instance, inputs, capture_content=capture_content)

        self._start_operation(call_id, make)

    def on_compile_end(self, call_id: str, outputs: object, exception: BaseException | None = None) -> None:
        with _end_guard:
            operation = dspy_runs.find_own_operation(call_id)
            if exception is None and operation is not None and isinstance(record := operation.record, NamedRecord):
                records.read_program(record, outputs)
                record.output = record.output if operation.captures_content else None
        _end_traced_call(call_id, exception)

    def _start_step(self, call_id: str, kind: str, name: str, value: object) -> None:
        def make(*, capture_content: bool) -> Record:
            record = Step(type=kind, name=name)
            if capture_content:
                record.input = value
            return record

        self._start_operation(call_id, make)

    def _start_operation(self, call_id: str, make: Callable[..., Record]) -> None:
        """Start the operation of a call below the call that DSPy is inside, and make its span current."""
        with _start_guard:
            if not self.hook.should_record() or (now := get_runtime()) is None:
                return
            record = make(capture_content=now.policy.capture)
            if dspy_runs.start_operation(call_id, record, parent=_get_active_id()) is not None:
                dspy_runs.enter_run(call_id)

    def _end_call(self, call_id: str, outputs: Any, exception: BaseException | None) -> None:
        """End the operation of a call, if it has one."""
        with _end_guard:
            operation = dspy_runs.find_own_operation(call_id)
            if operation is not None and exception is None and operation.captures_content:
                record = operation.record
                if isinstance(record, Retrieval):
                    records.read_passages(record, outputs)
                elif isinstance(record, (NamedRecord, Tool)):
                    record.output = records.to_values(outputs)
        _end_traced_call(call_id, exception)


def _end_traced_call(call_id: str, exception: BaseException | None) -> None:
    """End the operation of a call; a program whose stream is read no further has not failed, whatever it raises."""
    if exception is not None and _has_reader_left():
        dspy_runs.end_operation(call_id, stream_end="closed")
    else:
        dspy_runs.end_operation(call_id, exception)


def _has_reader_left() -> bool:
    """Return whether the program is streamed to a reader who has closed the stream."""
    with _end_guard:
        stream = importlib.import_module("dspy").settings.get("send_stream")
        return stream is not None and stream.statistics().open_receive_streams == 0
    return False


def _get_active_id() -> str | None:
    """Return DSPy's id of the call that the caller is inside; its threads know it as well."""
    active = importlib.import_module("dspy.utils.callback").ACTIVE_CALL_ID.get()
    return active if isinstance(active, str) else None


def _is_inside_module(id: Hashable) -> bool:
    """Return whether the call *id* is a module's or a tool's, or inside of one; an evaluation runs whole programs."""
    run = dspy_runs.find_run(id)
    while run is not None:
        record = None if run.operation is None else run.operation.record
        if isinstance(record, (Agent, Workflow, Tool)) or (isinstance(record, Step) and record.type == "module"):
            return True
        run = dspy_runs.find_run(run.parent)
    return False


def _find_agent(id: Hashable) -> DspyRun | None:
    """Return the run of the innermost agent around the call *id*, which may be that call itself."""
    run = dspy_runs.find_run(id)
    while run is not None:
        if run.operation is not None and isinstance(run.operation.record, Agent):
            return run
        run = dspy_runs.find_run(run.parent)
    return None


def _note_call(call_id: str, operation: Operation) -> None:
    """Note the last call to a model of the agent around it."""
    if (agent := _find_agent(call_id)) is not None:
        agent.last_call = operation.span.get_span_context()


def note_result(args: tuple[object, ...], kwargs: dict[str, object], _result: object) -> None:
    """Read the result of a call to a model, for the call that the caller is inside."""
    result = kwargs["result"] if "result" in kwargs else args[2] if len(args) > 2 else None
    operation = dspy_runs.find_own_operation(dspy_runs.get_current_id())
    if operation is not None and isinstance(chat := operation.record, Chat):
        models.read_model_result(chat, result)


def bind_context(function: Callable[[object], object]) -> Callable[[object], object]:
    """Return *function* for other threads, in which the caller's span is current while it runs."""
    around = otel.get_current()

    def call_inside(item: object) -> object:
        with use_context(around):
            return function(item)

    return call_inside
