"""Where LangChain and LangGraph are hooked: the handler's way in, the contexts of runs, and embeddings."""

from __future__ import annotations

import asyncio
import functools
import importlib
import os
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, ClassVar, Final

from opentelemetry import context as otel

from .._shape import dig
from ..tracing.records import Embeddings, Observe
from . import _langchain_read as read
from . import _langgraph
from ._family import watch_family
from ._hook import Call, Hook, Settings
from ._langchain import Handler, parents
from ._langgraph import ledger, number
from ._patch import Undo, all_there, replace


def _within(original: Callable[..., Any]) -> Callable[..., Any]:
    """LangChain's own setting up of the context that a run's code gets, with the run's span current in it."""

    @functools.wraps(original)
    def set_config_context(config: Any, *rest: Any) -> Any:
        result = original(config, *rest)
        live = ledger.get(number(getattr(config.get("callbacks"), "parent_run_id", None)))
        if live is not None:
            otel.attach(live.context)
        return result

    return set_config_context


def _restoring(original: Callable[..., Any]) -> Callable[..., Any]:
    """An asynchronous call whose end is told in a task of its own, where nothing can be detached for the caller."""

    @functools.wraps(original)
    async def restoring(*args: Any, **kwargs: Any) -> Any:
        before = otel.get_current()
        try:
            return await original(*args, **kwargs)
        except asyncio.CancelledError as error:
            if otel.get_current() is not before and (run_id := ledger.here()) in ledger:
                ledger.end(run_id, error)  # of a call that is cancelled, LangChain tells no end
                parents.pop(run_id, None)
            raise
        finally:
            if otel.get_current() is not before:
                otel.attach(before)

    return restoring


_PATCHES: Final = {
    "langchain_core.runnables.config:_set_config_context": _within,
    "langgraph._internal._runnable:_set_config_context": _within,
    "langgraph.utils.runnable:_set_config_context": _within,  # of LangGraph before 0.6
    "langchain_core.language_models.chat_models:BaseChatModel.agenerate": _restoring,
    "langchain_core.language_models.llms:BaseLLM.agenerate": _restoring,
    "langchain_core.retrievers:BaseRetriever.ainvoke": _restoring,
}


def _embedding(call: Call) -> tuple[Embeddings, Observe[Embeddings]]:
    """``embed_documents(texts)`` or ``embed_query(text)`` of any class: LangChain tells nothing of embeddings."""
    owner = call.args[0]
    model = next((name for key in ("model", "model_name") if (name := dig(owner, key, str))), None)
    name = type(owner).__name__.removesuffix("Embeddings").lower() or "unknown"
    record = Embeddings(provider=read.PROVIDERS.get(name, name), model=model, outer=True)
    if call.content:
        record.input = (*call.args[1:], *call.kwargs.values())[0]
    return record, _observe_vectors


def _observe_vectors(record: Embeddings, vectors: Any) -> None:
    one = vectors[0] if isinstance(vectors, list) and vectors and isinstance(vectors[0], list) else vectors
    record.dimensions = len(one) if isinstance(one, list) else None


def _embeddings(hook: Hook) -> Undo:
    open_ = functools.partial(hook.open, _embedding)
    names = ("embed_documents", "embed_query", "aembed_documents", "aembed_query")
    return watch_family("langchain_core.embeddings:Embeddings", dict.fromkeys(names, open_))


def _install(hook: Hook) -> Undo:
    callbacks = importlib.import_module("langchain_core.callbacks")
    context = importlib.import_module("langchain_core.tracers.context")
    strict = os.environ.get("MLSPAN_STRICT") == "1"
    handler = type("MlspanHandler", (Handler, callbacks.BaseCallbackHandler), {"hook": hook, "raise_error": strict})()
    var: ContextVar[Any] = ContextVar("mlspan_langchain", default=handler)
    context.register_configure_hook(var, inheritable=True)
    entry = context._configure_hooks[-1]
    patches = [(target, functools.partial(replace, target, made)) for target, made in _PATCHES.items()]
    unpatch = all_there([*patches, ("embeddings", functools.partial(_embeddings, hook))])

    def undo() -> None:
        unpatch()
        if entry in context._configure_hooks:  # there is no public way back
            context._configure_hooks.remove(entry)

    return undo


CORE: Final = Hook("langchain-core>=0.3.60,<2", "langchain_core", _install)


class Shared(Hook):
    """The face of one of the two: either turns on what both share, and the last to be turned off turns it off."""

    _asked: ClassVar[dict[str, Settings | None]] = {}

    def __init__(self, requires: str, module: str) -> None:
        super().__init__(requires, module, lambda _: lambda: None)

    @property
    def real(self) -> Hook:
        return CORE if self.module == CORE.module else _langgraph.HOOK

    def apply(self, settings: Settings | None) -> None:
        settings = self._allowed(settings)
        self._wanted, self.settings = settings is not None, settings or self.settings
        self._asked[self.module] = settings
        both = next((one for one in self._asked.values() if one is not None), None)
        for hook in (CORE, _langgraph.HOOK):
            hook.apply(settings if settings is not None else both)
