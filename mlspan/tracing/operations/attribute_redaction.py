"""Redaction of attributes that are no content: ``redact`` on each text, API keys masked, credentials by their header.

Spans get it on the export worker (``export/redaction.py``), events when they are written (``detail_events.py``).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from functools import lru_cache
from typing import Any, Final

import orjson

from . import semconv as sc
from .content import REDACTED, ContentPolicy, mask_api_keys, to_json

_SECRET_HEADER: Final = re.compile(  # headers that HTTP and RPC instrumentations record
    r"\.(?:header|metadata)\.(?:(?:proxy[-_])?authorization|(?:set[-_])?cookie|.*api[-_]?key|.*token|.*secret)$",
    re.IGNORECASE,
)
_CONVENTION_WORDS: Final = frozenset(  # fixed words of the conventions, and model names, which prices depend on
    {sc.OPERATION, sc.PROVIDER, sc.OUTPUT_TYPE, sc.REQUEST_MODEL, sc.RESPONSE_MODEL, sc.RESPONSE_FINISH_REASONS}
    | {sc.RESPONSE_STATUS, sc.REQUEST_REASONING_LEVEL, sc.REQUEST_ENCODING_FORMATS, sc.TOOL_TYPE, sc.OPENAI_API_TYPE}
    | {sc.KIND, sc.LINK, sc.STREAM_END, sc.ERROR_TYPE, sc.ASSESSMENT, sc.ASSESSMENT_SOURCE, sc.PROMPTS, sc.MODEL_ID}
    | {sc.RUN_ID}
)
_UNLIMITED: Final = 2**40  # bytes: text is not cut here
_NUMBER_TYPES: Final = frozenset({int, float, bool})


@lru_cache(maxsize=4096)
def _is_secret_header(name: str) -> bool:
    return _SECRET_HEADER.search(name) is not None


class AttributeRedactor:
    """Replaces secrets in attributes: what *redact* takes out of a text, and keys of well-known APIs in any case."""

    def __init__(self, redact: Callable[[str], str] | None = None) -> None:
        self._policy = None if redact is None else ContentPolicy(capture=True, redact=redact, limit=_UNLIMITED)

    def redact_attributes(
        self, attributes: Mapping[str, object] | None, done: AbstractSet[str] = frozenset()
    ) -> Mapping[str, Any] | None:
        """Return *attributes* with values redacted, the same object if nothing changes.

        Those in *done* stay as they are, and so do words of the conventions.
        """
        if not attributes:
            return attributes
        changed = {}
        for name in attributes.keys() - _CONVENTION_WORDS - done:
            value = attributes[name]
            redacted = (
                REDACTED
                if _is_secret_header(name)
                else value
                if type(value) in _NUMBER_TYPES
                else self._redact_value(value)
            )
            if redacted != value:
                changed[name] = redacted
        return {**attributes, **changed} if changed else attributes

    def _redact_value(self, value: object) -> object:
        if isinstance(value, str):
            return self.redact_text(value)
        if isinstance(value, (list, tuple)):
            return type(value)(map(self._redact_value, value))
        if isinstance(value, Mapping):
            return {name: self._redact_value(item) for name, item in value.items()}
        if isinstance(value, bytes):
            text = value.decode(errors="replace")
            redacted = self.redact_text(text)
            return value if redacted == text else redacted
        return value

    def redact_text(self, text: str) -> str:
        """Return *text* with API keys masked and ``redact`` applied; text that is JSON stays JSON."""
        if self._policy is None:
            return mask_api_keys(text)
        if text.lstrip()[:1] in {"{", "["}:  # each string inside JSON is redacted, so that the result is JSON
            try:
                value = orjson.loads(text)
            except orjson.JSONDecodeError:
                pass
            else:
                redacted = self._policy.render_json(value)
                return mask_api_keys(text if redacted == to_json(value) else redacted)
        return mask_api_keys(self._policy.render_text(text))
