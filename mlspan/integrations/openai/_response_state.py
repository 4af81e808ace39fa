"""A response of the Responses API in its present state, as its own request or a later fetch reads it."""

from __future__ import annotations

from typing import Final

from ..._shape import get_field, get_list, get_nested
from ...hooks.openai_format import dump_model, read_openai_part
from ...hooks.requests import read_usage
from ...tracing.operations import semconv as sc
from ...tracing.operations.message_drafts import ChoiceDraft, OutputDraft
from ...tracing.operations.records import Inference
from ._items import read_item_parts
from ._read import read_error

ENDED_STATUSES: Final = frozenset({"completed", "incomplete", "failed", "cancelled"})


def read_response_result(record: Inference, response: object) -> None:
    """Read the model, the service tier, the tokens and the failure of a response."""
    record.response_model = get_nested(response, "model", str) or record.response_model
    if tier := get_nested(response, "service_tier", str):
        record.extra[sc.OPENAI_RESPONSE_SERVICE_TIER] = tier
    if (error := get_field(response, "error")) is not None:
        record.failure = read_error(error)
    read_usage(record, get_field(response, "usage"), *RESPONSE_USAGE)


RESPONSE_USAGE: Final = (
    {"input_tokens": "input_tokens", "output_tokens": "output_tokens"},
    {
        "in": "input_tokens_details",
        "cached_tokens": "cache_read_tokens",
        "cache_write_tokens": "cache_write_tokens",
    },
    {"in": "output_tokens_details", "reasoning_tokens": "reasoning_tokens"},
)


def draft_output(response: object, status: str, *, capture_content: bool) -> OutputDraft:
    """Return the output of an ended response as a draft, with its finish reason."""
    draft = OutputDraft(kept=capture_content)
    choice = draft.get_choice()
    for item in get_list(response, "output"):
        add_item(choice, item)
    reason = get_nested(response, "incomplete_details.reason", str)
    if status == "completed":
        choice.finish_reason = "tool_calls" if draft.call_ids else "stop"
    elif status == "incomplete":
        choice.finish_reason = {"max_output_tokens": "length"}.get(reason or "", reason)
    return draft


def add_item(choice: ChoiceDraft, item: object) -> None:
    """Add an item of a response's output to *choice*."""
    kind = get_nested(item, "type", str)
    if kind == "message":
        for raw in get_list(item, "content"):
            choice.add_part(read_openai_part(raw if isinstance(raw, dict) else dump_model(raw)))
    else:
        for piece in read_item_parts(item, kind or "unknown"):
            choice.add_part(piece)
