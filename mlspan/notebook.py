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
from ._training_notes import list_models
from .tracing import context, runtime
from .tracing.export.trace_assembler import is_genai
from .tracing.mlflow_state.runs import add_run_listener

_URL_TIMEOUT: Final = 2.0  # seconds that the summary waits for the experiment's id, without which there are no links


class CellCollector(SpanProcessor):
    """A span processor that collects ended spans by trace, and gives out each trace once its local roots have ended."""

    def __init__(self) -> None:
        self._lock = threading.RLock()  # reentrant: a finalizer may end a span while this thread holds the lock
        self._spans: dict[int, list[ReadableSpan]] = {}
        self._finished_traces: list[int] = []
        self._runs: dict[str, object] = {}
        self._open_roots: dict[int, int] = {}  # trace id -> number of local roots that have not ended

    def on_start(self, span: Any, parent_context: object = None) -> None:  # noqa: ARG002  # the SDK's signature
        if _is_local_root(span):
            with self._lock:
                trace_id = span.get_span_context().trace_id
                self._open_roots[trace_id] = self._open_roots.get(trace_id, 0) + 1

    def on_end(self, span: ReadableSpan) -> None:
        with self._lock:
            trace_id = _read_ids(span)[0]
            spans = self._spans.setdefault(trace_id, [])
            if len(spans) < _notebook_summary.MAX_SPANS:
                spans.append(span)
            if _is_local_root(span):
                self._open_roots[trace_id] = self._open_roots.get(trace_id, 1) - 1
                if self._open_roots[trace_id] <= 0:
                    del self._open_roots[trace_id]
                    self._finished_traces.append(trace_id)

    def add_run(self, run: Any) -> None:
        """Add a run that MLflow has made active."""
        with self._lock:
            self._runs[run.info.run_id] = run

    def take_finished(self) -> tuple[list[object], list[list[ReadableSpan]]]:
        """Return and forget the runs and the finished traces since the last call, GenAI traces only.

        Returns:
            MLflow's runs, and a list of spans for each trace.
        """
        with self._lock:
            runs, self._runs = list(self._runs.values()), {}
            whole, self._finished_traces = self._finished_traces, []
            traces = [self._spans.pop(trace_id, []) for trace_id in whole]
            for trace_id in [one for one in self._spans if one not in self._open_roots]:
                del self._spans[trace_id]  # late spans of traces that were returned before
        return runs, [spans for spans in traces if any(map(is_genai, spans))]


def _read_ids(span: ReadableSpan) -> tuple[int, int]:
    at = span.get_span_context()
    return (at.trace_id, at.span_id) if at else (0, 0)


def _is_local_root(span: ReadableSpan) -> bool:
    return span.parent is None or span.parent.is_remote


class NotebookExtension:
    """The mlspan extension of one IPython shell."""

    def __init__(self, shell: Any) -> None:
        self._shell, self._collector = shell, CellCollector()
        self._undo: list[Callable[[], None]] = []

    def load(self, *, at_start: bool = False) -> None:
        if at_start:
            integrations.autolog_at_start()
        else:
            integrations.autolog(silent=True)
        self._undo = [runtime.add_listener(self._collector), add_run_listener(self._collector.add_run)]
        self._shell.events.register("post_run_cell", self._show_cell_summary)

    def unload(self) -> None:
        self._shell.events.unregister("post_run_cell", self._show_cell_summary)
        for undo in self._undo:
            undo()
        integrations.autolog(disable=True)

    def _show_cell_summary(self, *_: object) -> None:
        with guard("showing what a cell has recorded"):
            runs, traces = self._collector.take_finished()
            if runs or traces:
                self._display_summary(_notebook_summary.summarize_cell(runs, traces, _find_urls(runs, traces)))

    def _display_summary(self, summary: _notebook_summary.CellSummary) -> None:
        if hasattr(self._shell, "kernel"):  # Jupyter; front ends without HTML show the text
            from IPython.display import display

            display({"text/html": summary.render_html(), "text/plain": summary.render_text()}, raw=True)
        else:
            print(summary.render_text())  # noqa: T201  # IPython in a terminal


def _find_urls(runs: list[Any], traces: list[list[ReadableSpan]]) -> dict[str, str]:
    """Return the URLs of runs and traces in MLflow's UI, by id; one that is not found in time is left out."""
    now, found = runtime.get_runtime(), {}
    if now is None:
        return {}

    def look_up_urls() -> None:
        for run in runs:
            if (url := now.page_urls.build_run_url(run.info.experiment_id, run.info.run_id)) is not None:
                found[run.info.run_id] = url
        experiments = {run.info.run_id: run.info.experiment_id for run in runs}
        for model in list_models(traces):
            experiment = experiments.get(model.run_id)  # None if the run is of an earlier cell
            if experiment and (url := now.page_urls.build_model_url(experiment, model.model_id)) is not None:
                found[model.model_id] = url
        for spans in traces:
            trace_id = f"{_read_ids(spans[0])[0]:032x}"
            if (url := now.page_urls.guess_trace_url(trace_id) or now.page_urls.find_trace_url(trace_id)) is not None:
                found[trace_id] = url

    thread = threading.Thread(target=context.wrap(look_up_urls), daemon=True, name="mlspan-links")
    thread.start()
    thread.join(_URL_TIMEOUT)
    return dict(found)


_extensions: dict[int, NotebookExtension] = {}  # by id() of the shell
_starting: set[int] = set()  # the ids of shells whose startup file loads the extension


def load_extension(shell: object) -> None:
    """Load the extension into *shell*; IPython calls this for ``%load_ext mlspan``."""
    if id(shell) not in _extensions:
        extension = _extensions[id(shell)] = NotebookExtension(shell)
        extension.load(at_start=id(shell) in _starting)


def load_at_start(shell: Any) -> None:
    """Load the extension into a session that starts: nobody has asked for it in this notebook."""
    _starting.add(id(shell))
    try:
        shell.extension_manager.load_extension("mlspan")
    finally:
        _starting.discard(id(shell))


def unload_extension(shell: object) -> None:
    """Unload the extension from *shell*; IPython calls this for ``%unload_ext mlspan``."""
    if (extension := _extensions.pop(id(shell), None)) is not None:
        extension.unload()
