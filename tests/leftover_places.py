"""Every attribute of other libraries that could be changed, as a snapshot, and what of ours is found in them."""

from __future__ import annotations

import functools
import logging
import os
import signal
import sys
import types
import warnings
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import mlspan

LIBRARIES: Final = frozenset(
    [
        "openai",
        "agents",
        "langchain_core",
        "langgraph",
        "llama_index",
        "mlflow",
        "sklearn",
        "joblib",
        "loky",
        "celery",
        "concurrent",
        "multiprocessing",
        "asyncio",
        "threading",
        "grpc",
        "opentelemetry",
        "wrapt",
        "httpx",
        "logging",
        "warnings",
        "builtins",
    ]
)
DEPTH: Final = 5  # steps from an attribute to what it holds: a registry's list of entries of callbacks
LARGEST: Final = 5000  # entries of a container that is looked into
Places = dict[str, Any]


def iterate_places() -> Iterator[tuple[str, Any]]:
    """Yield each attribute of each module, of its classes and of its module-level objects, with its place."""
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] not in LIBRARIES or not isinstance(module, types.ModuleType):
            continue
        for key, value in list(module.__dict__.items()):
            yield f"{name}:{key}", value
            if isinstance(value, type):
                if value.__module__ == name:
                    for attribute, entry in list(vars(value).items()):
                        yield f"{name}:{key}.{attribute}", entry
            elif type(value).__module__ == name:
                for attribute, entry in list(_read_instance(value).items()):
                    yield f"{name}:{key}.{attribute}", entry


def iterate_registries() -> Iterator[tuple[str, list[Any]]]:
    """Yield what is registered with the interpreter, with warnings and with logging."""
    yield "sys.meta_path", [one for one in sys.meta_path if type(one).__name__ != "ImportHookFinder"]  # wrapt's, inert
    yield "SIGTERM", [signal.getsignal(signal.SIGTERM)]
    yield "warnings.filters", [(one[0], str(one[1]), one[2], str(one[3]), one[4]) for one in warnings.filters]
    for name, logger in [("root", logging.root), *logging.root.manager.loggerDict.items()]:
        if isinstance(logger, logging.Logger) and not name.startswith("mlspan"):
            filters = [*logger.filters, *(one for handler in logger.handlers for one in handler.filters)]
            yield f"logger {name}", [*filters, *logger.handlers]


def take_snapshot() -> Places:
    """Return what can be patched: functions, classes, descriptors and plain values, and the registries."""
    return {**dict(iterate_places()), **dict(iterate_registries())}


def find_changes(before: Places) -> Iterator[str]:
    """Yield the places that are not what they were *before*, and the names that classes had not."""
    now = take_snapshot()
    for place, value in now.items():
        if place.startswith(OWN_CHANGES):
            continue
        if place in before and not _is_same(before[place], value):
            yield f"{place} was {before[place]!r:.90} and is {value!r:.90}"
        elif place not in before and _is_function(value) and f"{place.rpartition('.')[0]}.__module__" in before:
            yield f"{place} is new: {value!r:.90}"
    yield from (f"{place} is gone" for place in before if place not in now and not place.startswith(OWN_CHANGES))


def find_ours() -> Iterator[str]:
    """Yield the places that hold something of ours, at whatever depth."""
    looked: dict[int, int] = {}
    for place, value in [*iterate_places(), *iterate_registries()]:
        if place.startswith(NEVER_REMOVED):
            continue
        for one in _unfold(value, DEPTH, looked):
            if _is_ours(one):
                yield f"{place} holds {one!r:.150}"
                break


NEVER_REMOVED: Final = (  # OpenTelemetry's API takes no instrument back; ours report what no pipeline counts any more
    "opentelemetry.metrics._internal:_PROXY_METER_PROVIDER",
)
OWN_CHANGES: Final = (  # what the libraries change themselves as they are used
    "logger mlflow",
    "logger alembic",
)


def _is_same(before: Any, now: Any) -> bool:
    """Return whether a place is as it was; of containers and objects only the registries are compared."""
    if before is now or isinstance(now, types.BuiltinMethodType | types.MethodType):
        return True
    if isinstance(before, list) and isinstance(now, list):
        pairs = zip(before, now, strict=False)
        return len(before) == len(now) and all(a is b or (type(a) is tuple and a == b) for a, b in pairs)
    return not (_is_function(before) or _is_function(now))


def _is_function(value: Any) -> bool:
    return callable(value) or isinstance(value, (staticmethod, classmethod, property))


def _read_instance(value: Any) -> dict[str, Any]:
    """Return the attributes that an object itself has; an attribute that is made when it is asked for is not."""
    try:
        found = object.__getattribute__(value, "__dict__")
    except AttributeError:
        return {}
    return found if type(found) is dict else {}


def _unfold(value: Any, depth: int, looked: dict[int, int]) -> Iterator[Any]:
    """Yield *value* and what it holds, to the given depth; *looked* has the depth by object that was looked into."""
    if type(value) in {str, int, float, bool, bytes, type(None)} or looked.get(id(value), -1) >= depth:
        return
    looked[id(value)] = depth
    yield value
    if depth:
        for one in _list_held(value):
            yield from _unfold(one, depth - 1, looked)


def _list_held(value: Any) -> list[Any]:
    """Return what a function, a container or an object of one of the libraries holds."""
    if isinstance(value, types.FunctionType):
        cells = [cell.cell_contents for cell in value.__closure__ or () if not _is_empty(cell)]
        return [*cells, *vars(value).values()]
    if type(value) in {list, tuple, set, frozenset, deque}:
        return list(value) if len(value) < LARGEST else []
    if isinstance(value, dict):
        return list(dict.values(value)) if len(value) < LARGEST else []
    if isinstance(value, (classmethod, staticmethod, types.MethodType)):
        return [value.__func__]
    if isinstance(value, property):
        return [value.fget, value.fset]
    if isinstance(value, functools.partial):
        return [value.func, *value.args, *value.keywords.values()]
    if isinstance(value, logging.Logger) and value.name.startswith("mlspan"):
        return []
    if isinstance(value, (type, types.ModuleType)) or type(value).__module__.partition(".")[0] not in LIBRARIES:
        return []
    return list(_read_instance(value).values())


def _is_empty(cell: types.CellType) -> bool:
    try:
        cell.cell_contents  # noqa: B018  # an empty one raises
    except ValueError:
        return True
    return False


_PACKAGE = f"{Path(mlspan.__file__).parent}{os.sep}"


def _is_ours(value: Any) -> bool:
    """Return whether mlspan has made *value*: a function, a class, or an object of a class."""
    if isinstance(value, types.ModuleType):
        return False
    if isinstance(value, types.FunctionType):
        return value.__code__.co_filename.startswith(_PACKAGE)  # a checkout may be in a folder of the same name
    owner = value if isinstance(value, type) else type(value)
    return any(str(base.__module__).partition(".")[0] == "mlspan" for base in owner.__mro__)
