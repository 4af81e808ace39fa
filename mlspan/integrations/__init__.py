"""One module for each framework. ``integrations.openai.autolog()`` turns one on, ``integrations.autolog()`` all."""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from . import ag2, autogen, langchain, langgraph, llama_index, openai

__all__ = ["Instrumentor", "ag2", "autogen", "autolog", "langchain", "langgraph", "llama_index", "openai"]

_NAMES: Final = ("ag2", "autogen", "langchain", "langgraph", "llama_index", "openai")


def autolog(
    log_traces: bool = True,
    disable: bool = False,
    exclusive: bool = False,
    disable_for_unsupported_versions: bool = True,
    silent: bool = False,
) -> None:
    """Turn on every integration whose library is imported already, or will be; import none of them.

    The arguments are those of each integration's own ``autolog``.
    """
    from ._hook import Settings

    settings = Settings(log_traces, exclusive, silent, not disable_for_unsupported_versions)
    for name in _NAMES:
        importlib.import_module(f"{__name__}.{name}").HOOK.apply(None if disable else settings)


class Instrumentor:
    """For ``opentelemetry-instrument python app.py``, which finds us through an entry point."""

    def instrument(self, **_: Any) -> None:
        autolog()

    def uninstrument(self, **_: Any) -> None:
        autolog(disable=True)


def __getattr__(name: str) -> ModuleType:
    if name in _NAMES:
        return importlib.import_module(f"{__name__}.{name}")
    msg = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(msg)
