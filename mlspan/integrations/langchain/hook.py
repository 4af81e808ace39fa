"""Hook of LangChain and LangGraph: it adds the callback handler, and patches the contexts of runs and embeddings."""

from __future__ import annotations

import functools
import os
from contextvars import ContextVar
from typing import Any, ClassVar, Final

from ..._shape import get_nested
from ...hooks.autolog_settings import AutologSettings
from ...hooks.call import Call
from ...hooks.embeddings import observe_vectors
from ...hooks.hook import Hook
from ...hooks.patching import Patch, Undo, apply_patches, remember_undo, replace_function, resolve_target
from ...hooks.subclasses import trace_subclasses
from ...tracing.operations.records import Embeddings, Observe
from . import langgraph_edges
from . import messages as read
from . import model_runs as runs
from .callbacks import CallbackHandler
from .langgraph_edges import make_span_current

_LOST_CONTEXT: Final = "the caller's own span after an asynchronous call, and calls that are cancelled"
_CHAT_MODEL: Final = "langchain_core.language_models.chat_models:BaseChatModel"
_LLM: Final = "langchain_core.language_models.llms:BaseLLM"
_STREAMS: Final = "langchain_core.language_models.chat_model_stream"  # since 1.2
_LOST_REQUEST: Final = "which of several prompts a request belongs to"
_LOST_STREAM: Final = "the end of streams of version 3, and the caller's own span beside them"
_LOST_READER: Final = "that streams and events which are read no further are no failure"
_PATCHES: Final = (
    (
        "langchain_core.runnables.config:_set_config_context",
        make_span_current,
        "that spans of user code in a runnable stand below the runnable",
    ),
    (f"{_CHAT_MODEL}.agenerate", runs.restore_caller_context, _LOST_CONTEXT),
    (f"{_LLM}.agenerate", runs.restore_caller_context, _LOST_CONTEXT),
    ("langchain_core.retrievers:BaseRetriever.ainvoke", runs.restore_caller_context, _LOST_CONTEXT),
    (f"{_CHAT_MODEL}._generate_with_cache", runs.enter_prompt_run, _LOST_REQUEST),
    (f"{_CHAT_MODEL}._agenerate_with_cache", runs.enter_prompt_run, _LOST_REQUEST),
    (f"{_LLM}._generate_helper", runs.enter_batch_run, _LOST_REQUEST),
    (f"{_LLM}._agenerate_helper", runs.enter_batch_run, _LOST_REQUEST),
    (
        "langchain_core.runnables.base:_astream_events_implementation_v2",
        runs.note_reader,
        _LOST_READER,
    ),
    (f"{_CHAT_MODEL}.astream", runs.note_reader, _LOST_READER),
    (f"{_LLM}.astream", runs.note_reader, _LOST_READER),
)
_STREAM_PATCHES: Final = (
    (f"{_STREAMS}:ChatModelStream.set_start", runs.watch_stream_start, _LOST_STREAM),
    (f"{_STREAMS}:AsyncChatModelStream.set_start", runs.watch_async_stream_start, _LOST_STREAM),
    (f"{_STREAMS}:AsyncChatModelStream.aclose", runs.note_stream_close, _LOST_STREAM),
)


def _begin_embeddings(call: Call) -> tuple[Embeddings, Observe[Embeddings]]:
    """Begin the record of ``embed_documents(texts)`` or ``embed_query(text)``, for which LangChain has no callbacks."""
    owner = call.args[0]
    model = next((name for key in ("model", "model_name") if (name := get_nested(owner, key, str))), None)
    name = type(owner).__name__.removesuffix("Embeddings").lower() or "unknown"
    record = Embeddings(provider=read.PROVIDER_NAMES.get(name, name), model=model, outer=True)
    if call.capture_content:
        record.input = (*call.args[1:], *call.kwargs.values())[0]
    return record, observe_vectors


def _trace_embeddings(hook: Hook, base: str) -> Undo:
    """Trace the methods of all classes of embeddings."""
    open_ = hook.make_starter(_begin_embeddings)
    names = ("embed_documents", "embed_query", "aembed_documents", "aembed_query")
    return trace_subclasses(base, dict.fromkeys(names, open_))


def _install_callbacks(hook: Hook) -> Undo:
    """Add the callback handler to every run, and apply the patches."""
    loss = "runs of LangChain"
    return apply_patches(
        [
            Patch(_HANDLER_CLASS, lambda _: lambda: None, loss, is_required=True),
            Patch(_CONFIGURE_HOOKS, lambda _: lambda: None, loss, is_required=True),
            Patch(_REGISTER_HOOK, functools.partial(_register_handler, hook), loss, is_required=True),
            *(Patch(target, functools.partial(replace_function, make=make), lost) for target, make, lost in _PATCHES),
            *(
                Patch(target, functools.partial(replace_function, make=make), lost, is_optional=True)
                for target, make, lost in _STREAM_PATCHES
            ),
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
        self.has_been_set, self._wanted = True, settings is not None
        self.settings = settings or self.settings
        self._requested_settings[self.module] = settings
        both = next((one for one in self._requested_settings.values() if one is not None), None)
        for hook in (CORE_HOOK, langgraph_edges.HOOK):
            if settings is None and both is not None:
                hook.settings = both  # the patches stay; turning them on again would resume recording after a shutdown
            else:
                hook.apply_settings(settings)
