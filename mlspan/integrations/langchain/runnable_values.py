"""Inputs and outputs of LangChain's runnables as small plain data: messages, prompts, documents, states of graphs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, Final

from ..._shape import get_field, get_fields
from ...tracing.operations.content import to_json
from .messages import ROLES, find_first


def simplify_runnable_value(value: object, depth: int = 0) -> object:
    """Return the input or output of a runnable as small plain data, for JSON.

    Messages become OpenAI's dicts of role and content, documents their text and metadata, LangGraph's commands their
    fields. Values nested deeper than 20 levels become text, and objects of other classes stay as they are.
    """
    if type(value) in _SCALAR_TYPES or isinstance(value, (str, int, float)):
        return value
    if depth > _MAX_DEPTH:
        return str(value)
    if (form := _find_formatter(type(value))) is not None:  # type: ignore[arg-type]  # mypy: type[Any] is not hashable
        return form(value)
    if isinstance(value, (dict, Mapping)):  # dict first, as a check against Mapping takes several times as long
        said = {}
        for key, one in value.items():
            plainly = type(one) in _SCALAR_TYPES
            said[str(key)] = (
                one
                if plainly
                else _simplify_messages(one)
                if key == "messages"
                else simplify_runnable_value(one, depth + 1)
            )
        return said
    if isinstance(value, (list, tuple)) and not hasattr(value, "_fields"):
        return [simplify_runnable_value(one, depth + 1) for one in value]
    if names := _CONTROL_FIELDS.get(type(value).__name__):  # LangGraph's Command and Send
        fields = {name: simplify_runnable_value(getattr(value, name, None), depth + 1) for name in names}
        return {name: one for name, one in fields.items() if one not in (None, [], ())}
    if (names := _list_declared_fields(type(value))) is not None:  # type: ignore[arg-type]  # as above
        known = get_fields(value)
        names = (*names, *(getattr(value, "__pydantic_extra__", None) or ()))
        return {
            name: _simplify_messages(known[name])
            if name == "messages"
            else simplify_runnable_value(known[name], depth + 1)
            for name in names
            if name in known
        }
    return value


@lru_cache(maxsize=1000)
def _list_declared_fields(cls: type) -> tuple[str, ...] | None:
    """Return the fields that a pydantic model or a dataclass declares, such as a graph's state; None for other classes.

    They are read from the object's own dict, so that none of its code runs. Exceptions stay what they are.
    """
    if issubclass(cls, BaseException):
        return None
    for name in ("__pydantic_fields__", "__dataclass_fields__"):
        if isinstance(found := getattr(cls, name, None), dict):
            return tuple(found)
    return None


@lru_cache(maxsize=1000)
def _find_formatter(cls: type) -> Callable[[object], object] | None:
    """Return the formatter for objects of one of LangChain's classes; None for any other class.

    Knowing it by the class avoids probing each object: on a pydantic model, the lookup of an attribute that it lacks
    takes longer than all the rest.
    """
    own = [base.__name__ for base in cls.__mro__ if base.__module__.startswith("langchain_core.")]
    return next((_FORMATTERS[name] for name in own if name in _FORMATTERS), None)


_SCALAR_TYPES: Final = frozenset({str, int, float, bool, type(None)})
_CONTROL_FIELDS: Final = {"Command": ("update", "goto", "resume", "graph"), "Send": ("node", "arg")}
_MAX_DEPTH: Final = 20


def _simplify_messages(value: object) -> object:
    """Simplify the messages of a state, some of which may be pairs of role and text."""
    if not isinstance(value, list):
        return simplify_runnable_value(value)
    pairs = [one if isinstance(one, tuple) and len(one) == _PAIR_LENGTH else None for one in value]
    return [
        simplify_runnable_value(one) if pair is None else {"role": pair[0], "content": pair[1]}
        for one, pair in zip(value, pairs, strict=True)
    ]


_PAIR_LENGTH: Final = 2


def list_state_keys(outputs: object) -> list[str]:
    """Return the keys of a graph's state that a node's outputs change, sorted."""
    if type(outputs) is dict:
        return sorted(map(str, outputs))
    several = outputs if isinstance(outputs, list) else [outputs]
    changes = [one if isinstance(one, (dict, Mapping)) else get_field(one, "update") for one in several]
    return sorted({str(key) for change in changes if isinstance(change, (dict, Mapping)) for key in change})


def _format_message(value: Any) -> dict[str, object]:
    """Return a message as OpenAI writes it, which viewers know how to show."""
    kind, known = value.type, get_fields(value)
    said: dict[str, object] = {"role": ROLES.get(kind, kind), "content": value.content}
    if calls := known.get("tool_calls"):
        said["tool_calls"] = [_format_tool_call(call) for call in calls]
    if call_id := known.get("tool_call_id"):
        said["tool_call_id"] = call_id
    return said


def _format_prompt(value: Any) -> list[object]:
    """Return the messages of a prompt value."""
    return [simplify_runnable_value(one) for one in value.messages]


def _format_tool_call(call: Any) -> dict[str, object]:
    """Return a tool call as OpenAI writes it, which viewers know how to show."""
    function = {"name": call.get("name"), "arguments": to_json(call.get("args"))}
    return {"id": call.get("id"), "type": "function", "function": function}


def format_document(value: object) -> dict[str, object]:
    """Return a retrieved document as a dict of id, score, content and metadata.

    Vector stores put the score into the metadata. A document without one gets 1.0, as the conventions require a score.
    """
    metadata = get_field(value, "metadata") or {}
    score = find_first(float, metadata, names=("score", "relevance_score", "_score"))
    return {
        "id": str(get_field(value, "id") or metadata.get("id") or metadata.get("source") or ""),
        "score": 1.0 if score is None else score,
        "content": get_field(value, "page_content"),
        "metadata": dict(metadata),
    }


_FORMATTERS: Final[dict[str, Callable[[object], object]]] = {
    "BaseMessage": _format_message,
    "ChatPromptValue": _format_prompt,
    "StringPromptValue": lambda value: get_field(value, "text"),
    "Document": format_document,
}
