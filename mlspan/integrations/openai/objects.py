"""Endpoints for stored objects: files, batches, vector stores, fine-tuning, evals, threads and the like.

One request is one span, with ids and counts. Two are more than that: a search in a vector store is a retrieval, and a
run of an assistant is an agent.
"""

from __future__ import annotations

from typing import Any, Final

from ..._shape import dig, get, is_a, items
from ...hooks.openai_format import plain
from ...tracing.operations import semconv as sc
from ...tracing.operations.fields import attr
from ...tracing.operations.messages import Draft, Part, tool_call
from ...tracing.operations.raw_response import Size
from ...tracing.operations.records import Chat, Observe, Request, Retrieval
from ._read import Ask, count, files, fill

KINDS: Final = frozenset(  # first segments of the paths that are recorded; models, organization and others are not
    {"assistants", "batches", "containers", "conversations", "evals", "files", "fine_tuning", "threads", "uploads"}
    | {"vector_stores", "videos"}
)
_ACTIONS: Final = frozenset(  # last segments of a path that are verbs themselves
    {"cancel", "complete", "content", "pause", "remix", "resume", "search", "submit_tool_outputs"}
)
_WORDS: Final = (
    KINDS
    | _ACTIONS
    | frozenset(  # all fixed segments of the paths; any other segment is an id
        {
            "alpha",
            "characters",
            "checkpoints",
            "edits",
            "events",
            "extensions",
            "file_batches",
            "graders",
            "items",
            "jobs",
        }
        | {"messages", "output_items", "parts", "permissions", "run", "runs", "steps", "validate"}
    )
)
_VERBS: Final = {"get": "retrieve", "post": "create", "delete": "delete", "put": "update", "patch": "update"}


def begin(ask: Ask, path: list[str], method: str) -> tuple[Any, Observe[Any]]:
    """Begin the record of a request; *path* is split into segments: ``["vector_stores", "vs_1", "files"]``."""
    if path[0] == "vector_stores" and path[-1] == "search":
        return _begin_search(ask, path[1])
    if path[0] == "threads" and path[-1] in {"runs", "submit_tool_outputs"} and method == "post":
        return _begin_run(ask, path)
    record = Request(type=path[0], name=name(path, method), **ask.server(), model=dig(ask.body, "model", str))
    for id in ids(path):
        record.extra["mlspan.request.id"] = id
    sent = [one for all_ in files(ask.options).values() for one in all_]
    if ask.content and (sent or ask.body):
        record.input = {**ask.body, **({"files": sent} if sent else {})}
    return record, _observe


def name(path: list[str], method: str) -> str:
    """Return the request's name, such as ``vector_stores.files.create``: the path without its ids, and a verb."""
    words = [word for word in path if not _is_id(word)]
    if words[-1] in _ACTIONS:
        return ".".join(words)
    listing = method == "get" and not _is_id(path[-1])
    return ".".join([*words, "list" if listing else _VERBS.get(method, method)])


def ids(path: list[str]) -> list[str]:
    """Return the ids in *path*."""
    return [word for word in path if _is_id(word)]


def _is_id(word: str) -> bool:
    return word not in _WORDS


_COUNTS: Final = ("file_counts", "request_counts", "result_counts")


def _observe(record: Request, got: Any) -> None:
    """Read the ids, the status, the size and the counts of an object, a list of objects, or a downloaded file."""
    extra = record.extra
    if isinstance(got, Size):
        extra["mlspan.response.bytes"] = int(got)
        return
    for attribute, key in (("mlspan.response.id", "id"), ("mlspan.response.status", "status")):
        if value := dig(got, key, str):
            extra[attribute] = value
    if is_a(size := get(got, "bytes"), int):
        extra["mlspan.response.bytes"] = size
    if isinstance(data := get(got, "data"), list):
        extra["mlspan.response.count"] = len(data)
    for key in _COUNTS:
        counts = plain(get(got, key))
        for what, number in counts.items() if isinstance(counts, dict) else ():
            if is_a(number, int):
                extra[f"mlspan.{key}.{what}"] = number
    if isinstance(content := get(got, "content"), bytes):
        extra["mlspan.response.bytes"] = len(content)


