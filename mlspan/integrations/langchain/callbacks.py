"""Callback handler that turns LangChain's runs into operations, for LangChain and LangGraph.

LangChain's configure hook adds the handler to every run, and calls it in the thread and task of the run. A runnable's
code runs in a copy of the context that LangChain makes for it. Its span is made current in that copy alone
(``hook.py``), so that nothing has to be detached.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from opentelemetry.context import get_current

from ..._guard import guard, swallow_error
from ..._shape import get_field, get_nested
from ...hooks.hook import Hook
from ...tracing.operations import semconv as sc
from ...tracing.operations.control_flow import is_control_flow, is_generator_close
from ...tracing.operations.operation import Operation
from ...tracing.operations.records import Chat, Retrieval, Step, Tool
from ...tracing.runtime import get_runtime
from . import langgraph_edges
from . import messages as read
from .interrupts import add_interrupts, mark_interrupted
from .model_facts import read_model_facts
from .runnable_records import apply_caller_ids, make_runnable_record, select_user_metadata, select_user_tags
from .runnable_values import format_document, list_state_keys, simplify_runnable_value
from .runs import langchain_runs, make_run_key, observe_model_answer

HIDDEN_TAG: Final = "langsmith:hidden"


_NO_METADATA: Final[Mapping[str, object]] = {}
_start_guard = guard("starting a span")


class CallbackHandler:
    """The methods of LangChain's ``BaseCallbackHandler`` that are used; that class is mixed in once it is imported."""

    run_inline = True  # have asynchronous runs call us in their own thread and task, before their code
    ignore_llm = ignore_chat_model = ignore_chain = ignore_retriever = False  # properties in LangChain's class
    hook: Hook
    now: object = None

    def __copy__(self) -> CallbackHandler:
        return self

    def __deepcopy__(self, _: object) -> CallbackHandler:
        return self

    def on_chain_start(
        self,
        _: object,
        inputs: object,
        *,
        run_id: object,
        parent_run_id: object = None,
        tags: Any = None,
        metadata: Any = None,
        run_type: str | None = None,
        name: str | None = None,
        **_more: object,
    ) -> None:
        try:  # not guard(): this runs for each run, and entering a context manager would cost more
            tags, metadata = tags or (), metadata or _NO_METADATA
            id, parent = make_run_key(run_id), make_run_key(parent_run_id)
            if HIDDEN_TAG in tags and parent is not None:
                langchain_runs.fold_run(id, parent)
                return
            record = make_runnable_record(name or "", run_type, tags, metadata)
            self._start_run(id, parent, record, tags, metadata, inputs, simplify_runnable_value)
        except Exception as error:
            if not swallow_error("starting a span", error):
                raise

    def on_chain_end(self, outputs: object, *, run_id: object, **_: object) -> None:
        id = make_run_key(run_id)
        run = langchain_runs.find_run(id)
        operation = None if run is None else run.operation
        if operation is not None and type(record := operation.record) is Step and record.type == "node":
            record.extra["mlspan.langgraph.state_keys"] = list_state_keys(outputs)
        if run is not None and (waits := run.interrupts) is not None:
            self._end_run(id, operation, outputs, lambda given: add_interrupts(simplify_runnable_value(given), waits))
        else:
            self._end_run(id, operation, outputs, simplify_runnable_value)

    def on_chain_error(self, error: BaseException, *, run_id: object, **_: object) -> None:
        self._fail_run(run_id, error)

    def on_chat_model_start(
        self, serialized: object, messages: Any, *, run_id: object, parent_run_id: object = None, **more: Any
    ) -> None:
        more["serialized"] = serialized
        self._start_model_run(run_id, parent_run_id, more, messages[0], read.read_langchain_messages)

    def on_llm_start(
        self, serialized: object, prompts: Any, *, run_id: object, parent_run_id: Any = None, **more: object
    ) -> None:
        more["serialized"] = serialized
        self._start_model_run(
            run_id, parent_run_id, more, prompts[:1], read.read_langchain_messages, sc.TEXT_COMPLETION
        )

    def on_llm_new_token(self, token: object, *, run_id: object, chunk: object = None, **_: object) -> None:
        id = make_run_key(run_id)
        if (run := langchain_runs.find_run(id)) is not None:
            run.tells_tokens = True
            if (usage := get_field(get_field(chunk, "message"), "usage_metadata")) is not None:
                run.note_usage(usage)
        self._read_piece(id, token)

    def on_stream_event(self, event: object, *, run_id: object, **_: object) -> None:
        """Read an event of a model's stream of version 3; the same text may have come as tokens already."""
        id = make_run_key(run_id)
        run = langchain_runs.find_run(id)
        self._read_piece(id, None if run is None or run.tells_tokens else get_nested(event, "delta.text", str))

    def _read_piece(self, id: object, text: object) -> None:
        """Read a piece of a streamed answer, and leave the run: what runs next is the caller's code."""
        operation = langchain_runs.find_operation(id)
        if operation is not None:
            if isinstance(record := operation.record, Chat):
                if record.time_to_first_chunk is None:
                    operation.note_first_chunk()
                    record.stream = True
                else:
                    operation.note_chunk()
                if isinstance(text, str):  # what is left of the answer if the run is never reported to have ended
                    record.draft.get_choice().add_text(text)
            langchain_runs.leave_run(id)

    def on_llm_end(self, response: object, *, run_id: object, **_: object) -> None:
        id = make_run_key(run_id)
        observe_model_answer(id, response)
        self._end_run(id, langchain_runs.find_own_operation(id))

    def on_llm_error(self, error: BaseException, *, run_id: object, response: object = None, **_: object) -> None:
        if response is not None:
            observe_model_answer(make_run_key(run_id), read.FailedResult(response))
        self._fail_run(run_id, error)

    def on_tool_start(
        self, serialized: object, input_str: str, *, run_id: object, parent_run_id: object = None, **more: Any
    ) -> None:
        with _start_guard:
            record = Tool(
                name=more.get("name") or get_nested(serialized, "name", str) or "tool",
                type="function",
                description=get_nested(serialized, "description", str),
                call_id=more.get("tool_call_id"),
            )
            asked = more.get("inputs")
            tags, metadata = more.get("tags") or (), more.get("metadata") or {}
            value = input_str if asked is None else asked
            self._start_run(
                make_run_key(run_id),
                make_run_key(parent_run_id),
                record,
                tags,
                metadata,
                value,
                simplify_runnable_value,
            )

    def on_tool_end(self, output: object, *, run_id: object, **_: object) -> None:
        id = make_run_key(run_id)
        operation = langchain_runs.find_operation(id)
        if operation is not None and isinstance(operation.record, Tool):
            operation.record.call_id = operation.record.call_id or get_nested(output, "tool_call_id", str)
            if get_nested(output, "status", str) == "error":
                operation.record.failure = (sc.ERROR_OTHER, str(getattr(output, "content", "")))
        self._end_run(
            id, langchain_runs.find_own_operation(id), getattr(output, "content", output), simplify_runnable_value
        )

    def on_tool_error(self, error: BaseException, *, run_id: object, **_: object) -> None:
        self._fail_run(run_id, error)

    def on_retriever_start(
        self, serialized: object, query: str, *, run_id: Any, parent_run_id: Any = None, **more: Any
    ) -> None:
        with _start_guard:
            metadata = more.get("metadata") or {}
            source = metadata.get("ls_vector_store_provider") or more.get("name") or get_nested(serialized, "name", str)
            record = Retrieval(source=source)
            id = make_run_key(run_id)
            self._start_run(
                id,
                make_run_key(parent_run_id),
                record,
                more.get("tags") or (),
                metadata,
                query,
                simplify_runnable_value,
            )
            langchain_runs.enter_run(id)

    def on_retriever_end(self, documents: object, *, run_id: object, **_: object) -> None:
        id = make_run_key(run_id)
        self._end_run(
            id,
            langchain_runs.find_own_operation(id),
            documents,
            lambda found: [format_document(one) for one in found],
        )

    def on_retriever_error(self, error: BaseException, *, run_id: object, **_: object) -> None:
        self._fail_run(run_id, error)

    def _start_model_run(
        self,
        run_id: object,
        parent: object,
        more: Mapping[str, Any],
        value: object,
        convert: Callable[[Any], object],
        operation_name: str | None = None,
    ) -> None:
        """Start the operation of a call to a model, and make its span current.

        Args:
            run_id: the run's id.
            parent: the id of the run above it.
            more: LangChain's further arguments: metadata, tags, parameters of the request.
            value: the messages or prompts.
            convert: turns them into the messages of the record.
            operation_name: the operation's name, if it is not chat.
        """
        with _start_guard:
            metadata, now = more.get("metadata") or {}, get_runtime()
            capture_content = now is not None and now.policy.capture
            record = read.make_chat_record(
                metadata, more.get("invocation_params") or {}, capture_content=capture_content
            )
            read_model_facts(record, more)
            record.operation, record.name = operation_name or record.operation, more.get("name")
            tags = more.get("tags") or ()
            id = make_run_key(run_id)
            self._start_run(id, make_run_key(parent), record, tags, metadata, value, convert, read.observe_llm_result)
            if more.get("batch_size") in {None, 1}:  # the runs of several prompts are entered by ``model_runs.py``
                langchain_runs.enter_run(id)

    def _start_run(
        self,
        id: object,
        parent: object,
        record: Any,
        tags: Sequence[str],
        metadata: Mapping[str, object],
        value: object,
        convert: Callable[[object], object],
        observe: Any = None,
    ) -> None:
        """Start the operation of a run, unless it is not to be recorded.

        Args:
            id: the run's key.
            parent: the key of the run above it.
            record: what is known of the run.
            tags: the run's tags; those of the user are recorded.
            metadata: the run's metadata; those of the user are recorded.
            value: the run's input.
            convert: turns the input into what is recorded.
            observe: reads the run's result into the record.
        """
        around = get_current()
        if not self.hook.should_record(around):
            return
        if tags and (own := select_user_tags(tuple(tags))):
            record.extra["mlspan.langchain.tags"] = [*own]
        if metadata:
            for key in select_user_metadata(tuple(metadata)):
                if isinstance(entry := metadata[key], (str, bool, int, float)):
                    record.extra[f"mlspan.langchain.metadata.{key}"] = entry
            apply_caller_ids(record, metadata)
        now = get_runtime()
        if now is not None and now.policy.capture:
            record.input = convert(value)
        if (operation := langchain_runs.start_operation(id, record, observe, parent=parent, around=around)) is not None:
            langgraph_edges.link_node_run(parent, operation, metadata)

    def _end_run(
        self,
        id: object,
        operation: Operation | None,
        value: object = None,
        convert: Callable[[Any], object] | None = None,
    ) -> None:
        """End the operation of a run, if it has one of its own, after recording its output.

        Args:
            id: the run's key.
            operation: the run's operation.
            value: the run's output.
            convert: turns the output into what is recorded; None if the record has its output already.
        """
        try:  # not guard(), as above
            now = get_runtime()
            if convert is not None and operation is not None and now is not None and now.policy.capture:
                operation.record.output = convert(value)  # type: ignore[attr-defined]  # all records but a model call's have one
        except Exception as error:
            if not swallow_error("ending a span", error):
                raise
        langchain_runs.end_operation(id)

    def _fail_run(self, run_id: object, error: BaseException) -> None:
        """End the operation of a run that has raised; exceptions that steer the program are no failure.

        A root that fails ends the runs that it leaves open, as LangChain reports no end for them. A run that LangChain
        cancels because its events are read no further is a stream that was left early.
        """
        id = make_run_key(run_id)
        run = langchain_runs.find_run(id)
        if is_control_flow(error) and not is_generator_close(error):
            mark_interrupted(id, error)
            if run is not None:
                self._end_run(id, run.operation, run.interrupts, lambda waits: add_interrupts(None, waits))
            return
        cancelled = error if isinstance(error, asyncio.CancelledError) else None
        if cancelled is not None and (is_generator_close(error) or (run is not None and run.is_left_by_reader())):
            cancelled = None
        if run is None or run.parent is None:
            for other in langchain_runs.list_runs_below(id):
                langchain_runs.end_operation(other, cancelled, stream_end=None if cancelled else "abandoned")
        if isinstance(error, asyncio.CancelledError) and cancelled is None:
            langchain_runs.end_operation(id, stream_end="closed")
        else:
            langchain_runs.end_operation(id, error)
