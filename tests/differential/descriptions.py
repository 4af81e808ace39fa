"""Values as JSON that two processes can compare: what a program can see of an object, without addresses and ids."""

from __future__ import annotations

import inspect
import pickle
import re
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

HERE: Final = Path(__file__).parent
_DEEPEST: Final = 6
# A generator of the HTTP client, or its closing, that asyncio could not finish at the end of a loop: whether and which
# is chance, in the program without mlspan too.
CHANCE: Final = "<a generator of the client>"
_VARIABLE: Final = (  # what differs from one run to the next
    (re.compile(r"0x[0-9a-f]{6,}"), "0x"),
    (re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"), "UUID"),
    (
        re.compile(r"<async_generator object (\w*(Response|Stream)|Async\w*Client)\.[\w.<>]+ at 0x>"),
        CHANCE,
    ),  # which of several within each other reports is chance
    (re.compile(r"<async_generator_athrow without __name__>"), CHANCE),
    (re.compile(r"\b127\.0\.0\.1:\d+/(?:bare|traced)/"), "HOST/"),
    (re.compile(r"LoggingWorker: event loop changed"), CHANCE),  # of LiteLLM, which logs in tasks of its own
    (re.compile(r"\d\d:\d\d:\d\d - LiteLLM"), "LiteLLM"),
    (re.compile(r"([🅰🅑🅣]) ?\w+"), r"\1"),  # of browser-use: the ends of ids
    (re.compile(r"Tab \w{4}:"), "Tab ID:"),
    (re.compile(r"\b127\.0\.0\.1:\d+/(?=json|devtools)"), "CHROMIUM/"),
    (re.compile(r"Retrying request in [\d.]+ seconds"), "Retrying request"),
    (re.compile(r"fd=\d+(?=, family=)|(?<='127\.0\.0\.1', )\d+"), "N"),  # of a socket that is not closed
    (re.compile(r"\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT"), "DATE"),
    (re.compile(r"\b(Task|Thread|ForkPoolWorker|Process|pid)[-= ]\d+"), r"\1-N"),
)


def normalize_text(text: str) -> str:
    """Return *text* without what differs from one run to the next."""
    for pattern, replacement in _VARIABLE:
        text = pattern.sub(replacement, text)
    return text


def describe(value: Any, depth: int = 0) -> Any:
    """Return *value* as JSON: its class, its contents and, where it can be called, all that can be seen of that."""
    if value is None or isinstance(value, bool) or type(value) in {int, float}:
        return value
    if type(value) is str:
        return normalize_text(value)
    if type(value) in {bytes, bytearray}:
        return [type(value).__name__, normalize_text(bytes(value).decode("latin-1"))]
    if depth > _DEEPEST:
        return _name_class(value.__class__)
    if isinstance(value, BaseException):
        return describe_error(value, depth)
    if isinstance(value, type):
        return {"class": _name_class(value), "mro": [_name_class(one) for one in value.__mro__], **_sign(value)}
    contents = _describe_contents(value, depth + 1)
    # A proxy says the class of what it stands for: isinstance() of every class of these is what the program asks.
    return {"isinstance": [_name_class(one) for one in value.__class__.__mro__], **contents}


def _describe_contents(value: Any, depth: int) -> dict[str, Any]:
    if isinstance(value, Mapping):
        return {"items": [[describe(key, depth), describe(one, depth)] for key, one in value.items()]}
    if isinstance(value, (list, tuple)):
        return {"items": [describe(one, depth) for one in value]}
    if isinstance(value, (set, frozenset)):
        return {"items": sorted(repr(describe(one, depth)) for one in value)}
    if callable(getattr(type(value), "model_dump", None)):
        return {"fields": describe(value.model_dump(warnings=False), depth)}
    if callable(getattr(type(value), "tolist", None)):
        return {"array": describe(value.tolist(), depth)}
    found: dict[str, Any] = {"dir": [name for name in dir(value) if not name.startswith("_")]}
    if callable(value):
        return found | describe_callable(value)
    return found | {"repr": normalize_text(repr(value))}


def describe_callable(fn: Callable[..., Any]) -> dict[str, Any]:
    """Return what inspect, help and pickle make of a callable."""
    kinds = ("iscoroutinefunction", "isgeneratorfunction", "isasyncgenfunction", "isfunction", "ismethod", "isbuiltin")
    named = ("__name__", "__qualname__", "__module__", "__doc__", "__annotations__")
    return {
        **_sign(fn),
        "kinds": [kind for kind in kinds if getattr(inspect, kind)(fn)],
        "names": {name: normalize_text(repr(getattr(fn, name, "-"))) for name in named},
    }


def _sign(fn: Any) -> dict[str, str]:
    try:
        return {"signature": normalize_text(str(inspect.signature(fn)))}
    except (TypeError, ValueError) as error:
        return {"signature": type(error).__name__}


def describe_pickle(value: Any) -> Any:
    """Return what pickling *value* comes to: the class of the error, or what is loaded again."""
    try:
        text = pickle.dumps(value)
    except Exception as error:
        return {"error": type(error).__name__}
    try:
        return describe(pickle.loads(text), _DEEPEST - 1)
    except Exception as error:
        return {"loading": type(error).__name__}


def describe_error(error: BaseException, depth: int = 0) -> dict[str, Any]:
    """Return class, text, arguments and attributes of an exception, its causes, and the frames that users wrote."""
    found: dict[str, Any] = {
        "isinstance": [_name_class(one) for one in type(error).__mro__],
        "text": keep_user_lines(str(error)),
        "args": describe([keep_user_lines(one) if isinstance(one, str) else one for one in error.args], depth + 1),
        "attributes": sorted(vars(error)),
        "notes": [normalize_text(note) for note in getattr(error, "__notes__", [])],
        "frames": [
            f"{Path(frame.filename).name}:{frame.lineno} {frame.name}"
            for frame in traceback.extract_tb(error.__traceback__)
            if is_user_file(frame.filename)
        ],
    }
    for name, other in (("cause", error.__cause__), ("context", error.__context__)):
        if other is not None and depth < _DEEPEST and not (name == "context" and error.__suppress_context__):
            found[name] = describe_error(other, depth + 2)
    if isinstance(getattr(error, "exceptions", None), tuple):
        found["exceptions"] = [describe_error(one, depth + 2) for one in error.exceptions]  # type: ignore[attr-defined]
    return found


def is_user_file(name: str) -> bool:
    """Return whether a file stands for the user's program: the scenarios, and what a test makes visible."""
    path = Path(name)
    return path.parent == HERE and path.name.startswith(("scenarios_", "test_"))


def keep_user_lines(text: str) -> str:
    """Return *text*; if it is a traceback, as text from another process, then only the lines of the user's files."""
    text = normalize_text(text)
    if "Traceback (most recent call last)" not in text:
        return text
    lines = text.strip().split("\n")
    return "\n".join([*(line.strip() for line in lines if str(HERE) in line and "scenarios_" in line), lines[-1]])


def _name_class(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"
