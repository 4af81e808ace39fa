"""Redis's search, ``FT.SEARCH``, by its own client and by RedisVL, and what RedisVL's indexes write and delete.

Redis is used for much that has nothing to do with models. A search without a vector is recorded inside of a trace
only, and the commands that write are not recorded at all, but those of RedisVL. Neither are pipelines.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from .._shape import find_known, get_field, get_fields, get_list, get_nested
from ..hooks.call import Call
from ._vectors.database import Asked, Database, Search, Write, make_hook
from ._vectors.documents import Document, make_document

__all__ = ["HOOK", "autolog"]

_KNN: Final = re.compile(
    r"\bKNN\s+(?P<number>\S+)\s+@(?P<field>\w+)\s+\$\w+(?:[^\]]*?\bAS\s+(?P<alias>\w+))?", re.IGNORECASE
)
_RANGE: Final = re.compile(r"@(?P<field>\w+):\[\s*VECTOR_RANGE\b", re.IGNORECASE)
_ALIAS: Final = re.compile(r"\$YIELD_DISTANCE_AS:\s*(?P<alias>\w+)", re.IGNORECASE)
_BINARY: Final = re.compile(r"[\x00-\x08\x0e-\x1f]")  # what no text has, and most vectors do


def _ask_search(call: Call) -> Asked | None:
    """Read a search; one that a pipeline collects is not made yet."""
    search, query, params = call.args[0], call.argument("query"), call.argument("query_params")
    if hasattr(search, "command_stack"):
        return None
    arguments = list(query.get_args()) if hasattr(query, "get_args") else [query]
    text = next((one for one in arguments[:1] if isinstance(one, str)), "")
    knn, within = _KNN.search(text), _RANGE.search(text)
    found = knn or within
    alias = _ALIAS.search(text) or (knn if knn and knn["alias"] else None)
    field = found["field"] if found else None
    vectors = [one for one in params.values() if isinstance(one, bytes)] if isinstance(params, Mapping) else []
    return Asked(
        collection=get_nested(search, "index_name", str),
        query={"query": text, "vectors": vectors} if vectors else text,
        top_k=_find_top_k(arguments, knn, params),
        url=get_nested(search, "client.connection_pool.connection_kwargs", dict),
        is_for_vectors=found is not None,
        read=functools.partial(_read_result, field=field, distance=alias["alias"] if alias else f"__{field}_score"),
    )


def _find_top_k(arguments: list[Any], knn: re.Match[str] | None, params: object) -> int | None:
    """Return how many documents are wanted: by the part of the query with the vector, or by its limit."""
    if knn is not None:
        number = knn["number"]
        number = get_field(params, number[1:]) if number.startswith("$") else number
        return int(number) if str(number).isdecimal() else None
    limit = arguments.index("LIMIT") + 2 if "LIMIT" in arguments else None
    return arguments[limit] if limit is not None and limit < len(arguments) else None


def _read_result(got: object, *, field: str | None = None, distance: str = "") -> Iterator[Document]:
    """Read documents: objects with their fields as attributes, or a map of the third protocol.

    Args:
        got: the answer.
        field: the field that holds the vectors, as a text of bytes that are none.
        distance: the field that holds the distance.
    """
    for one in get_list(got, "docs") or get_list(got, "results"):
        known = get_fields(one)
        fields = get_nested(known, "extra_attributes", dict) or known
        stored = {
            name: value for name, value in fields.items() if name not in {"id", "payload", "score", distance, field}
        }
        yield make_document(
            known.get("id"),
            score=_read_number(known.get("score")) if distance != "score" else None,
            distance=_read_number(fields.get(distance)),
            metadata=_read_fields(stored),
        )


def _read_number(value: object) -> float | None:
    """Return a number that Redis tells as text."""
    try:
        return float(value)  # type: ignore[arg-type]  # what is no number raises
    except (TypeError, ValueError):
        return None


def _read_fields(stored: Mapping[str, object]) -> dict[str, object]:
    """Return the fields of a document, those of a JSON document in place of its text, and no bytes."""
    fields = {name: value for name, value in stored.items() if name not in {"json", "$"}}
    for text in (stored.get("json"), stored.get("$")):
        if isinstance(text, str):
            try:
                read = json.loads(text)
            except ValueError:
                read = None
            fields |= read if isinstance(read, dict) else {"json": text}
    return {name: "[bytes]" if _is_binary(value) else value for name, value in fields.items()}


def _is_binary(value: object) -> bool:
    return isinstance(value, str) and _BINARY.search(value) is not None


def _describe_index(call: Call, **more: Any) -> Asked:
    index = call.args[0]
    url = get_nested(index, "client.connection_pool.connection_kwargs", dict)
    return Asked(**{"collection": get_nested(index, "name", str), "url": url, **more})


def _ask_load(call: Call) -> Asked:
    data = call.argument("data")
    return _describe_index(call, records=data, query=data)


def _ask_drop(call: Call) -> Asked:
    given = (call.argument(name) for name in ("keys", "ids"))
    return _describe_index(call, records=find_known(given))


_SEARCH: Final = Search("FT.SEARCH", _ask_search, _read_result)
_WRITES: Final = {
    "load": Write("load", _ask_load, lambda keys: len(keys) if isinstance(keys, list) else None),
    "drop_keys": Write("delete", _ask_drop, lambda count: count),
    "drop_documents": Write("delete", _ask_drop, lambda count: count),
}
_INDEXES: Final = ("redisvl.index.index:SearchIndex", "redisvl.index.index:AsyncSearchIndex")
_REDISVL_HOOK: Final = make_hook(
    Database(
        "redis",
        "redisvl>=0.8,<1",
        "redisvl.index.index",
        {f"{cls}.{name}": method for cls in _INDEXES for name, method in _WRITES.items()},
    )
)
HOOK = make_hook(
    Database(
        "redis",
        "redis>=5.2,<9",
        "redis.commands.search.commands",
        {
            "redis.commands.search.commands:SearchCommands.search": _SEARCH,
            "redis.commands.search.commands:AsyncSearchCommands.search": _SEARCH,
        },
        is_general=True,
    ),
    _REDISVL_HOOK,
)
autolog = HOOK.autolog
