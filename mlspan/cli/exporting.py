"""``mlspan export``: write the traces of a store to a file, as OTLP or as a table of spans."""

from __future__ import annotations

import gzip
import importlib
import io
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import IO, Annotated, Any

from . import form, model
from .arguments import Argument, Option, UsageError
from .common import CommandFailure, ExperimentOption, TrackingUriOption, print_note, require_module, show_busy
from .filters import parse_filter
from .listing import (
    FilterOption,
    RunOption,
    SessionOption,
    SinceOption,
    StatusOption,
    make_filter,
    parse_since,
)
from .opening import open_reader
from .otlp_encoding import encode_trace, strip_trace_id
from .places import locate_store
from .reading import MAX_TRACES, TraceFilter, TraceReader

_STANDARD_OUTPUT = Path("-")


def export(
    file: Annotated[
        Path,
        Argument(
            metavar="FILE",
            help="OTLP as JSON lines, compressed if it ends in .gz or .zst; a row for each span if in .parquet; "
            "- writes JSON lines to standard output.",
        ),
    ] = _STANDARD_OUTPUT,
    tracking_uri: TrackingUriOption = None,
    experiment: ExperimentOption = None,
    run: RunOption = None,
    session: SessionOption = None,
    status: StatusOption = None,
    since: SinceOption = None,
    filter_: FilterOption = None,
    limit: Annotated[
        int | None, Option("--limit", "-n", lowest=1, help="Maximum number of traces.", default="all")
    ] = None,
    force: Annotated[bool, Option("--force", help="Replace a file that exists.")] = False,
) -> None:
    """Write traces to a file, the newest first.

    mlspan import and an OpenTelemetry collector read the JSON lines; DuckDB, Spark and Ray read Parquet.

    Examples:
        mlspan export traces.jsonl.gz
        mlspan export --since 1w --experiment support week.parquet
        mlspan export --status error --limit 1
        mlspan export --filter "tag.team = 'ops'" ops.jsonl.gz
    """
    since_ms = parse_since(since)
    conditions = parse_filter(filter_)
    _check_file(file, force=force)
    traces = open_reader(locate_store(tracking_uri, experiment))
    now_ms = round(time.time() * 1000)  # what begins later is not read, so that the window stands still
    where = replace(make_filter(traces, run, session, status, since_ms, conditions), until_ms=now_ms)
    if file == _STANDARD_OUTPUT:
        _export_traces(traces, where, limit, _make_line_writer(sys.stdout.buffer))
        sys.stdout.buffer.flush()
        return
    with _replace_file(file, force=force) as beside, _open_writer(beside, file.suffix, traces) as write_trace:
        counts = _export_traces(traces, where, limit, write_trace)
    print_note(f"wrote {counts} to {file}")


def _check_file(file: Path, *, force: bool) -> None:
    """Check what can be known before a trace is read.

    Raises:
        UsageError: if the file exists and is not to be replaced, or is a folder.
        CommandFailure: if its format needs what is not installed.
    """
    if file == _STANDARD_OUTPUT:
        return
    if file.is_dir():
        raise UsageError(f"{file} is a folder")
    if file.exists() and not file.is_file():
        raise UsageError(f"{file} is no file; - writes to standard output")
    if file.exists() and not force:
        raise UsageError(f"{file} exists; --force replaces it")
    if file.suffix == ".parquet":
        require_module("pyarrow", "pyarrow", "Parquet")
    if file.suffix == ".zst":
        _open_zstd(io.BytesIO()).close()


def _export_traces(
    traces: TraceReader, where: TraceFilter, limit: int | None, write_trace: Callable[[model.StoredTrace], None]
) -> str:
    """Write the traces that match, and return how many there were, with their spans, in words."""
    trace_count = span_count = left_out = 0
    with show_busy("Writing traces"):
        for trace in traces.iterate_traces(where, limit=limit or MAX_TRACES, spans=True):
            if strip_trace_id(trace.id) is None:
                left_out += 1
                continue
            write_trace(trace)
            trace_count += 1
            span_count += len(trace.spans)
    if left_out:
        print_note(f"{form.format_quantity(left_out, 'trace')} left out, whose ids OpenTelemetry has no form for")
    return f"{form.format_quantity(trace_count, 'trace')} ({form.format_quantity(span_count, 'span')})"


@contextmanager
def _replace_file(file: Path, *, force: bool) -> Iterator[Path]:
    """Give the path of a file beside *file*, which takes its name once all is written, and is removed otherwise.

    Raises:
        CommandFailure: if it cannot be written, or *file* has come to be meanwhile and is not to be replaced.
    """
    file = file.resolve()  # what a link leads to
    beside = file.with_name(f".{file.name}.{os.getpid()}.part")
    try:
        try:
            yield beside
            if file.exists() and not force:
                raise CommandFailure(f"{file} was made meanwhile; --force replaces it")
            beside.replace(file)
        finally:
            beside.unlink(missing_ok=True)
    except OSError as error:
        raise CommandFailure(f"cannot write {file}: {error.strerror or error}") from error


@contextmanager
def _open_writer(path: Path, suffix: str, traces: TraceReader) -> Iterator[Callable[[model.StoredTrace], None]]:
    """Open a file, and give the function that writes a trace to it."""
    if suffix == ".parquet":
        from .span_table import SpanTable

        table = SpanTable(path, traces.experiments)
        try:
            yield table.add_trace
        except BaseException:
            table.discard()
            raise
        table.close()
        return
    with path.open("xb") as plain:
        if suffix not in {".gz", ".zst"}:
            yield _make_line_writer(plain)
            return
        with gzip.GzipFile(fileobj=plain, filename="", mode="wb") if suffix == ".gz" else _open_zstd(plain) as packed:
            yield _make_line_writer(packed)


def _make_line_writer(output: IO[bytes] | Any) -> Callable[[model.StoredTrace], None]:
    def write_trace(trace: model.StoredTrace) -> None:
        for line in encode_trace(trace):
            output.write(line.encode() + b"\n")

    return write_trace


def _open_zstd(output: IO[bytes]) -> Any:
    """Return a writer that compresses, by Python's own module or the zstandard package's.

    Raises:
        CommandFailure: if neither is there.
    """
    for name in ("compression.zstd", "zstandard"):
        try:
            module: Any = importlib.import_module(name)
        except ImportError:
            continue
        if name == "zstandard":
            return module.ZstdCompressor().stream_writer(output, closefd=False)
        return module.ZstdFile(output, "wb")
    raise CommandFailure("compressing by zstd needs zstandard: pip install zstandard; .gz needs nothing")
