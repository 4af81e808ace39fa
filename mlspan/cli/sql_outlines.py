"""Outlines of traces by plain SQL: numbers from columns, and only what has none from the stored JSON."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from ..tracing.export.mlflow.names import COST, TOKEN_USAGE
from ..tracing.operations import semconv as sc
from . import model
from .outlines import MODEL_TYPES, SpanOutline, TraceOutline, is_simple, split_tokens
from .sql_databases import SqlDatabase
from .sql_terms import make_marks, parse_value
from .stored_spans import make_span

_USAGE_NAMES: Final = (TOKEN_USAGE, sc.USAGE_INPUT_TOKENS, sc.USAGE_OUTPUT_TOKENS, COST)


class OutlineQueries:
    """The queries for the spans of a *database*, whose schema decides what is in columns."""

    def __init__(self, database: SqlDatabase) -> None:
        self._database = database
        columns = database.list_columns("spans")
        extract = database.extract_attribute
        is_model = f"type IN ({', '.join(map(repr, sorted(MODEL_TYPES)))})"
        column = "model_name IS NULL AND " if "model_name" in columns else ""
        models = f"CASE WHEN {column}{is_model} THEN COALESCE({', '.join(map(extract, model.MODEL_NAMES))}) END"
        kept = "model_name" if "model_name" in columns else "NULL"
        # In the order of SpanOutline's fields, then the trace, and the model in its stored JSON: a row of which that is
        # not needed serves as an outline, as making another tuple of each would take longest of all.
        self._spans = (
            "SELECT span_id, NULLIF(parent_span_id, ''), name, COALESCE(type, 'UNKNOWN'), "  # noqa: S608
            "status = 'ERROR', (end_time_unix_nano - start_time_unix_nano) / CAST(1000000 AS DOUBLE PRECISION), "
            f"{kept}, NULL, NULL, NULL, NULL, trace_id, {models} "
            "FROM spans WHERE trace_id IN ({})"
        )
        usage = ", ".join(map(extract, _USAGE_NAMES))
        self._usage = f"SELECT trace_id, span_id, {usage} FROM spans WHERE trace_id IN ({{}})"  # noqa: S608  # our names

    def fill_outlines(self, outlines: Sequence[TraceOutline], *, details: bool) -> Iterator[TraceOutline]:
        """Yield outlines with their spans, at most as many as a query takes parameters.

        With *details*, what failed has the type of its error.
        """
        if not outlines:
            return
        found: dict[str, list[SpanOutline]] = {one.id: [] for one in outlines}
        for row in self._database.select(self._spans.format(make_marks(found)), list(found)):
            told = row[12]
            found[row[11]].append(row if told is None else SpanOutline._make((*row[:6], _parse_text(told), *row[7:11])))
        simple = {trace_id: is_simple(spans) for trace_id, spans in found.items()}
        self._add_usage(found, [trace_id for trace_id, quick in simple.items() if not quick])
        if details:
            self._name_errors(found)
        for one in outlines:
            yield TraceOutline(*one[:12], found[one.id], simple[one.id])

    def _add_usage(self, found: dict[str, list[SpanOutline]], ids: Sequence[str]) -> None:
        """Add what each span has used by itself, in the traces *ids*, whose totals do not tell whose it is."""
        if not ids:
            return
        used = {
            (trace_id, span_id): (*_read_tokens(usage, sent, received), model.read_cost(parse_value(cost)))
            for trace_id, span_id, usage, sent, received, cost in self._database.select(
                self._usage.format(make_marks(ids)), list(ids)
            )
        }
        for trace_id in ids:
            found[trace_id] = [
                SpanOutline(*span[:7], *used.get((trace_id, span[0]), (None, None, None)), None)
                for span in found[trace_id]
            ]

    def _name_errors(self, found: dict[str, list[SpanOutline]]) -> None:
        """Name the errors of failed spans, which are few, from their stored JSON."""
        ids = [trace_id for trace_id, spans in found.items() if any(span[4] for span in spans)]
        if not ids:
            return
        failed = "SELECT trace_id, span_id, content FROM spans WHERE status = 'ERROR' AND trace_id IN"
        rows = self._database.select(f"{failed} ({make_marks(ids)})", ids)
        errors = {(trace_id, span_id): _parse_error_type(content) for trace_id, span_id, content in rows}
        for trace_id in ids:
            found[trace_id] = [
                SpanOutline(*span[:10], errors.get((trace_id, span[0]), "failed") if span[4] else None)
                for span in found[trace_id]
            ]


def _parse_error_type(text: str) -> str:
    """Return the type of the error of a failed span, from its stored JSON."""
    span = make_span("", None, "", 0, None, parse_value(text))
    return model.find_error_type(span.attributes, span.events)


def _read_tokens(usage: object, sent: object, received: object) -> tuple[int | None, int | None]:
    """Return the tokens that went in and came out, as a span tells them."""
    if usage is None and sent is None and received is None:
        return None, None
    return split_tokens(model.read_token_counts(parse_value(usage), parse_value(sent), parse_value(received)))


def _parse_text(value: object) -> str | None:
    found = parse_value(value)
    return found if isinstance(found, str) and found else None
