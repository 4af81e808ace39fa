"""Writer of spans as a table in a Parquet file, a row for each, by pyarrow."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from ..tracing.operations import semconv as sc
from ..tracing.operations.content import replace_surrogates, to_json
from . import model
from .otlp_encoding import strip_trace_id

_MAX_ROWS: Final = 5_000  # of a group of rows, which is in memory as a whole
_MAX_CHARACTERS: Final = 16 * 1024 * 1024  # of attributes in a group
_TEXT, _COUNT, _NUMBER, _TIME = "string", "int64", "float64", "timestamp"
COLUMNS: Final = {
    "trace_id": _TEXT,
    "span_id": _TEXT,
    "parent_span_id": _TEXT,
    "name": _TEXT,
    "type": _TEXT,
    "start": _TIME,
    "end": _TIME,
    "duration_ms": _NUMBER,
    "status": _TEXT,
    "error": _TEXT,
    "error_type": _TEXT,
    "provider": _TEXT,
    "model": _TEXT,
    "input_tokens": _COUNT,
    "output_tokens": _COUNT,
    "cost_usd": _NUMBER,
    "session": _TEXT,
    "user": _TEXT,
    "run_id": _TEXT,
    "experiment": _TEXT,
    "tags": _TEXT,
    "attributes": _TEXT,
}


class SpanTable:
    """Table of spans that is written to *path* by groups of rows. *experiments* are names by id."""

    def __init__(self, path: Path, experiments: dict[str, str]) -> None:
        import pyarrow as pa
        from pyarrow import parquet

        # Spark reads no nanoseconds.
        types = {_TEXT: pa.string(), _COUNT: pa.int64(), _NUMBER: pa.float64(), _TIME: pa.timestamp("us", tz="UTC")}
        self._pa: Any = pa
        self._schema: Any = pa.schema([(name, types[kind]) for name, kind in COLUMNS.items()])
        self._writer: Any = parquet.ParquetWriter(path, self._schema, compression="zstd")
        self._experiments = experiments
        self._rows: list[dict[str, object]] = []
        self._characters = 0

    def add_trace(self, trace: model.StoredTrace) -> None:
        """Add the spans of a trace."""
        for row in _make_rows(trace, self._experiments):
            self._rows.append(row)
            self._characters += len(str(row["attributes"]))
            if len(self._rows) >= _MAX_ROWS or self._characters >= _MAX_CHARACTERS:
                self._write_rows()

    def close(self) -> None:
        """Write what is left, and the file's end."""
        self._write_rows()
        self._writer.close()

    def discard(self) -> None:
        """Close the file, whose content is not wanted."""
        self._writer.close()

    def _write_rows(self) -> None:
        if self._rows:
            self._writer.write_table(self._pa.Table.from_pylist(self._rows, schema=self._schema))
        self._rows, self._characters = [], 0


def _make_rows(trace: model.StoredTrace, experiments: dict[str, str]) -> Iterator[dict[str, object]]:
    of_trace = {
        "trace_id": strip_trace_id(trace.id) or trace.id,
        "session": trace.session,
        "user": trace.user,
        "run_id": trace.run_id,
        "experiment": experiments.get(trace.experiment_id, trace.experiment_id),
        "tags": to_json(trace.tags),
    }
    for span in trace.spans:
        row = {**of_trace, **_describe_span(span)}
        yield {name: replace_surrogates(value) if isinstance(value, str) else value for name, value in row.items()}


def _describe_span(span: model.StoredSpan) -> dict[str, object]:
    """Return what a row says of a span itself."""
    provider = span.attributes.get(sc.PROVIDER)
    return {
        "span_id": span.id,
        "parent_span_id": span.parent_id,
        "name": span.name,
        "type": span.span_type,
        "start": span.start_ns // 1000,
        "end": None if span.end_ns is None else span.end_ns // 1000,
        "duration_ms": span.duration_ms,
        "status": "ERROR" if span.failed else "OK" if span.end_ns is not None else "IN_PROGRESS",
        "error": span.error,
        "error_type": span.error_type,
        "provider": provider if isinstance(provider, str) else None,
        "model": span.model,
        "input_tokens": None if span.tokens is None else span.tokens.input,
        "output_tokens": None if span.tokens is None else span.tokens.output,
        "cost_usd": span.cost,
        "attributes": to_json(span.attributes),
    }
