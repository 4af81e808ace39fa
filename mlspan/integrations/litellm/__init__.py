"""LiteLLM: completions, responses, embeddings and rerankings of any provider, and its Router with each try.

Its functions are traced where programs call them, and where its own code does: as attributes of the package and of the
module that each is made in. A synchronous function that is one half of an asynchronous call is let through.

With the hook of a client on, such as OpenAI's, the request that LiteLLM has the client make is the same call. Callbacks
of LiteLLM are neither used nor touched.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from typing import Any, Final

from opentelemetry.trace import get_current_span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from ..._shape import get_fields, get_nested
from ...hooks.call import Begin
from ...hooks.hook import Hook
from ...hooks.patching import CallStarter, Patch, Undo, apply_patches, install_when_imported, trace_method
from ...tracing.operations.call_context import use_context
from . import calls, routing

__all__ = ["HOOK", "autolog"]

# by name in the package, and the module whose code calls it as well, if there is one
_FUNCTIONS: Final[Mapping[str, tuple[Begin, str]]] = {
    "completion": (calls.begin_chat, "litellm.main"),
    "acompletion": (calls.begin_chat, "litellm.main"),
    "text_completion": (calls.begin_text, "litellm.main"),
    "atext_completion": (calls.begin_text, "litellm.main"),
    "embedding": (calls.begin_embeddings, "litellm.main"),
    "aembedding": (calls.begin_embeddings, "litellm.main"),
    "responses": (calls.begin_response, "litellm.responses.main"),
    "aresponses": (calls.begin_response, "litellm.responses.main"),
    "rerank": (calls.begin_rerank, "litellm.rerank_api.main"),
    "arerank": (calls.begin_rerank, "litellm.rerank_api.main"),
}
_ROUTER_METHODS: Final = (
    *("completion", "acompletion", "text_completion", "atext_completion"),
    *("embedding", "aembedding", "aresponses", "arerank"),
)
_PROPAGATOR: Final = TraceContextTextMapPropagator()  # opentelemetry.propagate would take longer to import than we do
_CORE: Final = "litellm.router_rust.core"  # of newer versions: imported when the first Router is made
_ROUTER_LOSS: Final = "calls of the Router; what it tries is recorded all the same"


def _start_call(
    hook: Hook, begin: Begin, args: tuple[object, ...], kwargs: dict[str, Any], *, function: Any = None
) -> Any:
    """Start the operation of a call; one that LiteLLM's proxy makes for a request is in the trace of that request."""
    asked = kwargs.get("proxy_server_request")
    headers = None if asked is None else get_nested(asked, "headers", dict)
    if not headers or get_current_span().get_span_context().is_valid:
        return hook.start_operation(begin, args, kwargs, function=function)
    with use_context(_PROPAGATOR.extract(headers)):
        return hook.start_operation(begin, args, kwargs, function=function)


def _trace_calls(hook: Hook, begin: Begin) -> functools.partial[Undo]:
    return functools.partial(trace_method, start=CallStarter(_start_call, hook, begin))


def _list_functions(hook: Hook) -> Iterator[Patch]:
    for name, (begin, module) in _FUNCTIONS.items():
        yield Patch(f"litellm:{name} {module}:{name}", _trace_calls(hook, begin), f"calls of {name}")


def _trace_router(hook: Hook, owner: str) -> Undo:
    trace = _trace_calls(hook, routing.begin_routed)
    return apply_patches(Patch(f"{owner}.{name}", trace, _ROUTER_LOSS, is_optional=True) for name in _ROUTER_METHODS)


def _install(hook: Hook) -> Undo:
    with ExitStack() as undo:
        undo.callback(apply_patches(_list_functions(hook)))
        if "acompletion" in get_fields(getattr(sys.modules["litellm"], "Router", None)):
            undo.callback(_trace_router(hook, "litellm.router:Router"))
        else:
            trace_core = functools.partial(_trace_router, hook, f"{_CORE}:RustCore")
            undo.callback(install_when_imported(_CORE, trace_core, loss=_ROUTER_LOSS))
        return undo.pop_all().close


HOOK = Hook("litellm>=1.100,<2", "litellm", _install)
autolog = HOOK.autolog
