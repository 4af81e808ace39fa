"""Totals of stored traces by model, agent and tool: calls, errors, tokens, cost and latency, for ``mlspan stats``."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from . import model

_MODEL_TYPES: Final = {"CHAT_MODEL", "LLM", "EMBEDDING"}
_OPERATION_PREFIXES: Final = ("invoke_agent ", "execute_tool ", "create_agent ")
PERCENTILES: Final = (50, 95, 99)
Metric = Literal["cost", "tokens", "p95", "calls", "errors"]


@dataclass
class StatsRow:
    """Totals of the calls of one model, agent or tool, or of all traces. The cost is in US dollars."""

    name: str
    calls: int = 0
    errors: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost: float = 0.0
    priced_calls: int = 0  # calls whose cost is known
    durations_ms: list[float] = field(default_factory=list)  # milliseconds

    def add_call(self, span: model.StoredSpan, tokens: model.TokenCounts | None, cost: float | None) -> None:
        """Add one call. None stands for tokens or a cost that are not known, or belong elsewhere."""
        self.calls += 1
        self.errors += span.failed
        if tokens is not None:
            self.input_tokens += tokens.input
            self.output_tokens += tokens.output
        if cost is not None:
            self.cost += cost
            self.priced_calls += 1
        if span.duration_ms is not None:
            self.durations_ms.append(span.duration_ms)

    def compute_percentile(self, percent: float) -> float | None:
        """Return the percentile of the durations, in milliseconds."""
        return interpolate_percentile(self.durations_ms, percent)

    def get_metric(self, name: Metric) -> float:
        """Return the value of the metric *name*, for charts and sorting."""
        if name == "p95":
            return self.compute_percentile(95) or 0.0
        return float(
            {"cost": self.cost, "tokens": self.input_tokens + self.output_tokens, "calls": self.calls}.get(
                name, self.errors
            )
        )

    def to_json_object(self) -> dict[str, object]:
        """Return the row as ``--json`` prints it."""
        return {
            "name": self.name,
            "calls": self.calls,
            "errors": self.errors,
            "input_tokens": self.input_tokens,
            "output_tokens": self.output_tokens,
            "cost_usd": self.cost if self.priced_calls else None,
            **{f"p{percent}_ms": self.compute_percentile(percent) for percent in PERCENTILES},
        }


class TraceStats:
    """Totals of all traces, and of each model, agent and tool in them.

    If a span has tokens or a cost, those of the spans below it are not added, as in MLflow's totals of a trace.
    """

    def __init__(self) -> None:
        self.traces = StatsRow("traces")
        self.models: dict[str, StatsRow] = {}
        self.agents: dict[str, StatsRow] = {}
        self.tools: dict[str, StatsRow] = {}

    def add_trace(self, trace: model.StoredTrace) -> None:
        """Add a trace and its spans."""
        self.traces.calls += 1
        self.traces.errors += trace.failed
        if trace.duration_ms is not None:
            self.traces.durations_ms.append(trace.duration_ms)
        if trace.tokens:
            self.traces.input_tokens += trace.tokens.input
            self.traces.output_tokens += trace.tokens.output
        if trace.cost is not None:
            self.traces.cost += trace.cost
            self.traces.priced_calls += 1
        rows = list(trace.walk_tree())
        path: list[model.StoredSpan] = []
        for position, (span, is_last) in enumerate(rows):
            del path[len(is_last) - 1 :]
            name = _strip_operation(span)
            if span.span_type in _MODEL_TYPES and not any(above.span_type in _MODEL_TYPES for above in path):
                name = span.model or span.name
                _get_or_add_row(self.models, name).add_call(span, span.tokens, span.cost)
            elif span.span_type == "AGENT":
                below = [found for found, levels in _iterate_subtree(rows, position)]
                _get_or_add_row(self.agents, name).add_call(span, _sum_tokens(below), _sum_cost(below))
            elif span.span_type == "TOOL":
                _get_or_add_row(self.tools, name).add_call(span, None, None)
            path.append(span)

    @property
    def rows_by_group(self) -> dict[str, list[StatsRow]]:
        """Return the rows by group (model, agent, tool), the most expensive first."""
        found = {"model": self.models, "agent": self.agents, "tool": self.tools}
        order = lambda row: (-row.cost, -(row.input_tokens + row.output_tokens), -row.calls, row.name)  # noqa: E731
        return {group: sorted(rows.values(), key=order) for group, rows in found.items() if rows}


def _get_or_add_row(rows: dict[str, StatsRow], name: str) -> StatsRow:
    return rows.setdefault(name, StatsRow(name))


def _strip_operation(span: model.StoredSpan) -> str:
    """Return the span's name without its operation."""
    return next(
        (span.name.removeprefix(known) for known in _OPERATION_PREFIXES if span.name.startswith(known)), span.name
    )


_TreeRows = list[tuple[model.StoredSpan, tuple[bool, ...]]]


def _iterate_subtree(rows: _TreeRows, position: int) -> Iterable[tuple[model.StoredSpan, int]]:
    """Yield the span at *position* of a tree and all spans below it, with their depths."""
    top = len(rows[position][1])
    yield rows[position][0], top
    for span, is_last in rows[position + 1 :]:
        if len(is_last) <= top:
            return
        yield span, len(is_last)


def _select_topmost(spans: list[model.StoredSpan], get_value: Any) -> list[model.StoredSpan]:
    """Return the spans for which *get_value* is not None, unless a selected span is above them.

    *spans* must be in tree order.
    """
    counted: set[str | None] = set()
    found = []
    for span in spans:
        if span.parent_id in counted:
            counted.add(span.id)
        elif get_value(span) is not None:
            counted.add(span.id)
            found.append(span)
    return found


def _sum_tokens(spans: list[model.StoredSpan]) -> model.TokenCounts | None:
    """Return the sum of the topmost spans' tokens; None if none has any."""
    counts = [span.tokens for span in _select_topmost(spans, lambda span: span.tokens) if span.tokens]
    input_tokens, output_tokens = sum(count.input for count in counts), sum(count.output for count in counts)
    return model.TokenCounts(input_tokens, output_tokens, input_tokens + output_tokens) if counts else None


def _sum_cost(spans: list[model.StoredSpan]) -> float | None:
    """Return the sum of the topmost spans' costs; None if none is known."""
    costs = [span.cost for span in _select_topmost(spans, lambda span: span.cost) if span.cost is not None]
    return sum(costs) if costs else None


def interpolate_percentile(values: list[float], percent: float) -> float | None:
    """Return the percentile by linear interpolation between the closest ranks, as NumPy does; None without values."""
    if not values:
        return None
    ordered = sorted(values)
    rank = (len(ordered) - 1) * percent / 100
    low = int(rank)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (rank - low)
