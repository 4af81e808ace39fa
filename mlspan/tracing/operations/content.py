"""The content policy: whether content is recorded, redacted and cut to size, and how it becomes valid JSON.

It is applied when a span of ours ends. ``redact`` covers all content; :func:`mask_api_keys` covers exceptions here, and
in ``attribute_redaction.py`` all text that is not content, before it is stored or sent. ``plain_values.py`` does the
cutting.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

import orjson

from ..._guard import REDACTION_FAILED, let_handler_through, warn_once
from .foreign_objects import as_text, replace_surrogates
from .plain_checks import are_text_messages, is_cheaply_plain
from .plain_values import KEEP, OPTIONS, KeptDict, KeptList, copy_bounded, cut_text, to_plain_data

__all__ = [
    "REDACTED",
    "ContentPolicy",
    "Redact",
    "as_text",
    "make_redactor",
    "mask_api_keys",
    "parsed_to_json",
    "replace_surrogates",
    "to_attribute",
    "to_json",
    "to_plain_data",
]

Redact: TypeAlias = Callable[[str], str] | Iterable[str | re.Pattern[str]]
REDACTED = "[redacted]"
_MAX_UNCUT_BYTES = 64 * 1024 * 1024  # plain values up to this size become JSON as they are, larger ones are cut
_TRIES = 5  # copies, each smaller than the one before, until the written JSON fits


def make_redactor(redact: Redact | None) -> Callable[[str], str] | None:
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

    def redact_matches(text: str) -> str:
        for pattern in patterns:
            text = pattern.sub(REDACTED, text)
        return text

    return redact_matches


_API_KEY = re.compile(  # API keys of the providers, and HTTP's credentials
    r"""\b(?:(?:sk|rk|pk|xai|pplx|nvapi|glpat)-(?=[\w-]*\d)[\w-]{16,}|(?:gsk|hf|r8|gh[pousr]|github_pat)_\w{20,}
    |AIza[\w-]{30,}|AKIA[A-Z0-9]{16}|xox[abprs]-[\w-]{10,})|\b(?:Bearer|Basic)\ [\w.~+/=-]{16,}""",
    re.VERBOSE,
)

_SHORTEST_API_KEY = len("xoxa-") + 10
_API_KEY_HINTS = (
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


def mask_api_keys(text: str) -> str:
    """Return *text* without keys of well-known APIs: error messages quote them, and foreign spans may hold anything."""
    if len(text) >= _SHORTEST_API_KEY and any(map(text.__contains__, _API_KEY_HINTS)):
        return _API_KEY.sub(REDACTED, text)
    return text


class ContentPolicy:
    """The rules by which content is written to attributes.

    Args:
        capture: whether content is recorded at all.
        on_spans: whether spans get it, too, or the events of OpenTelemetry's logs alone. Default: as *capture*.
        redact: a function that is applied to every string.
        limit: the most bytes of one attribute.
    """

    __slots__ = ("capture", "limit", "on_spans", "redact")

    def __init__(
        self, *, capture: bool, redact: Callable[[str], str] | None, limit: int, on_spans: bool | None = None
    ) -> None:
        self.on_spans = capture if on_spans is None else on_spans
        self.capture, self.redact, self.limit = capture, redact, limit

    def limit_to(self, limit: int | None) -> ContentPolicy:
        """Return this, with at most *limit* bytes an attribute: what OpenTelemetry's own limit leaves of one."""
        if limit is None or limit >= self.limit:
            return self
        return ContentPolicy(capture=self.capture, redact=self.redact, limit=limit, on_spans=self.on_spans)

    def render_text(self, value: str) -> str:
        """Return free text that stands outside of messages as it may be written: redacted, and cut to the limit."""
        if self.redact is None and len(value) < self.limit and value.isascii():
            return str(value)
        if self.redact is not None:
            try:
                value = str(self.redact(value))
            except Exception as error:  # noqa: BLE001  # as in render_json
                let_handler_through(error)
                value = _report_failed_redaction(error)
        return cut_text(replace_surrogates(value), self.limit)

    def render_error(self, value: str) -> str:
        """Return the text of an exception, redacted and cut; it may quote the API key that was refused."""
        return self.render_text(mask_api_keys(value))

    def describe_error(self, kind: str, message: str) -> str:
        """Return what a span says of an error: its message, which may quote content; without content, its type."""
        return self.render_error(message) if self.on_spans else kind

    def render_json(self, value: object) -> str:
        """Return *value* as JSON text: redacted, and cut where it is longer than the limit."""
        if self.redact is None and (
            type(value) in _KEPT
            or (type(value) is list and are_text_messages(value, self.limit))
            or is_cheaply_plain(value, self.limit)
        ):
            try:
                written = orjson.dumps(value, option=OPTIONS)
            except (TypeError, ValueError, RecursionError):  # lone surrogates, integers over 64 bits, too many levels
                pass
            else:
                if len(written) <= self.limit:
                    return written.decode()
        return self._render_bounded(value)

    def render_string(self, value: object) -> str:
        """Return text as it is and anything else as JSON, for an attribute that the conventions define as a string."""
        if type(value) is str:
            return self.render_text(value)
        if issubclass(type(value), str):  # isinstance would ask the value itself
            return self.render_text(as_text(value))
        return self.render_json(value)

    def _render_bounded(self, value: object) -> str:
        """Return as much of *value* as there is room for.

        JSON escapes add bytes, so the written size is checked and the copy is made smaller until it fits.
        """
        room, is_list = self.limit, issubclass(type(value), list)  # isinstance would ask the value itself
        for _ in range(_TRIES):
            try:
                kept = copy_bounded(value, room, text=self.redact)
            except Exception as error:  # noqa: BLE001  # the user's function: nothing unredacted may leave
                let_handler_through(error)
                kept = _report_failed_redaction(error)
                value = [] if is_list else kept
            if type(kept) is not list and is_list:
                kept = []  # of messages, nothing else may stand there
            written = _dump_plain(kept)
            if len(written) <= self.limit:
                if is_list and len(kept) < list.__len__(value):  # type: ignore[arg-type]  # its own may raise
                    warn_once("mlspan: content over max_content_bytes: some messages are not recorded")
                return written.decode()
            room = min(room * self.limit // len(written), room * 3 // 4) - 2
        return "[]" if is_list else '""' if self.limit < len(_ALL) else f'"{_ALL}"'


_KEPT = (KeptDict, KeptList)
_ALL = "[cut: all of it]"


def _report_failed_redaction(error: Exception) -> str:
    """Warn once that the redact function failed, and return the text that replaces the content."""
    name = type(error).__name__
    warn_once(REDACTION_FAILED + " %s; what it was given is not recorded", name, place=name)
    return "[not recorded: the redact function failed]"


def to_json(value: object) -> str:
    """Return JSON of anything at all: what JSON cannot say becomes its ``str``, what has no end is cut."""
    try:
        kind = type(value)
        short = len(value) <= _MAX_UNCUT_BYTES if kind is str else kind in _NUMBERS  # type: ignore[arg-type]  # a str
        if short or is_cheaply_plain(value, _MAX_UNCUT_BYTES):
            return orjson.dumps(value, option=OPTIONS).decode()
    except (TypeError, ValueError, RecursionError):  # lone surrogates, integers over 64 bits, too many levels
        pass
    return _dump_plain(copy_bounded(value, 2 * KEEP)).decode()


_NUMBERS = frozenset({int, float, bool})


def parsed_to_json(value: object) -> str:
    """Return JSON of what was parsed from JSON, or holds scalars alone: nothing has to be looked through first."""
    try:
        return orjson.dumps(value, option=OPTIONS).decode()
    except (TypeError, ValueError, RecursionError):  # as above
        return to_json(value)


def to_attribute(value: object) -> Any:
    """Return anything at all as what an attribute may hold: a scalar, a list of scalars, and JSON of all else.

    Receivers refuse values that are nested deeply, and older SDKs all that are nested.
    """
    if type(value) in _SCALARS:
        return value
    kept = to_plain_data(value)
    if isinstance(kept, list):
        return kept if _SCALARS.issuperset(map(type, kept)) else to_json(kept)
    return to_json(kept) if isinstance(kept, dict) else kept


_SCALARS = frozenset({str, bool, int, float, bytes})


def _dump_plain(kept: object) -> bytes:
    """Return the JSON of a bounded copy. The parts of it that were shared with the caller's value may be too deep."""
    try:
        return orjson.dumps(kept, option=OPTIONS)
    except (TypeError, ValueError, RecursionError):
        return orjson.dumps(copy_bounded(kept, 2**40, text=replace_surrogates))
