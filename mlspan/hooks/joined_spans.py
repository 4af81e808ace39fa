"""Join the spans of a library that traces itself: they go where mlspan's own go, without a global TracerProvider."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from types import ModuleType
from typing import Any

from opentelemetry import trace

from ..tracing import runtime, tracer_provider
from ..tracing.otel.joined_tracer import JoinedTracerProvider, lend_tracer
from .hook import Hook
from .patching import Patch, Undo, remember_undo, replace_function, set_attribute


def is_content_wanted() -> bool:
    """Return whether the settings and the administrator's policy let content onto spans."""
    now = runtime.get_runtime()
    return now is not None and now.policy.capture and now.policy.on_spans


def make_provider(hook: Hook) -> JoinedTracerProvider:
    """Return a provider for the library of *hook*: its spans are recorded while the hook's settings say so."""
    return JoinedTracerProvider(tracer_provider, lambda: hook.is_wanted and hook.should_record())


def record_provider(provider: trace.TracerProvider) -> Undo:
    """Send the spans of a provider that one library has for itself, and return what ends that.

    One that takes no span processor is left alone.
    """
    if (now := runtime.get_runtime()) is not None:
        now.join_library_provider(provider)

    def undo() -> None:
        if (now := runtime.get_runtime()) is not None:
            now.leave_library_provider(provider)

    return undo


def turn_spans_on(settings: object, switch: str, content: str) -> Undo:
    """Turn on the spans of a library by an object with its settings, and return what sets them as they were.

    Args:
        settings: the library's settings.
        switch: the attribute that turns spans on.
        content: the attribute that has content on them, which is set if mlspan's settings let it be there.
    """
    before = getattr(settings, switch), getattr(settings, content)
    setattr(settings, switch, True)
    setattr(settings, content, before[1] or is_content_wanted())

    def undo() -> None:
        setattr(settings, switch, before[0])
        setattr(settings, content, before[1])

    return remember_undo(undo)


def join_tracers(hook: Hook, targets: Iterable[str], loss: str) -> Iterator[Patch]:
    """Yield patches, for :func:`apply_patches`, that join the tracers which a library keeps in its modules.

    Args:
        hook: the hook whose settings decide if there are spans.
        targets: where the library keeps a tracer, as ``module:name``.
        loss: what is not recorded without them.
    """
    provider = make_provider(hook)

    def lend(target: str) -> Undo:
        module, _, name = target.partition(":")
        return lend_tracer(getattr(importlib.import_module(module), name), provider)

    for target in targets:
        yield Patch(target, lend, loss)


def join_tracer_getter(hook: Hook, target: str, loss: str) -> Patch:
    """Return the patch of a library's own function that returns a tracer, with the arguments of OpenTelemetry's.

    Args:
        hook: the hook whose settings decide if there are spans.
        target: the function, as ``module:name``.
        loss: what is not recorded without it.
    """
    return Patch(target, partial(replace_function, make=partial(_wrap_getter, make_provider(hook))), loss)


def _wrap_getter(provider: JoinedTracerProvider, own: Callable[..., Any]) -> Callable[..., trace.Tracer]:
    def get_tracer(*args: Any, **kwargs: Any) -> trace.Tracer:
        found: trace.Tracer = own(*args, **kwargs)
        lend_tracer(found, provider)
        return found

    return get_tracer


class _TraceModule(ModuleType):
    """The module ``opentelemetry.trace`` as one library sees it: the tracers that it gives are joined."""

    def __init__(self, own: ModuleType, provider: JoinedTracerProvider) -> None:
        super().__init__(own.__name__, own.__doc__)
        self._own = own
        self.get_tracer = _wrap_getter(provider, own.get_tracer)

    def __getattr__(self, name: str) -> object:
        return getattr(self._own, name)


def join_trace_module(hook: Hook, target: str, loss: str) -> Patch:
    """Return the patch of a module that calls ``trace.get_tracer`` for each span, without a function of its own.

    Args:
        hook: the hook whose settings decide if there are spans.
        target: its name for the module ``opentelemetry.trace``, as ``module:trace``.
        loss: what is not recorded without it.
    """
    provider = make_provider(hook)

    def replace_module(target: str) -> Undo:
        module, _, name = target.partition(":")
        owner = importlib.import_module(module)
        return set_attribute(owner, name, _TraceModule(getattr(owner, name), provider))

    return Patch(target, replace_module, loss)
