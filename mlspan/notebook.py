"""``%load_ext mlspan``: autolog in IPython and Jupyter, and after each cell what it has recorded: runs, traces, links.

Loading it twice, or beside ``mlspan notebook enable``, is the same as loading it once.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Final

from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor

from . import _cells, integrations
from ._guard import guard
from .tracing import context, setup
from .tracing.export.assembly import is_genai

_LINKS_WITHIN: Final = 2.0  # seconds that a cell's end may wait for the experiment's id; without it there is no link


class Collector(SpanProcessor):
    """Gathers what ends, by trace, and tells a trace when its root has ended; each once."""

    def __init__(self) -> None:
        self._lock = threading.RLock()  # a span may end in a finalizer, in the middle of our own code
        self._spans: dict[int, list[ReadableSpan]] = {}
        self._whole: list[int] = []
        self._runs: dict[str, Any] = {}
        self._open: dict[int, int] = {}  # local roots that have not ended, by trace

    def on_start(self, span: Any, parent_context: Any = None) -> None:  # noqa: ARG002  # the SDK's signature
        if _is_root(span):
            with self._lock:
                trace_id = span.get_span_context().trace_id
                self._open[trace_id] = self._open.get(trace_id, 0) + 1

    def on_end(self, span: ReadableSpan) -> None:
        with self._lock:
            trace_id = _ids(span)[0]
            spans = self._spans.setdefault(trace_id, [])
            if len(spans) < _cells.MOST_SPANS:
                spans.append(span)
            if _is_root(span):
                self._open[trace_id] = self._open.get(trace_id, 1) - 1
                if self._open[trace_id] <= 0:
                    del self._open[trace_id]
                    self._whole.append(trace_id)

    def run(self, run: Any) -> None:
        """MLflow has made *run* active."""
        with self._lock:
            self._runs[run.info.run_id] = run

    def take(self) -> tuple[list[Any], list[list[ReadableSpan]]]:
        """The runs and the whole traces since the last call."""
        with self._lock:
            runs, self._runs = list(self._runs.values()), {}
            whole, self._whole = self._whole, []
            traces = [self._spans.pop(trace_id, []) for trace_id in whole]
            for trace_id in [one for one in self._spans if one not in self._open]:
                del self._spans[trace_id]  # of traces that have been told
        return runs, [spans for spans in traces if any(map(is_genai, spans))]


def _ids(span: ReadableSpan) -> tuple[int, int]:
    at = span.get_span_context()
    return (at.trace_id, at.span_id) if at else (0, 0)


def _is_root(span: ReadableSpan) -> bool:
    return span.parent is None or span.parent.is_remote


class Extension:
    """What is loaded into one IPython shell."""

    def __init__(self, shell: Any) -> None:
        self._shell, self._collector = shell, Collector()
        self._undo: list[Callable[[], None]] = []

    def load(self) -> None:
        integrations.autolog(silent=True)
        self._undo = [setup.listen(self._collector), context.hear_runs(self._collector.run)]
        self._shell.events.register("post_run_cell", self._after)

    def unload(self) -> None:
        self._shell.events.unregister("post_run_cell", self._after)
        for undo in self._undo:
            undo()
        integrations.autolog(disable=True)

    def _after(self, *_: Any) -> None:
        with guard("showing what a cell has recorded"):
            runs, traces = self._collector.take()
            if runs or traces:
                self._show(_cells.told(runs, traces, _addresses(runs, traces)))

    def _show(self, told: _cells.Told) -> None:
        if hasattr(self._shell, "kernel"):  # Jupyter; its HTML has a text for front ends without
            from IPython.display import display

            display({"text/html": told.html(), "text/plain": told.text()}, raw=True)
        else:
            print(told.text())  # noqa: T201  # a terminal


def _addresses(runs: list[Any], traces: list[list[ReadableSpan]]) -> dict[str, str]:
    """The pages of runs and traces in MLflow's viewer, by id, as far as they are known in time."""
    now, found = setup.runtime(), {}
    if now is None:
        return {}

    def look() -> None:
        for run in runs:
            if (url := now.run_url(run.info.experiment_id, run.info.run_id)) is not None:
                found[run.info.run_id] = url
        for spans in traces:
            trace_id = f"{_ids(spans[0])[0]:032x}"
            if (url := now.likely_url(trace_id) or now.trace_url(trace_id)) is not None:
                found[trace_id] = url

    seeker = threading.Thread(target=context.wrap(look), daemon=True, name="mlspan-links")
    seeker.start()
    seeker.join(_LINKS_WITHIN)
    return dict(found)


_loaded: dict[int, Extension] = {}  # by shell


def load(shell: Any) -> None:
    """What ``%load_ext mlspan`` calls."""
    if id(shell) not in _loaded:
        extension = _loaded[id(shell)] = Extension(shell)
        extension.load()


def unload(shell: Any) -> None:
    """What ``%unload_ext mlspan`` calls."""
    if (extension := _loaded.pop(id(shell), None)) is not None:
        extension.unload()
