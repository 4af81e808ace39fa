"""Semantic Kernel: the conventions of 2024. Its messages are log records, which no span holds."""

from __future__ import annotations

from typing import Final
from urllib.parse import urlsplit

from ...operations import semconv as sc
from .dialect import Dialect, ForeignSpan, JsonObject, list_values


def _read(span: ForeignSpan) -> JsonObject:
    reason = span.get("gen_ai.response.finish_reason")
    if isinstance(reason, str) and reason:
        word = reason.rpartition(".")[2].lower()  # the name of a member of an enumeration
        return {sc.RESPONSE_FINISH_REASONS: ("tool_call" if word == "tool_calls" else word,)}
    return {sc.KIND: "task"} if span.name == "AutoFunctionInvocationLoop" else {}


def _correct(span: ForeignSpan) -> JsonObject:
    """Return the server's address without the rest of its URL, and no list of messages that is empty."""
    found: JsonObject = {}
    address = span.get(sc.SERVER_ADDRESS)
    if isinstance(address, str) and "://" in address:
        url = urlsplit(address)
        found |= {sc.SERVER_ADDRESS: url.hostname, sc.SERVER_PORT: url.port}
    if span.get(sc.INPUT_MESSAGES) is not None and not list_values(span.get(sc.INPUT_MESSAGES)):
        found[sc.INPUT_MESSAGES] = None
    return found


SEMANTIC_KERNEL: Final = Dialect(scopes=("semantic_kernel.",), prefixes=("sk.",), read=_read, correct=_correct)
