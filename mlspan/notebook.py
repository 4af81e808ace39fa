"""The IPython and Jupyter extension, ``%load_ext mlspan``: autolog, and a summary of runs and traces after each cell.

Loading it twice, or in addition to ``mlspan notebook enable``, has no further effect.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Final

from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor

from . import _notebook_summary, integrations
from ._guard import guard
from .tracing import context, runtime
from .tracing.export.trace_assembler import is_genai
from .tracing.mlflow_state.runs import hear_runs

_LINKS_WITHIN: Final = 2.0  # seconds that the summary waits for the experiment's id, without which there are no links


class Collector(SpanProcessor):
    """A span processor that collects ended spans by trace, and gives out each trace once its local roots have ended."""

    def __init__(self) -> None:
        self._lock = threading.RLock()  # reentrant: a finalizer may end a span while this thread holds the lock
        self._spans: dict[int, list[ReadableSpan]] = {}
        self._whole: list[int] = []
        self._runs: dict[str, Any] = {}
        self._open: dict[int, int] = {}  # trace id -> number of local roots that have not ended

    def on_start(self, span: Any, parent_context: Any = None) -> None:  # noqa: ARG002  # the SDK's signature
        if _is_root(span):
            with self._lock:
                trace_id = span.get_span_context().trace_id
                self._open[trace_id] = self._open.get(trace_id, 0) + 1

    def on_end(self, span: ReadableSpan) -> None:
        with self._lock:
            trace_id = _ids(span)[0]
            spans = self._spans.setdefault(trace_id, [])
            if len(spans) < _notebook_summary.MOST_SPANS:
                spans.append(span)
            if _is_root(span):
                self._open[trace_id] = self._open.get(trace_id, 1) - 1
                if self._open[trace_id] <= 0:
                    del self._open[trace_id]
                    self._whole.append(trace_id)

    def run(self, run: Any) -> None:
        """Add a run that MLflow has made active."""
        with self._lock:
            self._runs[run.info.run_id] = run

    def take(self) -> tuple[list[Any], list[list[ReadableSpan]]]:
        """Return and forget the runs and the finished traces since the last call, GenAI traces only.

        Returns:
            MLflow's runs, and a list of spans for each trace.
        """
        with self._lock:
            runs, self._runs = list(self._runs.values()), {}
            whole, self._whole = self._whole, []
            traces = [self._spans.pop(trace_id, []) for trace_id in whole]
            for trace_id in [one for one in self._spans if one not in self._open]:
                del self._spans[trace_id]  # late spans of traces that were returned before
        return runs, [spans for spans in traces if any(map(is_genai, spans))]


def _ids(span: ReadableSpan) -> tuple[int, int]:
    at = span.get_span_context()
    return (at.trace_id, at.span_id) if at else (0, 0)


def _is_root(span: ReadableSpan) -> bool:
    return span.parent is None or span.parent.is_remote


class Extension:
    """The mlspan extension of one IPython shell."""

    def __init__(self, shell: Any) -> None:
        self._shell, self._collector = shell, Collector()
        self._undo: list[Callable[[], None]] = []

    def load(self) -> None:
        integrations.autolog(silent=True)
        self._undo = [runtime.listen(self._collector), hear_runs(self._collector.run)]
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
                self._show(_notebook_summary.told(runs, traces, _addresses(runs, traces)))

    def _show(self, told: _notebook_summary.Told) -> None:
        if hasattr(self._shell, "kernel"):  # Jupyter; front ends without HTML show the text
            from IPython.display import display

            display({"text/html": told.html(), "text/plain": told.text()}, raw=True)
        else:
            print(told.text())  # noqa: T201  # IPython in a terminal


def _addresses(runs: list[Any], traces: list[list[ReadableSpan]]) -> dict[str, str]:
    """Return the URLs of runs and traces in MLflow's UI, by id; one that is not found in time is left out."""
    now, found = runtime.runtime(), {}
    if now is None:
        return {}

    def look_up_urls() -> None:
        for run in runs:
            if (url := now.run_url(run.info.experiment_id, run.info.run_id)) is not None:
                found[run.info.run_id] = url
        for spans in traces:
            trace_id = f"{_ids(spans[0])[0]:032x}"
            if (url := now.likely_url(trace_id) or now.trace_url(trace_id)) is not None:
                found[trace_id] = url

    thread = threading.Thread(target=context.wrap(look_up_urls), daemon=True, name="mlspan-links")
    thread.start()
    thread.join(_LINKS_WITHIN)
    return dict(found)


_loaded: dict[int, Extension] = {}  # by id() of the shell


def load(shell: Any) -> None:
    """Load the extension into *shell*; IPython calls this for ``%load_ext mlspan``."""
    if id(shell) not in _loaded:
        extension = _loaded[id(shell)] = Extension(shell)
        extension.load()


def unload(shell: Any) -> None:
    """Unload the extension from *shell*; IPython calls this for ``%unload_ext mlspan``."""
    if (extension := _loaded.pop(id(shell), None)) is not None:
        extension.unload()