def _begin_search(ask: Ask, store: str) -> tuple[Retrieval, Observe[Retrieval]]:
    """Begin the record of ``POST /vector_stores/{id}/search``."""
    server = ask.server()
    record = Retrieval(source=store, provider=server.pop("provider"), top_k=dig(ask.body, "max_num_results", int))
    record.extra.update({sc.SERVER_ADDRESS: server["server_address"], sc.SERVER_PORT: server["server_port"]})
    if ask.content:
        query = ask.body.get("query")
        record.input = query if isinstance(query, str) else "\n".join(map(str, query or ()))
        return record, _observe_search
    return record, _observe_nothing


def _observe_nothing(_record: Any, _got: Any) -> None:
    """Read nothing: all that a search returns is content."""


def _observe_search(record: Retrieval, got: Any) -> None:
    """Read the found pieces of documents, with their scores."""
    if found := items(got, "data"):
        record.output = [
            {
                "id": dig(one, "file_id", str) or "",
                "score": dig(one, "score", float) or 0.0,
                "filename": dig(one, "filename", str),
                "content": "\n".join(dig(piece, "text", str) or "" for piece in items(one, "content")),
            }
            for one in found
        ]


class _Run(Chat):
    """A run of an assistant, which is an agent that the provider hosts."""

    operation: str = attr(sc.OPERATION, "start", default=sc.INVOKE_AGENT)

    @property
    def span_name(self) -> str:
        return self.operation  # the conventions add the agent's name, but the API gives only its id


def _begin_run(ask: Ask, path: list[str]) -> tuple[Chat, Observe[Chat]]:
    """Begin the record of ``POST /threads/{id}/runs``, or of a run that goes on with the outputs of tools."""
    record = _Run(**ask.server(), draft=Draft(kept=ask.content))
    fill(record, ask.body, {"model": ("model", str), "temperature": ("temperature", float), "top_p": ("top_p", float)})
    record.conversation = next((word for word in path if _is_id(word)), None)
    record.stream = True if ask.body.get("stream") is True else None
    if assistant := dig(ask.body, "assistant_id", str):
        record.extra[sc.AGENT_ID] = assistant
    if ask.content and (instructions := dig(ask.body, "instructions", str)):
        record.system = [{"type": "text", "content": instructions}]
    return record, _observe_run


def _observe_run(record: Chat, got: Any) -> None:
    """Read a Run, or one event of its stream."""
    event, data = dig(got, "event", str), get(got, "data") if dig(got, "event", str) else got
    if event == "thread.message.delta":
        for piece in items(data, "delta.content"):
            record.draft.choice().say(dig(piece, "text.value", str) or "")
    if dig(data, "object", str) != "thread.run":
        return
    record.response_id = dig(data, "id", str) or record.response_id
    record.response_model = dig(data, "model", str) or record.response_model
    record.conversation = dig(data, "thread_id", str) or record.conversation
    if assistant := dig(data, "assistant_id", str):
        record.extra[sc.AGENT_ID] = assistant
    status, choice = dig(data, "status", str), record.draft.choice()
    record.extra[sc.RESPONSE_STATUS] = status
    choice.finish_reason = {"completed": "stop", "requires_action": "tool_calls"}.get(
        status or "", choice.finish_reason
    )
    for call in items(data, "required_action.submit_tool_outputs.tool_calls"):
        part: Part = tool_call(
            dig(call, "function.name", str) or "", dig(call, "function.arguments", str), get(call, "id")
        )
        choice.add(part)
    if (error := get(data, "last_error")) is not None:
        record.failure = (dig(error, "code", str) or "_OTHER", dig(error, "message", str) or "")
    count(record, get(data, "usage"), {"prompt_tokens": "input_tokens", "completion_tokens": "output_tokens"})
