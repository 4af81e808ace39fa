"""The record of each kind of run that Haystack tells of, and how its tags are read into it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final, NamedTuple

from ..._shape import get_field, get_list, get_nested
from ...hooks.call import BegunCall, Call
from ...tracing.operations.content import to_attribute, to_plain_data
from ...tracing.operations.records import (
    Agent,
    NamedRecord,
    Observe,
    Record,
    Retrieval,
    Step,
    Tool,
    Workflow,
)
from .messages import read_documents, read_last_message, read_question, simplify
from .models import begin_chat, begin_embeddings

_STOP_REASON: Final = "mlspan.stop_reason"
_COMPONENT: Final = "haystack.component.name"
_AGENT_OUTPUTS: Final = frozenset(  # that every agent has; others are the program's own
    {"messages", "last_message", "step_count", "token_usage", "tool_call_counts", "exit_reason", "context_tokens"}
)

Read = Callable[[Any, Mapping[str, Any]], object]  # reads inputs or outputs into a record


class Content(NamedTuple):
    """The value of a content tag, which the content settings apply to."""

    value: object


class Begun(NamedTuple):
    """The record of a run, and the readers of what goes in and of what comes out."""

    record: Record
    read_input: Read
    read_output: Read


def begin_run(call: Call) -> BegunCall:
    """Begin a run that Haystack tells of; the argument is a TracedRun."""
    run = call.args[0]
    begin = _BEGINS.get(str(run.name)) or _begin_step
    begun = begin(run, capture=call.capture_content)
    return begun.record, partial(_observe_tag, begun=begun, capture=call.capture_content)


def _observe_tag(record: Record, tag: tuple[str, object], *, begun: Begun, capture: bool) -> None:
    """Read a tag: inputs and outputs by the kind of run, all else under its own name."""
    key, value = tag
    if isinstance(value, Content):
        part = key.rpartition(".")[2].removesuffix("_data") if key.startswith("haystack.") else ""
        if part in {"input", "output"}:
            given = value.value if isinstance(value.value, Mapping) else {"": value.value}
            (begun.read_input if part == "input" else begun.read_output)(record, given)
        elif capture:
            record.extra[key] = to_attribute(value.value)
    elif key != "haystack.tool.error":
        record.extra[key] = to_attribute(value)
    elif value is True and record.failure is None:
        record.failure = ("tool_error", "")


def _ignore(_record: object, _given: object) -> None:
    pass


def _begin_pipeline(run: Any, *, capture: bool) -> Begun:
    metadata = run.tags.get("haystack.pipeline.metadata")
    record = Workflow(name=get_nested(metadata, "name", str) or "Pipeline")
    if capture:
        record.input = simplify(run.tags.get("haystack.pipeline.input_data"))
    if (snapshot := run.take_snapshot()) is not None:
        record.add_cause("resumes", snapshot)
    return Begun(record, _ignore, partial(_read_plain, field="output") if capture else _ignore)


def _read_plain(record: NamedRecord, given: Mapping[str, object], *, field: str) -> None:
    setattr(record, field, simplify(given[""] if [*given] == [""] else given))


def _begin_agent(run: Any, *, capture: bool) -> Begun:
    name = run.tags.get(_COMPONENT) or get_nested(run.owner, "__component_name__", str)
    record = Agent(name=name)
    if isinstance(model := get_nested(run.owner, "chat_generator.model", object), str):
        record.model = model
    return Begun(record, partial(_read_agent_input, capture=capture), partial(_read_agent_output, capture=capture))


def _read_agent_input(record: Agent, given: Mapping[str, object], *, capture: bool) -> None:
    if capture:
        others = {name: one for name, one in given.items() if name not in {"messages", "streaming_callback"}}
        kept = {name: one for name, one in simplify(others).items() if one is not None}
        asked = read_question(given.get("messages"))
        record.input = {"messages": asked, **kept} if kept else asked


def _read_agent_output(record: Agent, given: Mapping[str, object], *, capture: bool) -> None:
    if reason := get_nested(given, "exit_reason", str):
        record.extra[_STOP_REASON] = reason
    if capture:
        others = simplify({name: one for name, one in given.items() if name not in _AGENT_OUTPUTS})
        last = given.get("last_message") or next(iter(get_list(given, "messages")[-1:]), None)
        record.output = {"last_message": read_last_message(last), **others} if others else read_last_message(last)


def _begin_component(run: Any, *, capture: bool) -> Begun:
    """Begin a run of a component: its kind is told by its class, and by what it puts out."""
    names = [cls.__name__ for cls in type(run.owner).__mro__] if run.owner is not None else []
    kind = str(run.tags.get("haystack.component.type") or "")
    if "Agent" in names or kind == "Agent":
        return _begin_agent(run, capture=capture)
    named = run.tags.get(_COMPONENT)
    if kind.endswith("Generator") and _has_replies(run):
        begun = Begun(*begin_chat(run.owner, kind, capture=capture))
    elif kind.endswith("Embedder"):
        begun = Begun(*begin_embeddings(run.owner, kind, capture=capture))
    elif kind.endswith("Retriever"):
        begun = _begin_retrieval(run, kind, capture=capture)
    else:
        words = {"Ranker": "reranker", "Evaluator": "evaluator"}
        word = next((word for end, word in words.items() if kind.endswith(end)), "component")
        return _make_step(Step(type=word, name=str(named or kind)), capture=capture)
    if named:
        begun.record.extra[_COMPONENT] = named
    return begun


def _has_replies(run: Any) -> bool:
    """Return whether a component puts out replies, as generators of text do; generators of pictures do not."""
    told = run.tags.get("haystack.component.output_spec") or ()
    return "replies" in told or hasattr(get_field(run.owner, "__haystack_output__"), "replies")


def _begin_retrieval(run: Any, kind: str, *, capture: bool) -> Begun:
    record = Retrieval(source=kind, top_k=get_nested(run.owner, "top_k", int))
    if (store := get_field(run.owner, "document_store")) is not None:
        record.extra["mlspan.haystack.document_store"] = type(store).__name__

    def read_input(record: Retrieval, given: Mapping[str, Any]) -> None:
        record.top_k = get_nested(given, "top_k", int) or record.top_k
        if capture:
            record.input = next((one for one in (given.get("query"), given.get("text")) if isinstance(one, str)), None)

    def read_output(record: Retrieval, given: Mapping[str, object]) -> None:
        if capture:
            record.output = read_documents(given.get("documents"))

    return Begun(record, read_input, read_output)


def _make_step(record: NamedRecord, *, capture: bool) -> Begun:
    if not capture:
        return Begun(record, _ignore, _ignore)
    return Begun(record, partial(_read_plain, field="input"), partial(_read_plain, field="output"))


def _begin_step(run: Any, *, capture: bool) -> Begun:
    """Begin a run of a kind without a convention: a hook of an agent, or one that the program itself traces."""
    words = {"haystack.agent.hook": "hook", "haystack.agent.hook.human_in_the_loop.strategy": "approval"}
    named = run.tags.get("haystack.agent.hook.name") or run.tags.get("haystack.tool.name") or run.name
    record = Step(type=words.get(run.name, "step"), name=str(named))
    if not run.name.startswith("haystack.") or run.name in words:
        record.extra.update((name, to_attribute(value)) for name, value in run.tags.items())
    return _make_step(record, capture=capture)


def _begin_agent_llm(run: Any, *, capture: bool) -> Begun:
    generator = get_field(run.around.owner, "chat_generator") if run.around is not None else None
    return Begun(*begin_chat(generator, type(generator).__name__ if generator else "", capture=capture))


def _begin_generator(run: Any, *, capture: bool) -> Begun:
    return Begun(*begin_chat(run.owner, str(run.tags.get("haystack.component.type") or ""), capture=capture))


def _begin_tool_run(run: Any, *, capture: bool) -> Begun:
    description = run.tags.get("haystack.tool.description")
    record = Tool(
        name=str(run.tags.get("haystack.tool.name")),
        type="function",
        description=description if isinstance(description, str) else None,
        call_id=get_nested(run.tool_call, "id", str),
    )
    return _make_step(record, capture=capture)


_BEGINS: Final[dict[str, Callable[..., Begun]]] = {
    "haystack.pipeline.run": _begin_pipeline,
    "haystack.component.run": _begin_component,
    "haystack.chat_generator.run": _begin_generator,
    "haystack.agent.run": _begin_agent,
    "haystack.agent.step.llm": _begin_agent_llm,
    "haystack.agent.step.tool": _begin_tool_run,
}


def begin_tool(call: Call) -> tuple[Tool, Observe[Tool] | None]:
    """Begin a call of ``invoke`` or ``invoke_async`` of a tool that the program makes itself."""
    tool = call.args[0]
    described = get_nested(tool, "description", str)
    record = Tool(name=get_nested(tool, "name", str), type="function", description=described)
    if not call.capture_content:
        return record, None
    record.input = to_plain_data(dict(call.kwargs))
    return record, _observe_tool


def _observe_tool(record: Tool, got: object) -> None:
    record.output = simplify(got)
