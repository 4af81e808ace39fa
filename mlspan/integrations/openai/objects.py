"""Endpoints for stored objects: files, batches, vector stores, fine-tuning, evals, threads and the like.

One request is one span, with ids and counts. Two are more than that: a search in a vector store is a retrieval, and a
run of an assistant is an agent.
"""

from __future__ import annotations

from ..._shape import get_field, get_list, get_nested
from ...hooks.call import BegunCall
from ...hooks.requests import read_usage, set_parameters
from ...hooks.stored_objects import read_stored_object
from ...tracing.operations import semconv as sc
from ...tracing.operations.fields import span_attribute
from ...tracing.operations.message_drafts import OutputDraft
from ...tracing.operations.messages import Part, make_tool_call
from ...tracing.operations.records import Chat, Observe, ProviderRequest, Retrieval
from ._paths import Path, find_ids, is_id, name_request
from ._read import OpenAIRequest, describe_sent_files


def begin_object_request(ask: OpenAIRequest, path: Path, method: str) -> BegunCall:
    """Begin the record of a request; see :mod:`._paths` for *path*."""
    if path[0] == "vector_stores" and path[-1] == "search":
        return _begin_store_search(ask, path[1])
    if path[0] == "threads" and path[-1] in {"runs", "submit_tool_outputs"} and method == "post":
        return _begin_assistant_run(ask, path)
    record = ProviderRequest(
        type=path[0],
        name=name_request(path, method),
        **ask.read_server_fields(),
        model=get_nested(ask.body, "model", str),
    )
    for id in find_ids(path):
        record.extra["mlspan.request.id"] = id
    sent = [one for all_ in describe_sent_files(ask.options).values() for one in all_]
    if ask.capture_content and (sent or ask.body):
        record.input = {**ask.body, **({"files": sent} if sent else {})}
    return record, read_stored_object


def _begin_store_search(ask: OpenAIRequest, store: str) -> BegunCall:
    """Begin the record of ``POST /vector_stores/{id}/search``."""
    server = ask.read_server_fields()
    record = Retrieval(
        source=store, provider=server.pop("provider"), top_k=get_nested(ask.body, "max_num_results", int)
    )
    record.extra.update({sc.SERVER_ADDRESS: server["server_address"], sc.SERVER_PORT: server["server_port"]})
    if ask.capture_content:
        query = ask.body.get("query")
        record.input = query if isinstance(query, str) else "\n".join(map(str, query or ()))
        return record, _observe_store_search
    return record, None  # all that a search returns is content


def _observe_store_search(record: Retrieval, got: object) -> None:
    """Read the found pieces of documents, with their scores."""
    if found := get_list(got, "data"):
        record.output = [
            {
                "id": get_nested(one, "file_id", str) or "",
                "score": get_nested(one, "score", float) or 0.0,
                "filename": get_nested(one, "filename", str),
                "content": "\n".join(get_nested(piece, "text", str) or "" for piece in get_list(one, "content")),
            }
            for one in found
        ]


class _AssistantRun(Chat):
    """A run of an assistant, which is an agent that the provider hosts."""

    operation: str = span_attribute(sc.OPERATION, "start", default=sc.INVOKE_AGENT)

    @property
    def span_name(self) -> str:
        return self.operation  # the conventions add the agent's name, but the API gives only its id


def _begin_assistant_run(ask: OpenAIRequest, path: Path) -> tuple[Chat, Observe[Chat]]:
    """Begin the record of ``POST /threads/{id}/runs``, or of a run that goes on with the outputs of tools."""
    record = _AssistantRun(**ask.read_server_fields(), draft=OutputDraft(kept=ask.capture_content))
    set_parameters(
        record, ask.body, {"model": ("model", str), "temperature": ("temperature", float), "top_p": ("top_p", float)}
    )
    record.conversation = next((word for word in path if is_id(word)), None)
    record.stream = True if ask.body.get("stream") is True else None
    if assistant := get_nested(ask.body, "assistant_id", str):
        record.extra[sc.AGENT_ID] = assistant
    if ask.capture_content and (instructions := get_nested(ask.body, "instructions", str)):
        record.system = [{"type": "text", "content": instructions}]
    return record, _observe_assistant_run


def _observe_assistant_run(record: Chat, got: object) -> None:
    """Read a Run, or one event of its stream."""
    event, data = get_nested(got, "event", str), get_field(got, "data") if get_nested(got, "event", str) else got
    if event == "thread.message.delta":
        for piece in get_list(data, "delta.content"):
            record.draft.get_choice().add_text(get_nested(piece, "text.value", str) or "")
    if get_nested(data, "object", str) != "thread.run":
        return
    record.response_id = get_nested(data, "id", str) or record.response_id
    record.response_model = get_nested(data, "model", str) or record.response_model
    record.conversation = get_nested(data, "thread_id", str) or record.conversation
    if assistant := get_nested(data, "assistant_id", str):
        record.extra[sc.AGENT_ID] = assistant
    status, choice = get_nested(data, "status", str), record.draft.get_choice()
    record.extra[sc.RESPONSE_STATUS] = status
    choice.finish_reason = {"completed": "stop", "requires_action": "tool_calls"}.get(
        status or "", choice.finish_reason
    )
    for call in get_list(data, "required_action.submit_tool_outputs.tool_calls"):
        part: Part = make_tool_call(
            get_nested(call, "function.name", str) or "",
            get_nested(call, "function.arguments", str),
            get_field(call, "id"),
        )
        choice.add_part(part)
    if (error := get_field(data, "last_error")) is not None:
        record.failure = (get_nested(error, "code", str) or sc.ERROR_OTHER, get_nested(error, "message", str) or "")
    read_usage(
        record, get_field(data, "usage"), {"prompt_tokens": "input_tokens", "completion_tokens": "output_tokens"}
    )
