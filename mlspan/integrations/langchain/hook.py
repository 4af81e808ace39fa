"""Hook of LangChain and LangGraph: it adds the callback handler, and patches the contexts of runs and embeddings."""

from __future__ import annotations

import asyncio
import functools
import os
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, ClassVar, Final

from opentelemetry import context as otel

from ..._shape import get_nested
from ...hooks.autolog_settings import AutologSettings
from ...hooks.call import Call
from ...hooks.hook import Hook
from ...hooks.patching import Patch, Undo, apply_patches, remember_undo, replace_function, resolve_target
from ...hooks.subclasses import trace_subclasses
from ...tracing.operations.records import Embeddings, Observe
from . import langgraph_edges
from . import messages as read
from .callbacks import CallbackHandler
from .langgraph_edges import langchain_runs, make_span_current


def _restore_caller_context(original: Callable[..., Any]) -> Callable[..., object]:
    """Wrap an asynchronous method, so that the caller's OpenTelemetry context is current again after the call.

    LangChain reports the end of such a call in a task of its own, where nothing can be detached for the caller.
    """

    @functools.wraps(original)
    async def call_and_restore(*args: object, **kwargs: object) -> object:
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


_LOST_CONTEXT: Final = "the caller's own span after an asynchronous call, and calls that are cancelled"
_PATCHES: Final = (
    (
        "langchain_core.runnables.config:_set_config_context",
        make_span_current,
        "that spans of user code in a runnable stand below the runnable",
    ),
    ("langchain_core.language_models.chat_models:BaseChatModel.agenerate", _restore_caller_context, _LOST_CONTEXT),
    ("langchain_core.language_models.llms:BaseLLM.agenerate", _restore_caller_context, _LOST_CONTEXT),
    ("langchain_core.retrievers:BaseRetriever.ainvoke", _restore_caller_context, _LOST_CONTEXT),
)


def _begin_embeddings(call: Call) -> tuple[Embeddings, Observe[Embeddings]]:
    """Begin the record of ``embed_documents(texts)`` or ``embed_query(text)``, for which LangChain has no callbacks."""
    owner = call.args[0]
    model = next((name for key in ("model", "model_name") if (name := get_nested(owner, key, str))), None)
    name = type(owner).__name__.removesuffix("Embeddings").lower() or "unknown"
    record = Embeddings(provider=read.PROVIDER_NAMES.get(name, name), model=model, outer=True)
    if call.capture_content:
        record.input = (*call.args[1:], *call.kwargs.values())[0]
    return record, _observe_vectors


def _observe_vectors(record: Embeddings, vectors: object) -> None:
    """Read the number of dimensions of one vector or several."""
    one = vectors[0] if isinstance(vectors, list) and vectors and isinstance(vectors[0], list) else vectors
    record.dimensions = len(one) if isinstance(one, list) else None


def _trace_embeddings(hook: Hook, base: str) -> Undo:
    """Trace the methods of all classes of embeddings."""
    open_ = hook.make_starter(_begin_embeddings)
    names = ("embed_documents", "embed_query", "aembed_documents", "aembed_query")
    return trace_subclasses(base, dict.fromkeys(names, open_))


def _install_callbacks(hook: Hook) -> Undo:
    """Add the callback handler to every run, and apply the patches."""
    runs = "runs of LangChain"
    return apply_patches(
        [
            Patch(_HANDLER_CLASS, lambda _: lambda: None, runs, is_required=True),
            Patch(_CONFIGURE_HOOKS, lambda _: lambda: None, runs, is_required=True),
            Patch(_REGISTER_HOOK, functools.partial(_register_handler, hook), runs, is_required=True),
            *(Patch(target, functools.partial(replace_function, make=make), loss) for target, make, loss in _PATCHES),
            Patch(_EMBEDDINGS_CLASS, functools.partial(_trace_embeddings, hook), "calls of embeddings"),
        ]
    )


_HANDLER_CLASS: Final = "langchain_core.callbacks:BaseCallbackHandler"
_REGISTER_HOOK: Final = "langchain_core.tracers.context:register_configure_hook"
_CONFIGURE_HOOKS: Final = "langchain_core.tracers.context:_configure_hooks"  # without it, nothing can be unregistered
_EMBEDDINGS_CLASS: Final = "langchain_core.embeddings:Embeddings"


def _register_handler(hook: Hook, target: str) -> Undo:
    """Have LangChain add our handler to every run."""
    base: Any = getattr(*resolve_target(_HANDLER_CLASS))
    strict = os.environ.get("MLSPAN_STRICT") == "1"
    handler = type("MlspanHandler", (CallbackHandler, base), {"hook": hook, "raise_error": strict})()
    var: ContextVar[object] = ContextVar("mlspan_langchain", default=handler)
    getattr(*resolve_target(target))(var, inheritable=True)
    hooks: list[object] = getattr(*resolve_target(_CONFIGURE_HOOKS))
    entry = hooks[-1]

    def unregister() -> None:
        if entry in hooks:  # LangChain has no public way to unregister a hook
            hooks.remove(entry)

    return remember_undo(unregister)


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
        return CORE_HOOK if self.module == CORE_HOOK.module else langgraph_edges.HOOK

    def apply_settings(self, settings: AutologSettings | None) -> None:
        """Turn the patches of both libraries on, or off unless the other face still wants them."""
        settings = self._apply_policy(settings)
        self._wanted, self.settings = settings is not None, settings or self.settings
        self._requested_settings[self.module] = settings
        both = next((one for one in self._requested_settings.values() if one is not None), None)
        for hook in (CORE_HOOK, langgraph_edges.HOOK):
            if settings is None and both is not None:
                hook.settings = both  # the patches stay; turning them on again would resume recording after a shutdown
            else:
                hook.apply_settings(settings)
