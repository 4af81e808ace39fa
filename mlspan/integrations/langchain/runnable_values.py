"""Inputs and outputs of LangChain's runnables as small plain data: messages, prompts, documents, states of graphs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, Final, TypeAlias

from ..._shape import get_field, get_fields
from ...tracing.operations.content import to_json
from ...tracing.operations.plain_values import CYCLE, KeptList
from .messages import ROLES, find_first, read_text_message

# By identity, what one walk has simplified: the object, kept so that nothing else gets its id, and the result.
_Seen: TypeAlias = dict[object, tuple[object, object]]


def simplify_runnable_value(value: object) -> object:
    """Return the input or output of a runnable as small plain data, for JSON.

    Messages become OpenAI's dicts of role and content, documents their text and metadata, LangGraph's commands their
    fields. An object that stands in several places is walked once, and one that contains itself is marked. Values
    nested deeper than 20 levels and objects of other classes stay as they are: they are copied within a budget later.
    """
    return _simplify(value, 0, {})


def _simplify(value: object, depth: int, seen: _Seen) -> object:
    if type(value) in _SCALAR_TYPES or isinstance(value, (str, int, float)) or depth > _MAX_DEPTH:
        return value
    if (known := seen.get(id(value))) is not None:
        return known[1]
    seen[id(value)] = (value, CYCLE)
    simple = _simplify_object(value, depth + 1, seen)
    seen[id(value)] = (value, simple)
    return simple


def _simplify_object(value: object, depth: int, seen: _Seen) -> object:
    """Simplify an object that is no scalar; *depth* is that of what it holds."""
    if (form := _find_formatter(type(value))) is not None:  # type: ignore[arg-type]  # mypy: type[Any] is not hashable
        return form(value)
    if isinstance(value, (dict, Mapping)):  # dict first, as a check against Mapping takes several times as long
        return {str(key): _simplify_entry(key, one, depth, seen) for key, one in value.items()}
    if isinstance(value, (list, tuple)) and not hasattr(value, "_fields"):
        return [_simplify(one, depth, seen) for one in value]
    if names := _CONTROL_FIELDS.get(type(value).__name__):  # LangGraph's Command and Send
        fields = {name: _simplify(getattr(value, name, None), depth, seen) for name in names}
        return {name: one for name, one in fields.items() if one not in (None, [], ())}
    if (names := _list_declared_fields(type(value))) is not None:  # type: ignore[arg-type]  # as above
        known = get_fields(value)
        names = (*names, *(getattr(value, "__pydantic_extra__", None) or ()))
        return {name: _simplify_entry(name, known[name], depth, seen) for name in names if name in known}
    return value


def _simplify_entry(key: object, value: object, depth: int, seen: _Seen) -> object:
    """Simplify an entry of a state; under ``messages``, some may be pairs of role and text."""
    if type(value) in _SCALAR_TYPES:
        return value
    if key != "messages" or not isinstance(value, list):
        return _simplify(value, depth, seen)
    if (known := seen.get((key, id(value)))) is not None:  # apart from the same list elsewhere, where pairs are pairs
        return known[1]
    seen[key, id(value)] = (value, CYCLE)
    pairs = [one if isinstance(one, tuple) and len(one) == _PAIR_LENGTH else None for one in value]
    simple = [
        _simplify(one, depth, seen) if pair is None else {"role": pair[0], "content": pair[1]}
        for one, pair in zip(value, pairs, strict=True)
    ]
    seen[key, id(value)] = (value, simple)
    return simple


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
    if (text := read_text_message(value)) is not None:
        return {"role": text[0], "content": text[1]}
    kind, known = value.type, get_fields(value)
    said: dict[str, object] = {"role": ROLES.get(kind, kind), "content": value.content}
    if calls := known.get("tool_calls"):
        said["tool_calls"] = [_format_tool_call(call) for call in calls]
    if call_id := known.get("tool_call_id"):
        said["tool_call_id"] = call_id
    return said


def _format_prompt(value: Any) -> list[object]:
    """Return the messages of a prompt value."""
    texts = list(map(read_text_message, value.messages))
    if None in texts:
        return [simplify_runnable_value(one) for one in value.messages]
    return KeptList({"role": role, "content": content} for role, content in filter(None, texts))


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
