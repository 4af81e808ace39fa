"""``mlspan import``: store the traces of a file in MLflow."""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Annotated, Final

from opentelemetry.sdk.trace import ReadableSpan
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from ..tracing.export.mlflow.sink import MlflowSink
from ..tracing.export.mlflow.store import StoreRejected
from ..tracing.export.sending.batch import send_all
from ..tracing.export.sending.sender import choose_wait
from ..tracing.export.trace_assembler import is_genai
from ..tracing.export.types import BackendUnavailable, Refusal, TraceSegment
from ..tracing.operations.call_context import TraceOrigin
from . import form
from .arguments import Argument, Option, UsageError
from .common import (
    CommandFailure,
    ExperimentOption,
    TrackingUriOption,
    make_error_console,
    make_output_console,
    require_module,
)
from .otlp_file import ZstdNotInstalled, read_otlp_messages
from .otlp_spans import convert_otlp_spans
from .places import is_tracking_server, locate_store

_MAX_HELD_SPANS: Final = 50_000  # spans in memory; above it, the traces that have waited longest are stored
_TRACES_PER_BATCH: Final = 50  # traces
_MAX_ATTEMPTS: Final = 5
_MAX_REASONS: Final = 3  # that the report prints


@dataclass
class ImportResult:
    """Counts of what was stored, left out and refused while a file was imported."""

    trace_ids: set[int] = field(default_factory=set)
    span_count: int = 0
    left_out_ids: set[int] = field(default_factory=set)
    unreadable_count: int = 0
    unfinished_count: int = 0
    refused_count: int = 0
    reasons: list[str] = field(default_factory=list)

    def add_reason(self, reason: str) -> None:
        """Remember a reason for the report, unless it is known or there are enough."""
        if len(self.reasons) < _MAX_REASONS and reason not in self.reasons:
            self.reasons.append(reason)


