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

import typer
from opentelemetry.sdk.trace import ReadableSpan
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from ..tracing.export.mlflow.sink import MlflowSink
from ..tracing.export.mlflow.store import StoreRejected
from ..tracing.export.types import BackendUnavailable, TraceSegment
from ..tracing.operations.call_context import TraceOrigin
from . import form
from .common import Experiment, Failure, TrackingUri, command, err, need, out
from .otlp_file import NeedsZstd, pieces
from .otlp_spans import spans
from .places import is_server, place

_MOST_HELD: Final = 50_000  # spans in memory; above it, the traces that have waited longest are stored
_BATCH: Final = 50  # traces
_TRIES: Final = 5
_REASONS: Final = 3  # that the report prints


@dataclass
class Taken:
    """Counts of what was stored, left out and refused while a file was imported."""

    traces: set[int] = field(default_factory=set)
    spans: int = 0
    left_out: set[int] = field(default_factory=set)
    unreadable: int = 0
    unfinished: int = 0
    refused: int = 0
    reasons: list[str] = field(default_factory=list)

    def tell(self, reason: str) -> None:
        """Remember a reason for the report, unless it is known or there are enough."""
        if len(self.reasons) < _REASONS and reason not in self.reasons:
            self.reasons.append(reason)


class Gathered:
    """Collector of the spans of a file by trace, since a file may hold the spans of a trace in any order."""

    def __init__(self, store: Callable[[list[TraceSegment]], None], result: Taken, *, everything: bool) -> None:
        self._store, self._taken, self._everything = store, result, everything
        self._spans: dict[int, list[ReadableSpan]] = {}  # by trace id; the trace that got a span last is last
        self.held = 0

    def add(self, span: ReadableSpan) -> None:
        """Add a span. Store the older half of the traces if too many spans are in memory."""
        context = span.get_span_context()
        trace_id = context.trace_id if context else 0
        trace_spans = self._spans.pop(trace_id, [])
        trace_spans.append(span)
        self._spans[trace_id] = trace_spans
        self.held += 1
        if self.held >= _MOST_HELD:
            self._send(len(self._spans) // 2 or 1)

    def finish(self) -> None:
        """Store all traces that are left."""
        while self._spans:
            self._send(_BATCH)

    def _send(self, trace_count: int) -> None:
        """Store the *trace_count* traces that have waited longest.

        Traces without a GenAI span are left out, unless all are wanted.
        """
        parcels: list[TraceSegment] = []
        for trace_id in list(self._spans)[:trace_count]:
            trace_spans = self._spans.pop(trace_id)
            self.held -= len(trace_spans)
            is_known = trace_id in self._taken.traces
            if is_known or self._everything or any(_is_genai(span) for span in trace_spans):
                parcels.append(TraceSegment(TraceOrigin(), trace_spans, _root(trace_spans), whole=False))
                self._taken.left_out.discard(trace_id)
            else:
                self._taken.left_out.add(trace_id)
        for start in range(0, len(parcels), _BATCH):
            self._store(parcels[start : start + _BATCH])


def _root(trace_spans: Sequence[ReadableSpan]) -> int:
    """Return the id of the root span: the one without a parent, else the earliest whose parent is missing."""
    ids = {_id(span) for span in trace_spans}
    roots = [span for span in trace_spans if span.parent is None or span.parent.span_id not in ids] or trace_spans
    return _id(min(roots, key=lambda span: (span.parent is not None, span.start_time or 0)))


def _is_genai(span: ReadableSpan) -> bool:
    """Return whether a span has attributes of the GenAI conventions or of mlspan."""
    return any(name.startswith(("gen_ai.", "mlspan.")) for name in span.attributes or ())


def _id(span: ReadableSpan) -> int:
    context = span.get_span_context()
    return context.span_id if context else 0


@command
def import_(
    file: Annotated[
        Path,
        typer.Argument(metavar="FILE", help="OTLP as JSON lines or protobuf, may be gzipped; - reads standard input."),
    ],
    tracking_uri: TrackingUri = None,
    experiment: Experiment = None,
    run: Annotated[
        str | None, typer.Option("--run", metavar="ID", help="The MLflow run that the traces belong to.")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Import traces without a GenAI span, too.")] = False,
) -> None:
    """Store traces from an OpenTelemetry file in MLflow.

    Reads what a collector's file exporter writes. The spans may come from any GenAI instrumentation: OpenTelemetry's
    conventions, OpenInference or OpenLLMetry. Importing a file twice changes nothing.
    """
    if str(file) != "-" and not file.is_file():
        raise typer.BadParameter(f"there is no file {file}", param_hint="FILE")
    location = place(tracking_uri, experiment, exists=False)
    if not is_server(location.uri):
        need("mlflow", "mlflow", "a database")
    result, sink = Taken(), MlflowSink(tracking_uri=location.uri, experiment=location.experiment, run=run)
    try:
        with _opened(file) as data:
            _take(data, sink, result, everything=everything)
    finally:
        sink.close()
    _report(result, f"{location.experiment or 'Default'!r} of {location.shown}")
    if result.unreadable or result.refused or result.unfinished:
        raise typer.Exit(1)


@contextmanager
def _opened(file: Path) -> Iterator[IO[bytes]]:
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
        raise Failure(f"cannot read {file}: {error.strerror}") from error
    with data:
        yield data


def _take(data: IO[bytes], sink: MlflowSink, result: Taken, *, everything: bool) -> None:
    """Read the spans of *data*, store their traces, and count them in *result*. Show the progress on a terminal.

    Raises:
        CommandFailure: if the data needs a zstd decompressor, or if the store cannot be reached.
    """
    size = data.seek(0, 2)
    data.seek(0)
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    console = err()
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as progress:
        reading = progress.add_task("reading", total=max(size, 1))
        storing = progress.add_task("storing", total=None, visible=False)  # the total is known once all is read

        def store(parcels: list[TraceSegment]) -> None:
            _send(sink, parcels, result)
            stored = f"stored {result.spans:,} spans"
            progress.update(storing, visible=True, completed=result.spans, description=stored)

        collector = Gathered(store, result, everything=everything)
        try:
            for message in pieces(data):
                progress.update(reading, completed=message.read)
                if message.traces is None:
                    result.unreadable += 1
                    result.tell(f"{'line ' + str(message.number) + ': ' if message.number else ''}{message.why}")
                    continue
                for span in spans(message.traces):
                    if span is None:
                        result.unfinished += 1
                    else:
                        collector.add(span)
        except NeedsZstd:
            raise Failure("the file is compressed by zstd: pip install zstandard, or decompress it first") from None
        progress.update(reading, completed=size)
        progress.update(storing, visible=True, total=result.spans + collector.held)
        collector.finish()


def _send(sink: MlflowSink, parcels: list[TraceSegment], result: Taken) -> None:
    """Store *parcels*, and retry while the store is unreachable.

    Raises:
        CommandFailure: if the store rejects everything, or stays unreachable.
    """
    for attempt in range(_TRIES):
        try:
            refused = sink.send(parcels)
            break
        except StoreRejected as rejected:
            raise Failure(str(rejected)) from rejected
        except BackendUnavailable as away:
            if attempt == _TRIES - 1 or not result.traces:  # a server that has never answered is not worth a retry
                raise Failure(
                    f"{away.reason}; {len(result.traces)} traces are stored, and taking the file again adds the rest"
                ) from away
            time.sleep(away.retry_after or 2**attempt)
    result.refused += len(refused)
    for refusal in refused:
        result.tell(refusal.reason)
    refused_ids = {id(refusal.item) for refusal in refused}
    for parcel in parcels:
        if id(parcel) not in refused_ids and (context := parcel.spans[0].get_span_context()):
            result.traces.add(context.trace_id)
            result.spans += len(parcel.spans)


def _report(result: Taken, destination: str) -> None:
    """Print how many traces were stored, left out and refused, and why."""
    console = out()
    console.print(
        f"{form.many(len(result.traces), 'trace')} ({form.many(result.spans, 'span')}) taken into {destination}",
        soft_wrap=True,
    )
    if result.left_out:
        console.print(
            f"{form.many(len(result.left_out), 'trace')} without a GenAI span left out; --all takes them",
            soft_wrap=True,
        )
    for number, what in (
        (result.unreadable, "line not readable"),
        (result.unfinished, "span without ids or an end left out"),
        (result.refused, "trace refused by MLflow"),
    ):
        if number:
            first, _, rest = what.partition(" ")
            console.print(f"{form.many(number, first)} {rest}", style="yellow", soft_wrap=True)
    for reason in result.reasons:
        console.print(f"  {reason}", style="dim", soft_wrap=True)
