"""The content policy: whether content is recorded, redacted and cut to size, and how it becomes valid JSON."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, is_dataclass
from typing import Any, TypeAlias

import orjson

from .._guard import FAILED, tell_once

Redact: TypeAlias = Callable[[str], str] | Iterable[str | re.Pattern[str]]
REDACTED = "[redacted]"
_KEYS = frozenset(  # keys of the message schemas; below, the fixed words that stand under them
    {"arguments", "content", "file_id", "finish_reason", "id", "mime_type", "modality"}
    | {"name", "parts", "response", "role", "type", "uri"}
)
_WORDS = frozenset(
    {"assistant", "developer", "system", "tool", "user"}
    | {"blob", "file", "function", "reasoning", "text", "tool_call", "tool_call_response", "uri"}
    | {"audio", "document", "image", "video"}
    | {"content_filter", "error", "length", "stop"}
)
# Strict integers: MLflow cannot return a trace that holds an integer beyond 64 bits, so those take the slow path below.
_OPTIONS = orjson.OPT_NON_STR_KEYS | orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_STRICT_INTEGER
_INT64 = range(-(2**63), 2**63)


def redactor(redact: Redact | None) -> Callable[[str], str] | None:
    """Return *redact* as one function from text to text; each match of a pattern becomes ``[redacted]``.

    Raises:
        ValueError: a pattern is not a valid regular expression.
    """
    if redact is None or callable(redact):
        return redact
    try:
        patterns = [re.compile(pattern) for pattern in ([redact] if isinstance(redact, str) else redact)]
    except (re.error, TypeError) as error:
        msg = f"redact takes a function or a list of regular expressions: {error}"
        raise ValueError(msg) from error

    def apply(text: str) -> str:
        for pattern in patterns:
            text = pattern.sub(REDACTED, text)
        return text

    return apply


_KEY = re.compile(  # API keys of the providers, and HTTP's credentials
    r"""\b(?:(?:sk|rk|pk|xai|pplx|nvapi|glpat)-(?=[\w-]*\d)[\w-]{16,}|(?:gsk|hf|r8|gh[pousr]|github_pat)_\w{20,}
    |AIza[\w-]{30,}|AKIA[A-Z0-9]{16}|xox[abprs]-[\w-]{10,})|\b(?:Bearer|Basic)\ [\w.~+/=-]{16,}""",
    re.VERBOSE,
)

_SHORTEST_KEY = len("xoxa-") + 10
_HINTS = (
    "k-",
    "ai-",
    "pplx-",
    "nvapi-",
    "glpat-",
    "gsk_",
    "hf_",
    "r8_",
    "ghp_",
    "gho_",
    "ghu_",
    "ghs_",
    "ghr_",
    "github_pat_",
    "AIza",
    "AKIA",
    "xox",
    "Bearer ",
    "Basic ",
)


def mask_keys(text: str) -> str:
    """Return *text* without keys of well-known APIs: error messages quote them, and foreign spans may hold anything."""
    if len(text) >= _SHORTEST_KEY:
        for hint in _HINTS:
            if hint in text:
                return _KEY.sub(REDACTED, text)
    return text


class Policy:
    """The rules by which content is written to attributes.

    Args:
        capture: whether content is recorded at all.
        redact: a function that is applied to every string.
        limit: the most bytes of one attribute.
    """

    __slots__ = ("_redact", "capture", "limit")

    def __init__(self, *, capture: bool, redact: Callable[[str], str] | None, limit: int) -> None:
        self.capture, self._redact, self.limit = capture, redact, limit

    def text(self, value: str) -> str:
        """Return text that is not part of a message, such as a status, redacted and cut to the limit."""
        if self._redact is None and len(value) < self.limit and value.isascii():
            return str(value)
        if self._redact is not None:
            try:
                value = str(self._redact(value))
            except Exception as error:  # noqa: BLE001  # as in render_json
                value = _not_recorded(error)
        return _cut_text(clean(value), self.limit)

    def error(self, value: str) -> str:
        """Return the text of an exception, redacted and cut; it may quote the API key that was refused."""
        return self.text(mask_keys(value))

    def json(self, value: object) -> str:
        """Return *value* as JSON, redacted, and cut if it is longer than the limit."""
        if self._redact is not None:
            try:
                value = _redacted(snapshot(value), self._redact)
            except Exception as error:  # noqa: BLE001  # the user's function failed: nothing unredacted may leave
                value = [] if isinstance(value, list) else _not_recorded(error)
        written = to_json(value)
        return written if len(written) <= self.limit // 4 or _size(written) <= self.limit else self._cut(value)

    def string(self, value: object) -> str:
        """Return text as it is and anything else as JSON, for an attribute that the conventions define as a string."""
        return self.text(value) if isinstance(value, str) else self.json(value)

    def _cut(self, value: object) -> str:
        """Return JSON of the same shape that fits the limit: the longest strings are cut first."""
        value = _drop_bytes(_map_text(snapshot(value), clean), self.limit // 2)
        longest = self.limit
        while longest >= 16:
            written = to_json(_map_text(value, lambda text: _cut_text(text, longest)))  # noqa: B023  # used at once
            if _size(written) <= self.limit:
                return written
            longest //= 2
        return self._cut_items(value)

    def _cut_items(self, value: Any) -> str:
        """Return JSON of a value that is too large even with short strings.

        A list keeps its first and last items. Anything else is replaced by its size.
        """
        whole = len(to_json(value))
        if isinstance(value, list):
            keep = len(value) // 2
            while keep:
                first, last = value[: (keep + 1) // 2], value[len(value) - keep // 2 :]
                written = to_json(_map_text([*first, *last], lambda text: _cut_text(text, 64)))
                if _size(written) <= self.limit:
                    tell_once("mlspan: content over max_content_bytes: some messages are not recorded")
                    return written
                keep //= 2
            return "[]"
        return to_json(f"[cut: all of {whole} bytes]")


def _not_recorded(error: Exception) -> str:
    """Warn once that the redact function failed, and return the text that replaces the content."""
    tell_once(FAILED + " %s; what it was given is not recorded", type(error).__name__)
    return "[not recorded: the redact function failed]"


def _redacted(value: Any, redact: Callable[[str], str]) -> Any:
    """Return *value* with every string redacted, keys included; the words of the message schemas stay."""
    if isinstance(value, str):
        return str(redact(value))
    if isinstance(value, list):
        return [_redacted(item, redact) for item in value]
    if isinstance(value, dict):
        return {
            key if key in _KEYS else str(redact(key)): item
            if key in _KEYS and isinstance(item, str) and item in _WORDS
            else _redacted(item, redact)
            for key, item in value.items()
        }
    return value


def to_json(value: object) -> str:
    """Return JSON of any value. What JSON cannot represent becomes its ``str``."""
    try:
        return orjson.dumps(value, default=_default, option=_OPTIONS).decode()
    except (TypeError, ValueError, RecursionError):  # lone surrogates, integers over 64 bits, cycles
        return json.dumps(_map_text(snapshot(value), clean), default=str, ensure_ascii=False)


def clean(text: str) -> str:
    """Return *text* as valid Unicode: a lone surrogate, which no exporter can encode, becomes "?"."""
    if text.isascii():
        return text
    return text.encode("utf-8", "replace").decode() if _has_surrogate(text) else text


def _has_surrogate(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False


def _default(value: object) -> object:
    """Convert a value that orjson does not know: a pydantic model, set, exception, bytes or any other object."""
    if callable(dump := getattr(value, "model_dump", None)):
        return dump(mode="json")
    if isinstance(value, (bytes, bytearray, memoryview)):
        return f"[{len(value)} bytes]"
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, (set, frozenset, tuple)):
        return list(value)
    return str(value)


def snapshot(value: object, depth: int = 0) -> Any:
    """Return *value* as new dicts, lists and scalars, so that rewriting it does not touch the caller's objects.

    Integers beyond 64 bits become text, non-finite floats None, and values below 64 levels a mark.
    """
    if value is None or isinstance(value, (str, bool)):
        return value
    if isinstance(value, int):
        return value if value in _INT64 else str(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if depth > 64:
        return "[cut: nested too deep]"
    if is_dataclass(value) and not isinstance(value, type):
        value = asdict(value)
    if isinstance(value, Mapping):
        return {str(key): snapshot(item, depth + 1) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [snapshot(item, depth + 1) for item in value]
    return snapshot(_default(value), depth + 1)


def _map_text(value: Any, change: Callable[[str], str]) -> Any:
    """Return *value* with *change* applied to every string, keys included."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, dict):
        return {change(key): _map_text(item, change) for key, item in value.items()}
    if isinstance(value, list):
        return [_map_text(item, change) for item in value]
    return value


def _drop_bytes(value: Any, longest: int) -> Any:
    """Return *value* with the bytes of each blob over *longest* removed and counted: half a picture is useless."""
    if isinstance(value, list):
        return [_drop_bytes(item, longest) for item in value]
    if isinstance(value, dict):
        content = value.get("content")
        if value.get("type") == "blob" and isinstance(content, str) and len(content) > longest:
            return {**value, "content": "", "cut": f"{len(content)} bytes of base64"}
        return {key: _drop_bytes(item, longest) for key, item in value.items()}
    return value


def _size(text: str) -> int:
    """Return the size of *text* in bytes of UTF-8."""
    return len(text) if text.isascii() else len(text.encode())


def _cut_text(text: str, limit: int) -> str:
    """Return *text* cut to *limit* bytes of UTF-8, with a mark that gives the full size."""
    size = _size(text)
    if size <= limit:
        return text
    mark = f"… [cut: {size} bytes in all]"
    return text.encode()[: max(limit - len(mark.encode()), 0)].decode(errors="ignore") + mark
