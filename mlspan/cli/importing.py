"""``mlspan import``: traces that were written to a file, into MLflow."""

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

_MOST_HELD: Final = 50_000  # spans in memory, before the traces that have waited longest are stored
_BATCH: Final = 50  # traces
_TRIES: Final = 5
_REASONS: Final = 3  # that are told


@dataclass
class Taken:
    """What has become of a file."""

    traces: set[int] = field(default_factory=set)
    spans: int = 0
    left_out: set[int] = field(default_factory=set)
    unreadable: int = 0
    unfinished: int = 0
    refused: int = 0
    reasons: list[str] = field(default_factory=list)

    def tell(self, reason: str) -> None:
        if len(self.reasons) < _REASONS and reason not in self.reasons:
            self.reasons.append(reason)


class Gathered:
    """The spans of a file by trace, wherever in it they stand."""

    def __init__(self, store: Callable[[list[TraceSegment]], None], taken: Taken, *, everything: bool) -> None:
        self._store, self._taken, self._everything = store, taken, everything
        self._spans: dict[int, list[ReadableSpan]] = {}  # the trace that was touched last stands last
        self.held = 0

    def add(self, span: ReadableSpan) -> None:
        context = span.get_span_context()
        trace_id = context.trace_id if context else 0
        of_trace = self._spans.pop(trace_id, [])
        of_trace.append(span)
        self._spans[trace_id] = of_trace
        self.held += 1
        if self.held >= _MOST_HELD:
            self._send(len(self._spans) // 2 or 1)

    def finish(self) -> None:
        while self._spans:
            self._send(_BATCH)

    def _send(self, how_many: int) -> None:
        parcels: list[TraceSegment] = []
        for trace_id in list(self._spans)[:how_many]:
            of_trace = self._spans.pop(trace_id)
            self.held -= len(of_trace)
            known = trace_id in self._taken.traces
            if known or self._everything or any(_is_genai(span) for span in of_trace):
                parcels.append(TraceSegment(TraceOrigin(), of_trace, _root(of_trace), whole=False))
                self._taken.left_out.discard(trace_id)
            else:
                self._taken.left_out.add(trace_id)
        for start in range(0, len(parcels), _BATCH):
            self._store(parcels[start : start + _BATCH])


def _root(of_trace: Sequence[ReadableSpan]) -> int:
    """The id of the span that stands at the top: without a parent, else the first whose parent is not here."""
    ids = {_id(span) for span in of_trace}
    tops = [span for span in of_trace if span.parent is None or span.parent.span_id not in ids] or of_trace
    return _id(min(tops, key=lambda span: (span.parent is not None, span.start_time or 0)))


def _is_genai(span: ReadableSpan) -> bool:
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
    everything: Annotated[bool, typer.Option("--all", help="Take traces without a GenAI span, too.")] = False,
) -> None:
    """Store traces from an OpenTelemetry file in MLflow.

    What a collector's file exporter writes, from any GenAI instrumentation: the conventions, OpenInference,
    OpenLLMetry. Taking a file twice changes nothing.
    """
    if str(file) != "-" and not file.is_file():
        raise typer.BadParameter(f"there is no file {file}", param_hint="FILE")
    where = place(tracking_uri, experiment, exists=False)
    if not is_server(where.uri):
        need("mlflow", "mlflow", "a database")
    taken, sink = Taken(), MlflowSink(tracking_uri=where.uri, experiment=where.experiment, run=run)
    try:
        with _opened(file) as data:
            _take(data, sink, taken, everything=everything)
    finally:
        sink.close()
    _report(taken, f"{where.experiment or 'Default'!r} of {where.shown}")
    if taken.unreadable or taken.refused or taken.unfinished:
        raise typer.Exit(1)


@contextmanager
def _opened(file: Path) -> Iterator[IO[bytes]]:
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


def _take(data: IO[bytes], sink: MlflowSink, taken: Taken, *, everything: bool) -> None:
    size = data.seek(0, 2)
    data.seek(0)
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    console = err()
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as progress:
        reading = progress.add_task("reading", total=max(size, 1))
        storing = progress.add_task("storing", total=None, visible=False)  # how many is known when all is read

        def store(parcels: list[TraceSegment]) -> None:
            _send(sink, parcels, taken)
            said = f"stored {taken.spans:,} spans"
            progress.update(storing, visible=True, completed=taken.spans, description=said)

        gathered = Gathered(store, taken, everything=everything)
        try:
            for piece in pieces(data):
                progress.update(reading, completed=piece.read)
                if piece.traces is None:
                    taken.unreadable += 1
                    taken.tell(f"{'line ' + str(piece.number) + ': ' if piece.number else ''}{piece.why}")
                    continue
                for span in spans(piece.traces):
                    if span is None:
                        taken.unfinished += 1
                    else:
                        gathered.add(span)
        except NeedsZstd:
            raise Failure("the file is compressed by zstd: pip install zstandard, or decompress it first") from None
        progress.update(reading, completed=size)
        progress.update(storing, visible=True, total=taken.spans + gathered.held)
        gathered.finish()


def _send(sink: MlflowSink, parcels: list[TraceSegment], taken: Taken) -> None:
    for attempt in range(_TRIES):
        try:
            refused = sink.send(parcels)
            break
        except StoreRejected as rejected:
            raise Failure(str(rejected)) from rejected
        except BackendUnavailable as away:
            if attempt == _TRIES - 1 or not taken.traces:  # who has never answered will not
                raise Failure(
                    f"{away.reason}; {len(taken.traces)} traces are stored, and taking the file again adds the rest"
                ) from away
            time.sleep(away.retry_after or 2**attempt)
    taken.refused += len(refused)
    for one in refused:
        taken.tell(one.reason)
    lost = {id(one.item) for one in refused}
    for parcel in parcels:
        if id(parcel) not in lost and (context := parcel.spans[0].get_span_context()):
            taken.traces.add(context.trace_id)
            taken.spans += len(parcel.spans)


def _report(taken: Taken, where: str) -> None:
    console = out()
    console.print(
        f"{form.many(len(taken.traces), 'trace')} ({form.many(taken.spans, 'span')}) taken into {where}", soft_wrap=True
    )
    if taken.left_out:
        console.print(
            f"{form.many(len(taken.left_out), 'trace')} without a GenAI span left out; --all takes them", soft_wrap=True
        )
    for how_many, what in (
        (taken.unreadable, "line not readable"),
        (taken.unfinished, "span without ids or an end left out"),
        (taken.refused, "trace refused by MLflow"),
    ):
        if how_many:
            first, _, rest = what.partition(" ")
            console.print(f"{form.many(how_many, first)} {rest}", style="yellow", soft_wrap=True)
    for reason in taken.reasons:
        console.print(f"  {reason}", style="dim", soft_wrap=True)
