"""The language of ``--filter``: that of ``mlflow.search_traces``, parsed without MLflow.

A filter is conditions that are joined by AND. Each is a field, a comparison and a value, such as ``tag.team = 'ops'``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from .arguments import UsageError

FieldKind: TypeAlias = Literal["attribute", "tag", "metadata", "span", "feedback", "expectation", "issue"]
Value: TypeAlias = "str | int | float | tuple[str, ...] | None"

_KIND_BY_PREFIX: Final[dict[str, FieldKind]] = {
    **dict.fromkeys(("attribute", "attributes", "trace"), "attribute"),
    **dict.fromkeys(("tag", "tags"), "tag"),
    **dict.fromkeys(("metadata", "request_metadata"), "metadata"),
    "span": "span",
    "feedback": "feedback",
    "expectation": "expectation",
    "issue": "issue",
}
_ALIASES: Final = {"timestamp": "timestamp_ms", "execution_time": "execution_time_ms", "end_time": "end_time_ms"}
_NUMBERS: Final = ("timestamp_ms", "execution_time_ms", "end_time_ms")
_TEXTS: Final = ("name", "status", "request_id", "run_id", "client_request_id", "prompt", "text")
_SPAN_FIELDS: Final = ("name", "type", "status", "content")

_ORDER: Final = (">", ">=", "<", "<=")
_EQUAL: Final = ("=", "!=")
_LIKE: Final = ("LIKE", "ILIKE", "RLIKE")
_IN: Final = ("IN", "NOT IN")
_NULL: Final = ("IS NULL", "IS NOT NULL")

# Keys that MLflow takes for something else, whatever is before them.
RENAMED_KEYS: Final = frozenset({"name", "prompt", "run_id", "text", *_ALIASES})

_FIELD: Final = re.compile(r"""(?:\w+|`\w+`)(?:\.(?:\w+|`[^`]+`|"[^"]+"|'[^']+'))*""")
_COMPARISON: Final = re.compile(r"IS\s+NOT\s+NULL\b|IS\s+NULL\b|NOT\s+IN\b|IN\b|[IR]?LIKE\b|[<>!=]+|\w+", re.IGNORECASE)
_TEXT: Final = r"""'(?:''|\\'|[^'])*'|"(?:\\"|[^"])*\""""
_VALUE: Final = re.compile(rf"{_TEXT}|[-+]?\d+(?:\.\d+)?(?![\w.])|\(\s*(?:{_TEXT})(?:\s*,\s*(?:{_TEXT}))*\s*,?\s*\)")
_AND: Final = re.compile(r"AND\b", re.IGNORECASE)
_SPACE: Final = re.compile(r"\s*")
_ALLOWED: Final = (
    f"it takes conditions joined by AND, on {', '.join((*_TEXTS[:4], *_NUMBERS))}, tag.KEY, metadata.KEY, "
    "span.name, span.type, span.status, span.attributes.KEY and feedback.NAME"
)


_HINTS: Final = {
    "session": " (--session has it, and so has metadata.`mlflow.trace.session`)",
    "user": " (metadata.`mlflow.trace.user` has it)",
    "run": " (run_id has it, and so has --run)",
    "type": " (span.type has it)",
}


@dataclass(frozen=True)
class Condition:
    """A condition of a filter."""

    kind: FieldKind
    key: str  # without quotes
    comparison: str  # in capitals, with one space between words
    value: Value
    text: str  # as MLflow takes it


def parse_filter(text: str | None) -> tuple[Condition, ...]:
    """Return the conditions of a filter; none for None.

    Raises:
        UsageError: if it is none; the text says what is wrong and what is allowed.
    """
    if text is None:
        return ()
    found: list[Condition] = []
    at = _skip_space(text, 0)
    while True:
        condition, at = _parse_condition(text, at)
        found.append(condition)
        at = _skip_space(text, at)
        if at == len(text):
            return tuple(found)
        joined = _AND.match(text, at)
        if joined is None:
            raise _make_error(f"after {condition.text} only AND is possible, not {_show(text, at)}")
        at = _skip_space(text, joined.end())


def _parse_condition(text: str, at: int) -> tuple[Condition, int]:
    """Return the condition that begins at *at*, and where it ends."""
    field = _FIELD.match(text, at)
    if field is None or field.group()[0].isdigit():
        raise _make_field_error(f"a field is expected, not {_show(text, at)}")
    kind, key = _parse_field(field.group())
    named = "attributes.text" if field.group() == "text" else field.group()  # MLflow's parser takes it for a type
    at = _skip_space(text, field.end())
    allowed = _list_comparisons(kind, key)
    found = _COMPARISON.match(text, at)
    comparison = "" if found is None else " ".join(found.group().upper().split())
    if found is None or comparison not in allowed:
        hint = "; put a key with other characters than letters, digits, _ and . into `backticks`" * (
            text[at : at + 1] in "-/:"
        )
        raise _make_error(
            f"{field.group()} takes {_join_or(allowed)}, not {_show(text, at)}{hint if text[at:] else ''}"
        )
    if comparison in _NULL:
        return Condition(kind, key, comparison, None, f"{named} {comparison}"), found.end()
    at = _skip_space(text, found.end())
    told = _VALUE.match(text, at)
    is_number = (kind == "attribute" and key in _NUMBERS) or (
        kind in {"feedback", "expectation"} and comparison in _ORDER
    )
    what = "a number" if is_number else "texts in quotes and parentheses" if comparison in _IN else "a text in quotes"
    value = None if told is None else _parse_value(told.group())
    expected: type | tuple[type, ...] = (int, float) if is_number else tuple if comparison in _IN else str
    if told is None or not isinstance(value, expected):
        raise _make_error(f"{field.group()} {comparison} takes {what}, not {_show(text, at)}")
    return Condition(kind, key, comparison, value, f"{named} {comparison} {told.group()}"), told.end()


def _parse_field(text: str) -> tuple[FieldKind, str]:
    """Return what a field is of, and its key.

    Raises:
        UsageError: if there is no such field.
    """
    before, dot, rest = text.partition(".")
    kind = _KIND_BY_PREFIX.get(before.strip("`")) if dot else "attribute"
    if kind is None:
        raise _make_field_error(f"there is no field {text}")
    key = (rest if dot else text).strip("`") if kind == "attribute" else _strip_quotes(rest)
    if kind == "attribute":
        key = _ALIASES.get(key, key)
    is_known = (
        key in (*_NUMBERS, *_TEXTS)
        if kind == "attribute"
        else key in _SPAN_FIELDS or key.startswith("attributes.")
        if kind == "span"
        else key == "id" or kind != "issue"
    )
    if not is_known:
        raise _make_field_error(f"there is no field {text}{_HINTS.get(text, '')}")
    return kind, key


def _list_comparisons(kind: FieldKind, key: str) -> tuple[str, ...]:
    """Return the comparisons that a field takes."""
    if kind == "attribute" and key in _NUMBERS:
        return (*_EQUAL, *_ORDER)
    if key in {"prompt", "id"} and kind in {"attribute", "issue"}:
        return ("=",)
    if (kind, key) in {("attribute", "text"), ("span", "content")}:
        return _LIKE[:2]
    if kind == "span" or (kind == "attribute" and key in {"status", "request_id", "client_request_id"}):
        return (*_EQUAL, *_IN, *_LIKE)
    return (*_EQUAL, *(_ORDER if kind in {"feedback", "expectation"} else ()), *_LIKE, *_NULL)


def _parse_value(text: str) -> Value:
    if text[0] == "(":
        return tuple(one[1:-1] for one in re.findall(_TEXT, text))
    if text[0] in "'\"":
        return text[1:-1]
    return float(text) if "." in text else int(text)


def _strip_quotes(text: str) -> str:
    return text[1:-1] if text[0] in "`'\"" and text[-1] == text[0] and text.count(text[0]) == 2 else text


def _skip_space(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    return at if found is None else found.end()


def _show(text: str, at: int) -> str:
    """Return what stands at *at*, for a message."""
    rest = text[at:].strip()
    return "nothing" if not rest else repr(rest[:30] + ("..." if len(rest) > 30 else ""))


def _join_or(words: tuple[str, ...]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"


def _make_error(what: str) -> UsageError:
    return UsageError(f"--filter: {what}")


def _make_field_error(what: str) -> UsageError:
    return _make_error(f"{what}; {_ALLOWED}")
