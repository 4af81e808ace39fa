"""Runs of models that callbacks alone do not delimit: several prompts in one call, and streams of version 3.

LangChain's callbacks report the start of a run in the caller's thread and task, where the span is made current until
the request has been made. What is patched here is where LangChain itself makes the request, or hands out a stream.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Final
from uuid import UUID
from weakref import ref

from opentelemetry import context as otel

from ..._guard import guard
from ..._shape import get_nested
from ...tracing.operations.iterators import start_generator
from ...tracing.operations.operation import Operation
from ...tracing.operations.response_proxy import finish_in_finalizer
from .runs import RUN_READER_KEY, RunReader, end_cancelled_run, langchain_runs, make_run_key

_stream_guard: Final = guard("watching a stream")


@contextmanager
def _restored_context() -> Iterator[otel.Context]:
    """Make the caller's OpenTelemetry context, the value, current again after the block, where it has been left."""
    before = otel.get_current()
    try:
        yield before
    finally:
        if otel.get_current() is not before:
            otel.attach(before)


def restore_caller_context(original: Callable[..., Any]) -> Callable[..., object]:
    """Wrap an asynchronous method, so that the caller's OpenTelemetry context is current again after the call.

    LangChain reports the end of such a call in a task of its own, where nothing can be detached for the caller.
    """

    @functools.wraps(original)
    async def call_and_restore(*args: object, **kwargs: object) -> object:
        with _restored_context() as before:
            try:
                return await original(*args, **kwargs)
            except asyncio.CancelledError as error:
                if otel.get_current() is not before and (run_id := langchain_runs.get_current_id()) in langchain_runs:
                    end_cancelled_run(run_id, error)  # LangChain reports no end of a call that is cancelled
                raise

    return call_and_restore


def _use_run_of(manager: object) -> AbstractContextManager[None]:
    """Return a block in which the span of *manager*'s run is current, unless it is already."""
    run = langchain_runs.find_run(make_run_key(getattr(manager, "run_id", None)))
    if run is None or run.operation is None or run.context_before is not None:
        return nullcontext()
    return run.operation.use_span()


def _find_manager(_args: object, kwargs: dict[str, object]) -> object:
    return kwargs.get("run_manager")


def _find_first_manager(args: tuple[object, ...], kwargs: dict[str, Any]) -> object:
    """Return the first of the run managers of a request with several prompts, whose call the request is."""
    managers = kwargs.get("run_managers") or (args[3] if len(args) > 3 else None)  # after self, prompts, stop
    return managers[0] if isinstance(managers, list) and managers else None


def _enter_run(original: Callable[..., Any], find_manager: Callable[[Any, Any], object]) -> Callable[..., object]:
    """Wrap a method of a model, sync or async: the run of the manager that its arguments hold is current inside."""
    if inspect.iscoroutinefunction(inspect.unwrap(original)):

        @functools.wraps(original)
        async def generate(*args: Any, **kwargs: Any) -> object:
            with _use_run_of(find_manager(args, kwargs)):
                return await original(*args, **kwargs)
    else:

        @functools.wraps(original)
        def generate(*args: object, **kwargs: object) -> object:
            with _use_run_of(find_manager(args, kwargs)):
                return original(*args, **kwargs)

    return generate


# Of a chat model: it answers one of several prompts, each of which is a run of its own.
enter_prompt_run: Final = functools.partial(_enter_run, find_manager=_find_manager)
# Of an LLM: it sends several prompts in one request, which belongs to the first of their runs.
enter_batch_run: Final = functools.partial(_enter_run, find_manager=_find_first_manager)


def _read_stream_key(stream: object) -> object:
    """Return the key of the run that fills a stream of version 3: the id of its message ends in the run's id."""
    told = get_nested(stream, "message_id", str) or ""
    try:
        return UUID(told.rpartition("--")[2].removeprefix("-")).int
    except ValueError:
        return None


def _watch_stream(stream: object) -> None:
    """End the run of a stream that is dropped before its end, of which LangChain reports nothing."""
    with _stream_guard:
        run = langchain_runs.find_run(key := _read_stream_key(stream))
        if run is not None and run.stream is None:
            run.stream = ref(stream, functools.partial(_end_dropped_run, key, run.operation))


def _end_dropped_run(key: object, operation: Operation | None, _: object) -> None:
    """Forget the run of a stream that has been collected, and end its operation; no lock is taken."""
    langchain_runs.forget_run(key)
    if operation is not None:
        finish_in_finalizer(operation, stream_end="abandoned")


def watch_stream_start(original: Callable[..., object]) -> Callable[..., object]:
    """Wrap ``ChatModelStream.set_start``: the function that it is given starts the run, at the first read."""

    @functools.wraps(original)
    def set_start(stream: object, start: object) -> object:
        if not callable(start):
            return original(stream, start)
        held = ref(stream)

        def start_stream_run() -> object:
            result = start()
            _watch_stream(held())
            return result

        return original(stream, start_stream_run)

    return set_start


def watch_async_stream_start(original: Callable[..., object]) -> Callable[..., object]:
    """Wrap ``AsyncChatModelStream.set_start``: the run goes on in a task of its own, and not in the reader's."""

    @functools.wraps(original)
    def set_start(stream: object, start: object) -> object:
        if not callable(start):
            return original(stream, start)
        held = ref(stream)

        async def start_stream_run() -> object:
            try:
                with _restored_context():
                    return await start()
            finally:
                _watch_stream(held())

        return original(stream, start_stream_run)

    return set_start


def note_stream_close(original: Callable[..., Any]) -> Callable[..., object]:
    """Wrap ``AsyncChatModelStream.aclose``, which cancels the run: that is no failure of it."""

    @functools.wraps(original)
    async def close_stream(stream: Any) -> object:
        if (run := langchain_runs.find_run(_read_stream_key(stream))) is not None:
            run.closed = True
        return await original(stream)

    return close_stream


def note_reader(original: Callable[..., AsyncIterator[object]]) -> Callable[..., AsyncIterator[object]]:
    """Wrap the generator of ``astream_events`` or of a graph's ``astream``, which cancels what runs if it is left.

    The runs start at the first read, from whose context they know their reader.
    """

    @functools.wraps(original)
    async def read_items(*args: object, **kwargs: object) -> AsyncIterator[object]:
        reader, items, before = RunReader(), original(*args, **kwargs), otel.get_current()
        try:
            otel.attach(otel.set_value(RUN_READER_KEY, reader))
            try:
                item = await start_generator(items)
            finally:
                otel.attach(before)
            while True:
                reader.is_waiting = False
                yield item
                reader.is_waiting = True
                item = await items.__anext__()
        except StopAsyncIteration:
            return
        except BaseException as error:
            reader.note_end(error)
            raise
        finally:
            await items.aclose()  # type: ignore[attr-defined]  # both are generators
            if reader.error or reader.has_left:
                _end_runs_of(reader)

    return read_items


def _end_runs_of(reader: RunReader) -> None:
    """End the runs *reader* has left open: they no longer run, and one cancelled at its start reports no end."""
    with _stream_guard:
        for id in langchain_runs.list_ids():
            run = langchain_runs.find_run(id)
            operation = None if run is None else run.operation
            inner = None if operation is None else operation.context.get(RUN_READER_KEY)
            if isinstance(inner, RunReader) and inner.is_within(reader):
                langchain_runs.end_operation(id, reader.error, stream_end=None if reader.error else "closed")
