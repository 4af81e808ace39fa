"""Hook of LangChain and LangGraph: it adds the callback handler, and patches the contexts of runs and embeddings."""

from __future__ import annotations

import asyncio
import functools
import importlib
import os
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, ClassVar, Final

from opentelemetry import context as otel

from ..._shape import get_nested
from ...hooks.hook import AutologSettings, Call, Hook
from ...hooks.patching import Undo, apply_patches, replace_function
from ...hooks.subclasses import trace_subclasses
from ...tracing.operations.records import Embeddings, Observe
from . import graphs
from . import messages as read
from .callbacks import CallbackHandler
from .graphs import langchain_runs, make_run_key


def _make_span_current(original: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap LangChain's ``_set_config_context``, so that a run's span is current in the context of the run's code.

    The context is a copy that LangChain makes for the run, so nothing has to be detached. If LangChain has no such
    function, spans that user code starts inside of a run stand below the caller's span instead.
    """

    @functools.wraps(original)
    def set_config_context(config: Any, *rest: Any) -> Any:
        result = original(config, *rest)
        operation = langchain_runs.find_operation(make_run_key(getattr(config.get("callbacks"), "parent_run_id", None)))
        if operation is not None:
            otel.attach(operation.context)
        return result

    return set_config_context


def _restore_caller_context(original: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap an asynchronous method, so that the caller's OpenTelemetry context is current again after the call.

    LangChain reports the end of such a call in a task of its own, where nothing can be detached for the caller.
    """

    @functools.wraps(original)
    async def call_and_restore(*args: Any, **kwargs: Any) -> Any:
        before = otel.get_current()
        try:
            return await original(*args, **kwargs)
        except asyncio.CancelledError as error:
            if otel.get_current() is not before and (run_id := langchain_runs.get_current_id()) in langchain_runs:
                langchain_runs.end_operation(run_id, error)  # LangChain reports no end of a call that is cancelled
            raise
        finally:
            if otel.get_current() is not before:
                otel.attach(before)

    return call_and_restore


_PATCHES: Final = {
    "langchain_core.runnables.config:_set_config_context": _make_span_current,
    "langgraph._internal._runnable:_set_config_context": _make_span_current,
    "langgraph.utils.runnable:_set_config_context": _make_span_current,  # of LangGraph before 0.6
    "langchain_core.language_models.chat_models:BaseChatModel.agenerate": _restore_caller_context,
    "langchain_core.language_models.llms:BaseLLM.agenerate": _restore_caller_context,
    "langchain_core.retrievers:BaseRetriever.ainvoke": _restore_caller_context,
}


def _begin_embeddings(call: Call) -> tuple[Embeddings, Observe[Embeddings]]:
    """Begin the record of ``embed_documents(texts)`` or ``embed_query(text)``, for which LangChain has no callbacks."""
    owner = call.args[0]
    model = next((name for key in ("model", "model_name") if (name := get_nested(owner, key, str))), None)
    name = type(owner).__name__.removesuffix("Embeddings").lower() or "unknown"
    record = Embeddings(provider=read.PROVIDER_NAMES.get(name, name), model=model, outer=True)
    if call.capture_content:
        record.input = (*call.args[1:], *call.kwargs.values())[0]
    return record, _observe_vectors


def _observe_vectors(record: Embeddings, vectors: Any) -> None:
    """Read the number of dimensions of one vector or several."""
    one = vectors[0] if isinstance(vectors, list) and vectors and isinstance(vectors[0], list) else vectors
    record.dimensions = len(one) if isinstance(one, list) else None


def _trace_embeddings(hook: Hook) -> Undo:
    """Trace the methods of all classes of embeddings."""
    open_ = functools.partial(hook.start_operation, _begin_embeddings)
    names = ("embed_documents", "embed_query", "aembed_documents", "aembed_query")
    return trace_subclasses("langchain_core.embeddings:Embeddings", dict.fromkeys(names, open_))


def _install_callbacks(hook: Hook) -> Undo:
    """Add the callback handler to every run, and apply the patches."""
    callbacks = importlib.import_module("langchain_core.callbacks")
    context = importlib.import_module("langchain_core.tracers.context")
    strict = os.environ.get("MLSPAN_STRICT") == "1"
    handler = type(
        "MlspanHandler", (CallbackHandler, callbacks.BaseCallbackHandler), {"hook": hook, "raise_error": strict}
    )()
    var: ContextVar[Any] = ContextVar("mlspan_langchain", default=handler)
    context.register_configure_hook(var, inheritable=True)
    entry = context._configure_hooks[-1]
    patches = [(target, functools.partial(replace_function, target, made)) for target, made in _PATCHES.items()]
    unpatch = apply_patches([*patches, ("embeddings", functools.partial(_trace_embeddings, hook))])

    def undo() -> None:
        unpatch()
        if entry in context._configure_hooks:  # LangChain has no public way to unregister a hook
            context._configure_hooks.remove(entry)

    return undo


CORE_HOOK: Final = Hook("langchain-core>=0.3.60,<2", "langchain_core", _install_callbacks)


class SharedHook(Hook):
    """The hook of LangChain or of LangGraph, which share their patches.

    Turning on either installs the patches of both. They are removed when both have been turned off.
    """

    _requested_settings: ClassVar[dict[str, AutologSettings | None]] = {}

    def __init__(self, requires: str, module: str) -> None:
        super().__init__(requires, module, lambda _: lambda: None)

    @property
    def backing_hook(self) -> Hook:
        """Return the hook that holds the patches of this library."""
        return CORE_HOOK if self.module == CORE_HOOK.module else graphs.HOOK

    def apply_settings(self, settings: AutologSettings | None) -> None:
        """Turn the patches of both libraries on, or off unless the other face still wants them."""
        settings = self._apply_policy(settings)
        self._wanted, self.settings = settings is not None, settings or self.settings
        self._requested_settings[self.module] = settings
        both = next((one for one in self._requested_settings.values() if one is not None), None)
        for hook in (CORE_HOOK, graphs.HOOK):
            hook.apply_settings(settings if settings is not None else both)
