"""Responses that are fetched, above all those of the background, which the server makes after their request.

Tokens, cost and failure of a response are counted once: by the request that makes it, if that sees its end, else by the
first fetch that does. A fetch of any other response counts nothing, as somebody else has.
"""

from __future__ import annotations

from typing import Final

from ..._bounded import BoundedDict
from ..._shape import get_field, get_list, get_nested
from ...tracing.operations import semconv as sc
from ...tracing.operations.message_drafts import OutputDraft
from ...tracing.operations.records import Chat, Fetch, Observe
from ._read import OpenAIRequest, read_error
from ._response_state import ENDED_STATUSES, draft_output, read_response_result

# Server and id of each response that this process has asked for and not seen the end of.
_unfinished: Final[BoundedDict[tuple[str | None, str], None]] = BoundedDict(10_000)


def note_state(chat: Chat, *, is_unfinished: bool) -> None:
    """Remember the response that *chat* has asked for until its end is seen; forget it then."""
    key = (chat.server_address, chat.response_id or "")
    if is_unfinished:
        _unfinished[key] = None
    else:
        _unfinished.pop(key, None)


def begin_fetch(ask: OpenAIRequest, response_id: str) -> tuple[Fetch, Observe[Fetch]]:
    """Begin the record of ``GET /responses/{id}``, also as a stream, or of ``POST /responses/{id}/cancel``."""
    fetch = Fetch(**ask.read_server_fields(), response_id=response_id, draft=OutputDraft(kept=ask.capture_content))
    cursor = get_field(getattr(ask.options, "params", None), "starting_after")
    if isinstance(cursor, int):
        fetch.extra[sc.REQUEST_STREAM_CURSOR] = str(cursor)
    return fetch, _observe_fetch


def _observe_fetch(fetch: Fetch, got: object) -> None:
    """Read a fetched Response, or an event of its stream."""
    if get_nested(got, "type", str) == "error":
        fetch.failure = read_error(get_field(got, "error") or got)
        return
    response = get_field(got, "response") or got
    if not (status := get_nested(response, "status", str)):
        return
    fetch.status = status
    fetch.response_model = get_nested(response, "model", str)
    if get_list(response, "output"):
        fetch.draft = draft_output(response, status, capture_content=fetch.draft.kept)
        fetch.finish_reasons = fetch.draft.list_finish_reasons()
    key = (fetch.server_address, fetch.response_id or "")
    if status in ENDED_STATUSES and _unfinished.pop(key, _NOT_OURS) is not _NOT_OURS:
        fetch.is_first = True
        read_response_result(fetch, response)


_NOT_OURS: Final = object()
