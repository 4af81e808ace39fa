"""LangChain's callbacks, told inline, as spans: what the integrations of LangChain and LangGraph share.

One handler is added to every run by LangChain's own configure hook. A runnable's code runs in a copy of the context
that LangChain makes for it; there, and only there, its span is current: nothing has to be detached.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final

from opentelemetry.context import get_current

from .._guard import guard, swallow
from .._shape import dig
from ..tracing import semconv as sc
from ..tracing.live import Live
from ..tracing.records import Agent, Chat, Record, Retrieval, Step, Tool, Workflow
from ..tracing.setup import runtime
from . import _langchain_read as read
from . import _langgraph
from ._hook import Hook
from ._langgraph import edges, ledger, number

parents: Final[dict[Any, Any]] = {}  # run -> the run above it, while it is open
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
    """The methods of a BaseCallbackHandler that we want; LangChain's class is mixed in when it is there."""

    run_inline = True  # in the thread and task of the run, before its code
    ignore_llm = ignore_chat_model = ignore_chain = ignore_retriever = False  # each a property there
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
        try:  # a guard by hand: this is run for each run
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
        live = ledger.own(id)
        if live is not None and type(record := live.record) is Step and record.type == "node":
            record.extra["mlspan.langgraph.state_keys"] = read.state_keys(outputs)
        if _waits and (waits := _waits.pop(id, None)) is not None:
            self._close(id, live, outputs, lambda given: _waiting(read.plain(given), waits))
        else:
            self._close(id, live, outputs, read.plain)

    def on_chain_error(self, error: BaseException, *, run_id: Any, **_: Any) -> None:
        self._fail(run_id, error)

    def on_chat_model_start(
        self, _: Any, messages: Any, *, run_id: Any, parent_run_id: Any = None, **more: Any
    ) -> None:
        self._model(run_id, parent_run_id, more, messages[0], read.messages)

    def on_llm_start(self, _: Any, prompts: Any, *, run_id: Any, parent_run_id: Any = None, **more: Any) -> None:
        self._model(run_id, parent_run_id, more, prompts[:1], read.messages, sc.TEXT_COMPLETION)

    def on_llm_new_token(self, token: Any, *, run_id: Any, **_: Any) -> None:  # noqa: ARG002  # it comes by name
        id = number(run_id)
        live = ledger.get(id)
        if live is not None:
            if isinstance(live.record, Chat) and live.record.time_to_first_chunk is None:
                live.first_chunk()
                live.record.stream = True
            ledger.leave(id)  # the request has been made: what follows is the caller's

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
            said = input_str if asked is None else asked
            self._open(number(run_id), number(parent_run_id), record, tags, metadata, said, read.plain)

    def on_tool_end(self, output: Any, *, run_id: Any, **_: Any) -> None:
        id = number(run_id)
        live = ledger.get(id)
        if live is not None and isinstance(live.record, Tool):
            live.record.call_id = live.record.call_id or dig(output, "tool_call_id", str)
            if dig(output, "status", str) == "error":
                live.record.failure = ("_OTHER", str(getattr(output, "content", "")))
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
        said: Any,
        form: Callable[[Any], Any],
        operation: str | None = None,
    ) -> None:
        with _starting:
            metadata, now = more.get("metadata") or {}, runtime()
            kept = now is not None and now.policy.capture
            record = read.chat(metadata, more.get("invocation_params") or {}, kept=kept)
            record.operation = operation or record.operation
            tags = more.get("tags") or ()
            id = number(run_id)
            self._open(id, number(parent), record, tags, metadata, said, form, read.observe)
            ledger.enter(id)

    def _open(
        self,
        id: Any,
        parent: Any,
        record: Any,
        tags: Sequence[str],
        metadata: Mapping[str, Any],
        said: Any,
        form: Callable[[Any], Any],
        observe: Any = None,
    ) -> None:
        """Start a run's span; what is *said* to it is recorded in the *form* that this gives it."""
        around = get_current()
        if not self.hook.records(around):
            return
        if tags and (own := _users_tags(tuple(tags))):
            record.extra["mlspan.langchain.tags"] = [*own]
        if metadata:
            for key in _users(tuple(metadata)):
                if isinstance(value := metadata[key], (str, bool, int, float)):
                    record.extra[f"mlspan.langchain.metadata.{key}"] = value
        now = runtime()
        if now is not None and now.policy.capture:
            record.input = form(said)
        if (live := ledger.start(id, record, observe, parent=parent, around=around)) is not None:
            parents[id] = parent
            _langgraph.started(parent, live, metadata)

    def _close(self, id: Any, live: Live | None, said: Any = None, form: Callable[[Any], Any] | None = None) -> None:
        """End a run's span, if it has one of its own; what is *said* by it is recorded in that *form*."""
        try:  # likewise
            now = runtime()
            if form is not None and live is not None and now is not None and now.policy.capture:
                live.record.output = form(said)  # type: ignore[attr-defined]  # every record but a model's has one
        except Exception as error:
            if not swallow("ending a span", error):
                raise
        parents.pop(id, None)
        if edges:
            edges.pop(id, None)
        ledger.end(id)

    def _fail(self, run_id: Any, error: BaseException) -> None:
        id = number(run_id)
        if any(cls.__name__ == "GraphBubbleUp" for cls in type(error).__mro__):  # how LangGraph steers: no error
            if any(cls.__name__ == "GraphInterrupt" for cls in type(error).__mro__):
                self._interrupt(id, error)
            self._close(id, ledger.own(id), _waits.pop(id, None), lambda waits: _waiting(None, waits))
            return
        if parents.pop(id, None) is None:  # a root that fails or is left early takes along what it leaves open
            for other in [one for one in list(parents) if _root(one) == id]:
                parents.pop(other, None)
                cancelled = error if isinstance(error, asyncio.CancelledError) else None
                ledger.end(other, cancelled, stream_end=None if cancelled else "abandoned")
        _waits.pop(id, None)
        edges.pop(id, None)
        ledger.end(id, error)

    def _interrupt(self, id: Any, error: BaseException) -> None:
        waits = [getattr(one, "value", one) for one in (error.args[0] if error.args else ())]
        above = id
        while above is not None:
            live = ledger.get(above)
            if live is not None:
                live.record.extra["mlspan.interrupted"] = True
                _waits[above] = read.plain(waits)
            above = parents.get(above)


