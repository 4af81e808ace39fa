"""Mem0's memories, sync and async, in this process and on its platform: what is added, looked for, changed and deleted.

The calls to models and vector databases that a memory makes are below it, if their own hooks are on.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from .._shape import get_field, get_list, get_nested, is_a
from ..hooks.call import Begin, BegunCall, Call
from ..hooks.hook import Hook, trace_methods
from ..hooks.requests import find_base_url, read_host_and_port
from ..tracing.operations.agent_records import Memory

__all__ = ["HOOK", "autolog"]

_CLASSES: Final = {
    "mem0.memory.main": ("Memory", "AsyncMemory"),
    "mem0.client.main": ("MemoryClient", "AsyncMemoryClient"),
}
_OPERATIONS: Final = {
    "add": "create_memory",
    "search": "search_memory",
    "get": "search_memory",
    "get_all": "search_memory",
    "update": "update_memory",
    "delete": "delete_memory",
    "delete_all": "delete_memory",
}
_CLIENT_OPERATIONS: Final = {"batch_update": "update_memory", "batch_delete": "delete_memory"}
_OWNERS: Final = {
    "user_id": "mlspan.mem0.user_id",
    "agent_id": "mlspan.mem0.agent_id",
    "run_id": "mlspan.mem0.run_id",
    "app_id": "mlspan.mem0.app_id",
}
_OF_THE_RECORD: Final = ("id", "memory", "score", "event", "metadata", "categories")


def _make_memory_begin(operation: str) -> Begin:
    def begin(call: Call) -> BegunCall:
        owner = call.args[0]
        memory = Memory(
            operation=operation,
            provider="mem0",
            store=get_nested(owner, "collection_name", str),
            record_id=call.argument("memory_id", want=str),
        )
        if (client := get_field(owner, "client")) is not None:
            memory.server_address, memory.server_port = read_host_and_port(find_base_url(client))
        memory.extra.update(_read_owners(call))
        if call.capture_content:
            memory.input = call.argument("query", want=str)
            memory.given = _read_given(call)
        return memory, _observe_records if operation in _WITH_RECORDS else None  # a sentence

    return begin


def _read_owners(call: Call) -> Iterator[tuple[str, str]]:
    """Yield whose memories they are, as attributes: what the call names, or its filters do without an "or"."""
    options = call.argument("options")
    filters = call.argument("filters") or call.kwargs.get("filters") or get_field(options, "filters")
    both = get_list(filters, "AND") if is_a(filters, dict) else ()
    for name, attribute in _OWNERS.items():
        named = [call.argument(name), *(get_field(place, name) for place in (call.kwargs, options, filters, *both))]
        if (owner := next((one for one in named if is_a(one, str)), None)) is not None:
            yield attribute, owner


_WITH_RECORDS: Final = ("create_memory", "search_memory")


def _read_given(call: Call) -> object:
    """Return what is to be remembered, or None: messages, a text, or a batch of changes."""
    for name in ("messages", "text", "data", "memories"):
        found = call.argument(name)
        if found is None:
            found = call.kwargs.get(name, get_field(call.argument("options"), name))
        if found is not None:
            return found
    return None


def _list_records(got: object) -> Iterator[dict[str, object]]:
    """Yield the records of an answer: a list, a dict with one, or a single record."""
    listed = got if is_a(got, list) else get_list(got, "results")
    if not listed and get_field(got, "memory") is not None:
        listed = [got]
    for record in listed if isinstance(listed, list) else ():
        told = {name: get_field(record, name) for name in _OF_THE_RECORD}
        yield {name: value for name, value in told.items() if value is not None}


def _observe_records(memory: Memory, got: object) -> None:
    memory.output = records = list(_list_records(got))
    memory.record_count = len(records)
    if memory.record_id is None and len(records) == 1:
        memory.record_id = get_nested(records[0], "id", str)


def _list_memory_methods() -> Iterator[tuple[str, Begin]]:
    for module, classes in _CLASSES.items():
        more = _CLIENT_OPERATIONS if module == "mem0.client.main" else {}
        for name in classes:
            for method, operation in {**_OPERATIONS, **more}.items():
                yield f"{module}:{name}.{method}", _make_memory_begin(operation)


HOOK = Hook("mem0ai>=2,<3", "mem0", trace_methods(dict(_list_memory_methods())))
autolog = HOOK.autolog
