"""The context of a pipeline that yields between its steps."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from opentelemetry import context as otel

from ...tracing.operations.call_context import use_context
from ...tracing.operations.generators import GeneratorSteps, wrap_async_generator


class _OwnSteps(GeneratorSteps):
    """The steps of a generator that keeps a context attached from one step to the next: the caller does not see it."""

    def __init__(self, own: Any, _: object) -> None:
        super().__init__(own)
        self._inside: otel.Context | None = None  # what was current when the last step ended

    def _enter_step(self) -> AbstractContextManager[object]:
        return self._use_inside()

    @contextmanager
    def _use_inside(self) -> Iterator[None]:
        with use_context(otel.get_current() if self._inside is None else self._inside):
            try:
                yield
            finally:
                self._inside = otel.get_current()


def keep_own_context(fn: Callable[..., object], enabled: list[bool]) -> Callable[..., object]:
    """Return *fn*, which returns an asynchronous generator, that leaves nothing attached between its steps."""
    kept = wrap_async_generator(fn, lambda _args, _kwargs: None, _OwnSteps)

    @functools.wraps(fn)
    def generate(*args: object, **kwargs: object) -> Any:
        return (kept if enabled else fn)(*args, **kwargs)

    return generate