_waits: Final[dict[Any, Any]] = {}  # run -> what the interrupt inside of it asks, until the run ends


@lru_cache(maxsize=1000)
def _users_tags(tags: tuple[str, ...]) -> tuple[str, ...]:
    """Those that LangChain and LangGraph have not put there."""
    return tuple(tag for tag in tags if not tag.startswith(_OWN_TAGS))


@lru_cache(maxsize=1000)
def _users(keys: tuple[str, ...]) -> tuple[str, ...]:
    """Those of a run's metadata that LangChain and LangGraph have not put there."""
    return tuple(key for key in keys if not key.startswith(_OWN_METADATA))


def _waiting(outputs: Any, waits: Any) -> Any:
    """What a run gives, and what it waits for, as LangGraph tells its caller."""
    if waits is None:
        return outputs
    return {**(outputs if isinstance(outputs, dict) else {}), "__interrupt__": waits}


def _root(id: Any) -> Any:
    while (above := parents.get(id)) is not None:
        id = above
    return id


@lru_cache(maxsize=1000)
def _is_node(tags: tuple[str, ...]) -> bool:
    return any(tag.startswith("graph:step:") for tag in tags)


def _runnable(name: str, run_type: str | None, tags: Sequence[str], metadata: Mapping[str, Any]) -> Record:
    """What a chain is: an agent or graph by what LangGraph says of it, else a step of its own kind."""
    thread, whose = metadata.get("thread_id"), metadata.get("ls_integration")
    conversation = str(thread) if thread is not None else None
    unnamed = name == "LangGraph"  # the name of a class: the conventions want none then
    if "langgraph_step" in metadata and _is_node(tuple(tags)):
        return Step(type="node", name=name, extra={"mlspan.langgraph.step": metadata.get("langgraph_step")})
    if whose == "langchain_create_agent" and (unnamed or metadata.get("lc_agent_name") == name):
        return Agent(name=None if unnamed else name, conversation=conversation)
    if whose in {"langgraph", "langchain_create_agent"} and (unnamed or "langgraph_node" not in metadata):
        return Workflow(name=None if unnamed else name, conversation=conversation)
    if name == "AgentExecutor":
        return Agent(conversation=conversation)
    return Step(type=run_type or "chain", name=name or "chain")
