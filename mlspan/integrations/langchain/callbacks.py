"""Callback handler that turns LangChain's runs into operations, for LangChain and LangGraph.

LangChain's configure hook adds the handler to every run, and calls it in the thread and task of the run. A runnable's
code runs in a copy of the context that LangChain makes for it. Its span is made current in that copy alone
(``_langchain_hook.py``), so that nothing has to be detached.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final

from opentelemetry.context import get_current

from ..._guard import guard, swallow
from ..._shape import dig
from ...hooks.hook import Hook
from ...tracing.operations import semconv as sc
from ...tracing.operations.operation import Live
from ...tracing.operations.records import Agent, Chat, Record, Retrieval, Step, Tool, Workflow
from ...tracing.runtime import runtime
from . import graphs
from . import messages as read
from .graphs import edges, ledger, number

parents: Final[dict[Any, Any]] = {}  # open run -> the run above it
HIDDEN: Final = "langsmith:hidden"
_OWN_TAGS: Final = ("seq:step:", "graph:step:", "map:key:", "branch:", "condition:", "retry:", "langsmith:")
_OWN_METADATA: Final = (
    "langgraph_",
    "ls_",
    "lc_",
    "checkpoint",
    "thread_id",
    "run_id",
    "run_attempt",
    "assistant_id",
    "graph_id",
)


_NONE: Final[Mapping[str, Any]] = {}
_starting = guard("starting a span")


class Handler:
    """The methods of LangChain's ``BaseCallbackHandler`` that are used; that class is mixed in once it is imported."""

    run_inline = True  # have asynchronous runs call us in their own thread and task, before their code
    ignore_llm = ignore_chat_model = ignore_chain = ignore_retriever = False  # properties in LangChain's class
    hook: Hook
    now: Any = None

    def __copy__(self) -> Handler:
        return self

    def __deepcopy__(self, _: Any) -> Handler:
        return self

    def on_chain_start(
        self,
        _: Any,
        inputs: Any,
        *,
        run_id: Any,
        parent_run_id: Any = None,
        tags: Any = None,
        metadata: Any = None,
        run_type: str | None = None,
        name: str | None = None,
        **_more: Any,
    ) -> None:
        try:  # not guard(): this runs for each run, and entering a context manager would cost more
            tags, metadata = tags or (), metadata or _NONE
            id, parent = number(run_id), number(parent_run_id)
            if HIDDEN in tags and parent is not None:
                ledger.fold(id, parent)
                parents[id] = parent
                return
            record = _runnable(name or "", run_type, tags, metadata)
            self._open(id, parent, record, tags, metadata, inputs, read.plain)
        except Exception as error:
            if not swallow("starting a span", error):
                raise

    def on_chain_end(self, outputs: Any, *, run_id: Any, **_: Any) -> None:
        id = number(run_id)
        operation = ledger.own(id)
        if operation is not None and type(record := operation.record) is Step and record.type == "node":
            record.extra["mlspan.langgraph.state_keys"] = read.state_keys(outputs)
        if _waits and (waits := _waits.pop(id, None)) is not None:
            self._close(id, operation, outputs, lambda given: _waiting(read.plain(given), waits))
        else:
            self._close(id, operation, outputs, read.plain)

    def on_chain_error(self, error: BaseException, *, run_id: Any, **_: Any) -> None:
        self._fail(run_id, error)

    def on_chat_model_start(
        self, _: Any, messages: Any, *, run_id: Any, parent_run_id: Any = None, **more: Any
    ) -> None:
        self._model(run_id, parent_run_id, more, messages[0], read.messages)

    def on_llm_start(self, _: Any, prompts: Any, *, run_id: Any, parent_run_id: Any = None, **more: Any) -> None:
        self._model(run_id, parent_run_id, more, prompts[:1], read.messages, sc.TEXT_COMPLETION)

    def on_llm_new_token(self, token: Any, *, run_id: Any, **_: Any) -> None:  # noqa: ARG002  # passed by name
        id = number(run_id)
        operation = ledger.get(id)
        if operation is not None:
            if isinstance(operation.record, Chat) and operation.record.time_to_first_chunk is None:
                operation.first_chunk()
                operation.record.stream = True
            ledger.leave(id)  # the request has been made, and the code that runs next is the caller's

    def on_llm_end(self, response: Any, *, run_id: Any, **_: Any) -> None:
        id = number(run_id)
        ledger.observe(id, response)
        self._close(id, ledger.own(id))

    def on_llm_error(self, error: BaseException, *, run_id: Any, response: Any = None, **_: Any) -> None:
        if response is not None:
            ledger.observe(number(run_id), response)
        self._fail(run_id, error)

    def on_tool_start(
        self, serialized: Any, input_str: str, *, run_id: Any, parent_run_id: Any = None, **more: Any
    ) -> None:
        with _starting:
            record = Tool(
                name=more.get("name") or dig(serialized, "name", str) or "tool",
                type="function",
                description=dig(serialized, "description", str),
                call_id=more.get("tool_call_id"),
            )
            asked = more.get("inputs")
            tags, metadata = more.get("tags") or (), more.get("metadata") or {}
            value = input_str if asked is None else asked
            self._open(number(run_id), number(parent_run_id), record, tags, metadata, value, read.plain)

    def on_tool_end(self, output: Any, *, run_id: Any, **_: Any) -> None:
        id = number(run_id)
        operation = ledger.get(id)
        if operation is not None and isinstance(operation.record, Tool):
            operation.record.call_id = operation.record.call_id or dig(output, "tool_call_id", str)
            if dig(output, "status", str) == "error":
                operation.record.failure = ("_OTHER", str(getattr(output, "content", "")))
        self._close(id, ledger.own(id), getattr(output, "content", output), read.plain)

    def on_tool_error(self, error: BaseException, *, run_id: Any, **_: Any) -> None:
        self._fail(run_id, error)

    def on_retriever_start(
        self, serialized: Any, query: str, *, run_id: Any, parent_run_id: Any = None, **more: Any
    ) -> None:
        with _starting:
            metadata = more.get("metadata") or {}
            source = metadata.get("ls_vector_store_provider") or more.get("name") or dig(serialized, "name", str)
            record = Retrieval(source=source)
            id = number(run_id)
            self._open(id, number(parent_run_id), record, more.get("tags") or (), metadata, query, read.plain)
            ledger.enter(id)

    def on_retriever_end(self, documents: Any, *, run_id: Any, **_: Any) -> None:
        id = number(run_id)
        self._close(id, ledger.own(id), documents, lambda found: [read.document(one) for one in found])

    def on_retriever_error(self, error: BaseException, *, run_id: Any, **_: Any) -> None:
        self._fail(run_id, error)

    def _model(
        self,
        run_id: Any,
        parent: Any,
        more: Mapping[str, Any],
        value: Any,
        convert: Callable[[Any], Any],
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
        with _starting:
            metadata, now = more.get("metadata") or {}, runtime()
            capture_content = now is not None and now.policy.capture
            record = read.chat(metadata, more.get("invocation_params") or {}, capture_content=capture_content)
            record.operation = operation_name or record.operation
            tags = more.get("tags") or ()
            id = number(run_id)
            self._open(id, number(parent), record, tags, metadata, value, convert, read.observe)
            ledger.enter(id)

    def _open(
        self,
        id: Any,
        parent: Any,
        record: Any,
        tags: Sequence[str],
        metadata: Mapping[str, Any],
        value: Any,
        convert: Callable[[Any], Any],
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
        if not self.hook.records(around):
            return
        if tags and (own := _users_tags(tuple(tags))):
            record.extra["mlspan.langchain.tags"] = [*own]
        if metadata:
            for key in _users(tuple(metadata)):
                if isinstance(entry := metadata[key], (str, bool, int, float)):
                    record.extra[f"mlspan.langchain.metadata.{key}"] = entry
        now = runtime()
        if now is not None and now.policy.capture:
            record.input = convert(value)
        if (operation := ledger.start(id, record, observe, parent=parent, around=around)) is not None:
            parents[id] = parent
            graphs.started(parent, operation, metadata)

    def _close(
        self, id: Any, operation: Live | None, value: Any = None, convert: Callable[[Any], Any] | None = None
    ) -> None:
        """End the operation of a run, if it has one of its own, after recording its output.

        Args:
            id: the run's key.
            operation: the run's operation.
            value: the run's output.
            convert: turns the output into what is recorded; None if the record has its output already.
        """
        try:  # not guard(), as above
            now = runtime()
            if convert is not None and operation is not None and now is not None and now.policy.capture:
                operation.record.output = convert(value)  # type: ignore[attr-defined]  # all records but a model call's have one
        except Exception as error:
            if not swallow("ending a span", error):
                raise
        parents.pop(id, None)
        if edges:
            edges.pop(id, None)
        ledger.end(id)

    def _fail(self, run_id: Any, error: BaseException) -> None:
        """End the operation of a run that has raised; LangGraph's control exceptions are no failure.

        A root that fails ends the runs that it leaves open, as LangChain reports no end for them.
        """
        id = number(run_id)
        if any(cls.__name__ == "GraphBubbleUp" for cls in type(error).__mro__):  # LangGraph's control flow
            if any(cls.__name__ == "GraphInterrupt" for cls in type(error).__mro__):
                self._interrupt(id, error)
            self._close(id, ledger.own(id), _waits.pop(id, None), lambda waits: _waiting(None, waits))
            return
        if parents.pop(id, None) is None:
            for other in [one for one in list(parents) if _root(one) == id]:
                parents.pop(other, None)
                cancelled = error if isinstance(error, asyncio.CancelledError) else None
                ledger.end(other, cancelled, stream_end=None if cancelled else "abandoned")
        _waits.pop(id, None)
        edges.pop(id, None)
        ledger.end(id, error)

    def _interrupt(self, id: Any, error: BaseException) -> None:
        """Mark a run and all runs above it as interrupted, and keep the values that the interrupt asks for."""
        waits = [getattr(one, "value", one) for one in (error.args[0] if error.args else ())]
        above = id
        while above is not None:
            operation = ledger.get(above)
            if operation is not None:
                operation.record.extra["mlspan.interrupted"] = True
                _waits[above] = read.plain(waits)
            above = parents.get(above)


_waits: Final[dict[Any, Any]] = {}  # open run -> the values that an interrupt inside of it asks for


@lru_cache(maxsize=1000)
def _users_tags(tags: tuple[str, ...]) -> tuple[str, ...]:
    """Return the tags that neither LangChain nor LangGraph has added."""
    return tuple(tag for tag in tags if not tag.startswith(_OWN_TAGS))


@lru_cache(maxsize=1000)
def _users(keys: tuple[str, ...]) -> tuple[str, ...]:
    """Return the keys of a run's metadata that neither LangChain nor LangGraph has added."""
    return tuple(key for key in keys if not key.startswith(_OWN_METADATA))


def _waiting(outputs: Any, waits: Any) -> Any:
    """Return a run's outputs with the pending interrupts under ``__interrupt__``, as LangGraph returns them."""
    if waits is None:
        return outputs
    return {**(outputs if isinstance(outputs, dict) else {}), "__interrupt__": waits}


def _root(id: Any) -> Any:
    """Return the topmost open run above *id*, or *id* itself."""
    while (above := parents.get(id)) is not None:
        id = above
    return id


@lru_cache(maxsize=1000)
def _is_node(tags: tuple[str, ...]) -> bool:
    """Return whether a run with these tags is a node of a graph."""
    return any(tag.startswith("graph:step:") for tag in tags)


def _runnable(name: str, run_type: str | None, tags: Sequence[str], metadata: Mapping[str, Any]) -> Record:
    """Return the record of a runnable: a node, an agent or a workflow by its metadata, else a step.

    The metadata are those that LangGraph and LangChain's ``create_agent`` add. *run_type* is the type of a step.
    """
    thread, whose = metadata.get("thread_id"), metadata.get("ls_integration")
    conversation = str(thread) if thread is not None else None
    unnamed = name == "LangGraph"  # the name of a class, in place of which the conventions want none
    if "langgraph_step" in metadata and _is_node(tuple(tags)):
        return Step(type="node", name=name, extra={"mlspan.langgraph.step": metadata.get("langgraph_step")})
    if whose == "langchain_create_agent" and (unnamed or metadata.get("lc_agent_name") == name):
        return Agent(name=None if unnamed else name, conversation=conversation)
    if whose in {"langgraph", "langchain_create_agent"} and (unnamed or "langgraph_node" not in metadata):
        return Workflow(name=None if unnamed else name, conversation=conversation)
    if name == "AgentExecutor":
        return Agent(conversation=conversation)
    return Step(type=run_type or "chain", name=name or "chain")
