"""Token counts as LangChain tells them: its ``UsageMetadata``, and what single providers add to it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from ..._shape import get_count, get_fields
from ...tracing.operations import semconv as sc
from ...tracing.operations.records import Chat

_TIERS: Final = ("priority", "flex")  # prefixes of OpenAI's counts at another price
_INPUT_DETAILS: Final = {
    "cache_read": "cache_read_tokens",
    "cache_creation": "cache_write_tokens",
    "audio": "audio_input_tokens",
    "text": "text_input_tokens",
    "image": "image_input_tokens",
}
_OUTPUT_DETAILS: Final = {
    "reasoning": "reasoning_tokens",
    "audio": "audio_output_tokens",
    "text": "text_output_tokens",
    "image": "image_output_tokens",
}
_CACHE_WRITES: Final = ("ephemeral_5m_input_tokens", "ephemeral_1h_input_tokens")  # Anthropic's, by lifetime
_LONG_CACHE_WRITE: Final = "ephemeral_1h_input_tokens"
_KNOWN_KEYS: Final = {
    "input_tokens",
    "output_tokens",
    "total_tokens",
    "total_cost",
    "input_token_details",
    "output_token_details",
}


def read_langchain_usage(record: Chat, usage: object) -> None:
    """Read LangChain's ``UsageMetadata`` into the fields of *record*.

    Counts that have no field are kept under ``mlspan.usage.`` and their own names. Reasoning that stands beside the
    output, as the total tells, is added to the output. An answer from LangChain's own cache was billed to nobody: it
    says so and has no counts.
    """
    known = get_fields(usage)
    if type(known.get("total_cost")) is int and known["total_cost"] == 0:
        record.extra["mlspan.langchain.cached"] = True
        return
    given, taken, total = (get_count(known, name) for name in ("input_tokens", "output_tokens", "total_tokens"))
    if not given and not taken and not total:  # zeros in place of counts that nobody has told
        return
    record.input_tokens = record.input_tokens if given is None else given
    record.output_tokens = record.output_tokens if taken is None else taken
    asked, said = get_fields(known.get("input_token_details")), get_fields(known.get("output_token_details"))
    _read_details(record, "input", asked, _INPUT_DETAILS)
    _read_details(record, "output", said, _OUTPUT_DETAILS)
    if writes := [tokens for name in _CACHE_WRITES if (tokens := get_count(asked, name)) is not None]:
        record.cache_write_tokens = max(sum(writes), record.cache_write_tokens or 0)
        if long := get_count(asked, _LONG_CACHE_WRITE):
            record.extra[sc.USAGE_LONG_CACHE_WRITE_INPUT_TOKENS] = long
    if None not in (given, taken, total) and (total or 0) - (given or 0) - (taken or 0) == record.reasoning_tokens:
        record.output_tokens = (total or 0) - (given or 0)
    for name in known.keys() - _KNOWN_KEYS:
        if (tokens := get_count(known, name)) is not None:
            record.extra[f"{sc.USAGE_PREFIX}{name}"] = tokens


def _read_details(record: Chat, side: str, details: Mapping[str, object], fields: Mapping[str, str]) -> None:
    """Read the details of the input's or the output's tokens; the counts of a service tier count as the plain ones.

    Args:
        record: the record.
        side: ``input`` or ``output``.
        details: the counts by LangChain's names.
        fields: by such a name, the field of the record.
    """
    for name in details:
        if (tokens := get_count(details, name)) is None or name in _CACHE_WRITES:
            continue
        tier, _, plain = name.partition("_")
        field = fields.get(plain if tier in _TIERS and plain else name)
        if field is None:
            record.extra[f"{sc.USAGE_PREFIX}{name}.{side}_tokens"] = tokens
        else:
            setattr(record, field, tokens)
