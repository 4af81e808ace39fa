"""Tools, memories and knowledge of CrewAI's agents."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Final

from opentelemetry import context as otel

from ..._shape import get_field, get_list, get_nested
from ...hooks.call import Call
from ...tracing.operations import semconv as sc
from ...tracing.operations.agent_records import Memory
from ...tracing.operations.call_context import use_context
from ...tracing.operations.messages import parse_json
from ...tracing.operations.records import NamedRecord, Observe, Retrieval, Tool
from .._vectors.documents import Document, make_document
from .models import list_tool_calls
from .runs import CrewRun, crewai_runs, list_current_ids


def make_tool_record(source: object, event: Any, *, capture_content: bool) -> Tool:
    """Return the record of a tool, with the id of the call that its agent's model has asked for."""
    arguments = get_field(event, "tool_args")
    if isinstance(arguments, str):
        arguments = parse_json(arguments)
    record = Tool(name=event.tool_name, type="function", agent=get_nested(event, "agent_role", str))
    record.call_id = _take_call_id(event.tool_name, arguments)
    record.description = _find_description(source, event.tool_name)
    if capture_content:
        record.input = arguments
    return record


def _find_description(source: object, name: str) -> str | None:
    for tool in (*get_list(source, "original_tools"), *get_list(source, "tools")):
        if _normalize(get_nested(tool, "name", str)) == _normalize(name):
            return get_nested(tool, "description", str)
    return None


def _normalize(name: str | None) -> str:
    """Return a tool's name without what CrewAI changes in it for the provider."""
    return "".join(letter for letter in (name or "").lower() if letter.isalnum())


def note_asked(response: object) -> None:
    """Note the tool calls of an answer for the agent, or whatever else runs them, around the call."""
    if (asked := list_tool_calls(response)) and (run := _find_asker()) is not None:
        run.asked += [(id, name, _parse_arguments(arguments)) for id, name, arguments in asked if id]


def _parse_arguments(arguments: object) -> object:
    return parse_json(arguments) if isinstance(arguments, str) else arguments


def _find_asker() -> CrewRun | None:
    """Return the innermost run that the caller is inside and that is no call to a model or to a tool."""
    for id in list_current_ids():
        run = crewai_runs.find_run(id)
        if run is not None and run.subject is not None and run.subject.event_type not in _CALLS:
            return run
    return None


_CALLS = frozenset({"llm_call_started", "tool_usage_started"})


def _take_call_id(name: str, arguments: object) -> str | None:
    """Return the id of a call for this tool that has not begun: one with these arguments, else the first."""
    run = _find_asker()
    found = [] if run is None else [one for one in run.asked if _normalize(one[1]) == _normalize(name)]
    if run is None or not found:
        return None
    chosen = next((one for one in found if one[2] == arguments), found[0])
    run.asked.remove(chosen)
    return chosen[0]


def read_tool_end(record: NamedRecord, event: object) -> None:
    """Read what a tool has returned; CrewAI's tools may also say that they have failed."""
    record.output = get_field(event, "output")
    if get_field(event, "from_cache") is True:
        record.extra["mlspan.crewai.cached"] = True
    if (failure := get_field(event, "failure")) is not None:
        reason = get_nested(failure, "code", str) or get_nested(failure, "reason.value", str) or sc.ERROR_OTHER
        record.failure = (reason, get_nested(failure, "message", str) or "")


def make_search(_source: object, event: Any, *, capture_content: bool) -> Memory:
    """Return the record of a search in a memory."""
    record = Memory(operation="search_memory")
    if (limit := get_nested(event, "limit", int)) is not None:
        record.extra[sc.RETRIEVAL_TOP_K] = limit
    if capture_content:
        record.input = event.query
    return record


def read_memories(record: NamedRecord, event: object) -> None:
    """Read the memories that were found, the best first."""
    found = [_read_memory(one) for one in get_list(event, "results")]
    record.output = found


def _read_memory(match: object) -> dict[str, object]:
    """Return a match, or a memory of an older version, in the form of the conventions."""
    memory = get_field(match, "record") or match
    content = get_field(memory, "content") or get_field(memory, "context")
    told = {"id": get_nested(memory, "id", str), "score": get_field(match, "score"), "content": content}
    return {name: value for name, value in told.items() if value is not None}


def make_save(_source: object, event: Any, *, capture_content: bool) -> Memory:
    """Return the record of something that a memory is to keep: it may merge what it is given with what it has."""
    record = Memory(operation="upsert_memory")
    given = otel.get_value(_CONTENTS_KEY)  # of those that are saved in the background, CrewAI tells the number alone
    contents = given if isinstance(given, list) else [event.value] if event.value is not None else []
    record.record_count = len(contents)
    if capture_content:
        record.output = [{"content": content} for content in contents]
    return record


def note_contents(original: Callable[..., object], enabled: list[bool]) -> object:
    """Wrap ``Memory.remember_many(contents)``: what is saved in the background is told by the caller's context."""

    @functools.wraps(original)
    def remember_many(memory: object, contents: object, *args: object, **kwargs: object) -> object:
        if not enabled:
            return original(memory, contents, *args, **kwargs)
        with use_context(otel.set_value(_CONTENTS_KEY, contents)):
            return original(memory, contents, *args, **kwargs)

    return remember_many


_CONTENTS_KEY: Final = otel.create_key("mlspan-crewai-contents")


def begin_query(call: Call) -> tuple[Retrieval, Observe[Retrieval]]:
    """Begin the record of ``Knowledge.query(query, results_limit, score_threshold)``."""
    source = get_nested(call.args[0], "collection_name", str) or get_nested(
        call.args[0], "storage.collection_name", str
    )
    record = Retrieval(source=source or "knowledge", top_k=call.argument("results_limit", want=int))
    if call.capture_content:
        query = call.argument("query")
        record.input = "\n".join(map(str, query)) if isinstance(query, list) else query
    return record, _observe_found


def _observe_found(record: Retrieval, found: object) -> None:
    """Read the pieces of knowledge that were found."""
    if isinstance(found, list):
        record.output = [_read_knowledge(one) for one in found]


def _read_knowledge(piece: object) -> Document:
    return make_document(
        get_field(piece, "id"),
        score=get_field(piece, "score"),
        content=get_field(piece, "content") or get_field(piece, "context") or None,
        metadata=get_field(piece, "metadata"),
    )