class TraceCollector:
    """Collector of the spans of a file by trace, since a file may hold the spans of a trace in any order."""

    def __init__(self, store: Callable[[list[TraceSegment]], None], result: ImportResult, *, everything: bool) -> None:
        self._store, self._taken, self._everything = store, result, everything
        self._spans: dict[int, list[ReadableSpan]] = {}  # by trace id; the trace that got a span last is last
        self.held = 0

    def add_span(self, span: ReadableSpan) -> None:
        """Add a span. Store the older half of the traces if too many spans are in memory."""
        context = span.get_span_context()
        trace_id = context.trace_id if context else 0
        trace_spans = self._spans.pop(trace_id, [])
        trace_spans.append(span)
        self._spans[trace_id] = trace_spans
        self.held += 1
        if self.held >= _MAX_HELD_SPANS:
            self._store_oldest(len(self._spans) // 2 or 1)

    def store_all(self) -> None:
        """Store all traces that are left."""
        while self._spans:
            self._store_oldest(_TRACES_PER_BATCH)

    def _store_oldest(self, trace_count: int) -> None:
        """Store the *trace_count* traces that have waited longest.

        Traces without a GenAI span are left out, unless all are wanted.
        """
        segments: list[TraceSegment] = []
        for trace_id in list(self._spans)[:trace_count]:
            trace_spans = self._spans.pop(trace_id)
            self.held -= len(trace_spans)
            is_known = trace_id in self._taken.trace_ids
            if is_known or self._everything or any(map(is_genai, trace_spans)):
                segments.append(TraceSegment(TraceOrigin(), trace_spans, _find_root_id(trace_spans), whole=False))
                self._taken.left_out_ids.discard(trace_id)
            else:
                self._taken.left_out_ids.add(trace_id)
        for start in range(0, len(segments), _TRACES_PER_BATCH):
            self._store(segments[start : start + _TRACES_PER_BATCH])


def _find_root_id(trace_spans: Sequence[ReadableSpan]) -> int:
    """Return the id of the root span: the one without a parent, else the earliest whose parent is missing."""
    ids = {_get_span_id(span) for span in trace_spans}
    roots = [span for span in trace_spans if span.parent is None or span.parent.span_id not in ids] or trace_spans
    return _get_span_id(min(roots, key=lambda span: (span.parent is not None, span.start_time or 0)))


def _get_span_id(span: ReadableSpan) -> int:
    context = span.get_span_context()
    return context.span_id if context else 0


def import_(
    file: Annotated[
        Path,
        Argument(metavar="FILE", help="OTLP as JSON lines or protobuf, may be gzipped; - reads standard input."),
    ],
    tracking_uri: TrackingUriOption = None,
    experiment: ExperimentOption = None,
    run: Annotated[str | None, Option("--run", metavar="ID", help="The MLflow run that the traces belong to.")] = None,
    everything: Annotated[bool, Option("--all", help="Import traces without a GenAI span, too.")] = False,
) -> None:
    """Store traces from an OpenTelemetry file in MLflow.

    Reads what a collector's file exporter writes. The spans may come from any GenAI instrumentation: OpenTelemetry's
    conventions, OpenInference or OpenLLMetry. Importing a file twice changes nothing.
    """
    if str(file) != "-" and not file.is_file():
        raise UsageError(f"there is no file {file}")
    location = locate_store(tracking_uri, experiment, exists=False)
    if not is_tracking_server(location.uri):
        require_module("mlflow", "mlflow", "a database")
    result, sink = ImportResult(), MlflowSink(tracking_uri=location.uri, experiment=location.experiment, run=run)
    try:
        with _open_file(file) as data:
            _import_spans(data, sink, result, everything=everything)
    finally:
        sink.close()
    _print_import_result(result, f"{location.experiment or 'Default'!r} of {location.display_uri}")
    if result.unreadable_count or result.refused_count or result.unfinished_count:
        raise SystemExit(1)


@contextmanager
def _open_file(file: Path) -> Iterator[IO[bytes]]:
    """Open the file for reading with seek. Standard input (``-``) is copied to a temporary file first.

    Raises:
        CommandFailure: if the file cannot be read.
    """
    if str(file) == "-":
        with tempfile.TemporaryFile() as copy:
            shutil.copyfileobj(sys.stdin.buffer, copy)
            copy.seek(0)
            yield copy
        return
    try:
        data = file.open("rb")
    except OSError as error:
        raise CommandFailure(f"cannot read {file}: {error.strerror}") from error
    with data:
        yield data


def _import_spans(data: IO[bytes], sink: MlflowSink, result: ImportResult, *, everything: bool) -> None:
    """Read the spans of *data*, store their traces, and count them in *result*. Show the progress on a terminal.

    Raises:
        CommandFailure: if the data needs a zstd decompressor, or if the store cannot be reached.
    """
    size = data.seek(0, 2)
    data.seek(0)
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    console = make_error_console()
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as progress:
        reading = progress.add_task("reading", total=max(size, 1))
        storing = progress.add_task("storing", total=None, visible=False)  # the total is known once all is read

        def store_segments(segments: list[TraceSegment]) -> None:
            _send_with_retries(sink, segments, result)
            stored = f"stored {result.span_count:,} spans"
            progress.update(storing, visible=True, completed=result.span_count, description=stored)

        collector = TraceCollector(store_segments, result, everything=everything)
        try:
            for message in read_otlp_messages(data):
                progress.update(reading, completed=message.bytes_read)
                if message.traces is None:
                    result.unreadable_count += 1
                    result.add_reason(
                        f"{'line ' + str(message.number) + ': ' if message.number else ''}{message.error}"
                    )
                    continue
                for span in convert_otlp_spans(message.traces):
                    if span is None:
                        result.unfinished_count += 1
                    else:
                        collector.add_span(span)
        except ZstdNotInstalled:
            raise CommandFailure(
                "the file is compressed by zstd: pip install zstandard, or decompress it first"
            ) from None
        progress.update(reading, completed=size)
        progress.update(storing, visible=True, total=result.span_count + collector.held)
        collector.store_all()


def _send_with_retries(sink: MlflowSink, segments: list[TraceSegment], result: ImportResult) -> None:
    """Store *segments*, and retry while the store is unreachable.

    Raises:
        CommandFailure: if the store rejects everything, or stays unreachable.
    """
    refused: list[Refusal] = []
    left = segments
    for attempt in range(1, _MAX_ATTEMPTS + 1):
        try:
            refused += send_all(sink, left)
            break
        except StoreRejected as rejected:
            raise CommandFailure(str(rejected)) from rejected
        except BackendUnavailable as away:
            taken = set(map(id, away.taken))
            left = [segment for segment in left if id(segment) not in taken]
            if attempt == _MAX_ATTEMPTS or not (
                result.trace_ids or taken
            ):  # a server that has never answered is not worth a retry
                raise CommandFailure(
                    f"{away.reason}; {len(result.trace_ids)} traces are stored, and taking the file again adds the rest"
                ) from away
            time.sleep(choose_wait(attempt, away.retry_after))
    result.refused_count += len(refused)
    for refusal in refused:
        result.add_reason(refusal.reason)
    refused_ids = {id(refusal.item) for refusal in refused}
    for segment in segments:
        if id(segment) not in refused_ids and (context := segment.spans[0].get_span_context()):
            result.trace_ids.add(context.trace_id)
            result.span_count += len(segment.spans)


def _print_import_result(result: ImportResult, destination: str) -> None:
    """Print how many traces were stored, left out and refused, and why."""
    console = make_output_console()
    traces, spans = len(result.trace_ids), form.format_quantity(result.span_count, "span")
    console.print(f"{form.format_quantity(traces, 'trace')} ({spans}) taken into {destination}", soft_wrap=True)
    if result.left_out_ids:
        console.print(
            f"{form.format_quantity(len(result.left_out_ids), 'trace')} without a GenAI span left out; "
            "--all takes them",
            soft_wrap=True,
        )
    for number, what in (
        (result.unreadable_count, "line not readable"),
        (result.unfinished_count, "span without ids or an end left out"),
        (result.refused_count, "trace refused by MLflow"),
    ):
        if number:
            first, _, rest = what.partition(" ")
            console.print(f"{form.format_quantity(number, first)} {rest}", style="yellow", soft_wrap=True)
    for reason in result.reasons:
        console.print(f"  {reason}", style="dim", soft_wrap=True)
