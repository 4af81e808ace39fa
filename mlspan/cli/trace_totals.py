"""Totals of stored traces by model, agent, tool, user, ...: calls, errors, tokens, cost and latency."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Literal, NamedTuple, TypeVar, cast, get_args

from . import form
from .durations import Durations
from .outlines import AGENT_TYPES, MODEL_TYPES, AlikeTraces, SpanOutline, TraceOutline, is_simple

_OPERATION_PREFIXES: Final = ("invoke_agent ", "execute_tool ", "create_agent ", "invoke_workflow ")
T = TypeVar("T", str, int)
PERCENTILES: Final = (50, 95, 99)
Metric = Literal["cost", "tokens", "p95", "calls", "errors"]
Group = Literal["model", "agent", "tool", "workflow", "user", "session", "tag", "experiment", "run", "error"]
ALL_GROUPS: Final[tuple[Group, ...]] = get_args(Group)
DEFAULT_GROUPS: Final[tuple[Group, ...]] = ("model", "agent", "tool")
_MOST_EMPTY: Final = 1_000
_MOST_PLACES: Final = 10_000  # names of spans whose row is remembered
_UNKNOWN: Final = "-"  # the row of traces that name no user, session or run


class SummedUsage(NamedTuple):
    """Tokens and cost (US dollars) of several traces, and how many of them have a cost."""

    input_tokens: int
    output_tokens: int
    cost: float
    priced: int


@dataclass
class StatsRow:
    """Totals of the calls of one model, agent or tool, or of traces. The cost is in US dollars."""

    name: str
    calls: int = 0
    errors: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost: float = 0.0
    priced_calls: int = 0  # calls whose cost is known
    durations: Durations = field(default_factory=Durations)

    def add_call(self, *, failed: bool, duration_ms: float | None) -> None:
        """Add one call without its tokens and cost."""
        self.calls += 1
        self.errors += failed
        if duration_ms is not None:
            self.durations.add(duration_ms)

    def add_usage(self, input_tokens: int | None, output_tokens: int | None, cost: float | None) -> None:
        """Add tokens and a cost. None stands for what is not known, or belongs elsewhere."""
        self.input_tokens += input_tokens or 0
        self.output_tokens += output_tokens or 0
        if cost is not None:
            self.cost += cost
            self.priced_calls += 1

    def add_calls(self, durations_ms: Sequence[float | None], failed: int) -> None:
        """Add several calls without their tokens and cost, *failed* of which failed."""
        self.calls += len(durations_ms)
        self.errors += failed
        is_complete = None not in durations_ms
        known = durations_ms if is_complete else [one for one in durations_ms if one is not None]
        self.durations.add_all(cast("Sequence[float]", known))

    def add_summed_usage(self, usage: SummedUsage) -> None:
        """Add the tokens and the cost of several traces."""
        self.input_tokens += usage.input_tokens
        self.output_tokens += usage.output_tokens
        self.cost += usage.cost
        self.priced_calls += usage.priced

    def compute_percentile(self, percent: float) -> float | None:
        """Return the percentile of the durations, in milliseconds."""
        return self.durations.compute_percentile(percent)

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


def choose_metric(rows: Sequence[StatsRow]) -> Metric:
    """Return the first metric that any row has: cost, tokens, or else p95."""
    if any(row.cost for row in rows):
        return "cost"
    return "tokens" if any(row.input_tokens or row.output_tokens for row in rows) else "p95"


class TraceStats:
    """Totals of all traces, by group, and by interval of time.

    If a span has tokens or a cost, those of the spans below it are not added, as in MLflow's totals of a trace.

    Args:
        groups: what to add up by.
        every_ms: length of an interval in milliseconds; None: no intervals.
        experiments: names of experiments by id.
    """

    def __init__(
        self,
        groups: Sequence[Group] = DEFAULT_GROUPS,
        every_ms: int | None = None,
        experiments: Mapping[str, str] | None = None,
    ) -> None:
        self.traces = StatsRow("traces")
        self.intervals: dict[int, StatsRow] = {}  # by their start, in milliseconds since 1970
        self._every_ms, self._experiments = every_ms, experiments or {}
        self._utc_offset_ms = form.find_utc_offset()  # intervals begin at midnight, in local time of today
        self._rows: dict[str, dict[str, StatsRow]] = {group: {} for group in groups}
        self._places: dict[tuple[str, str, str | None], tuple[str, StatsRow | None]] = {}  # by name, type and model

    @property
    def models(self) -> dict[str, StatsRow]:
        """Return the rows of models by name."""
        return {name: row for name, row in self._rows.get("model", {}).items() if row.calls}

    def add_trace(self, trace: TraceOutline) -> None:
        """Add a trace and its spans."""
        for row in (self.traces, *self._find_rows(trace)):
            row.add_call(failed=trace.failed, duration_ms=trace.duration_ms)
            row.add_usage(trace.input_tokens, trace.output_tokens, trace.cost)
        if trace.spans:
            self._add_spans(trace)

    def add_alike(self, alike: AlikeTraces) -> None:
        """Add traces that are alike, and their spans, as if each were added by itself."""
        traces = alike.traces
        if self._every_ms is not None or not _TRACE_NAMES.keys().isdisjoint(self._rows):
            rows: dict[int, tuple[StatsRow, list[TraceOutline]]] = {}
            for trace in traces:
                for row in self._find_rows(trace):
                    rows.setdefault(id(row), (row, []))[1].append(trace)
            for row, some in rows.values():
                _add_traces(row, some, _sum_usage(some))
        usage = _sum_usage(traces)
        _add_traces(self.traces, traces, usage)
        whole = None
        for span, durations in zip(alike.spans, alike.durations, strict=True):
            kind, found = self._find_place(span.name, span.span_type, span.model)
            if found is not None:
                found.add_calls(durations, len(traces) if span.failed else 0)
                if kind == "agent":
                    found.add_summed_usage(usage)
                elif kind == "model":
                    whole = found
        if whole is not None:
            whole.add_summed_usage(usage)

    def _find_rows(self, trace: TraceOutline) -> list[StatsRow]:
        """Return the rows that a whole trace belongs to, beside that of all."""
        rows = []
        if self._every_ms is not None:
            offset = self._utc_offset_ms
            start = (trace.start_ms + offset) // self._every_ms * self._every_ms - offset
            rows.append(_get_or_add_row(self.intervals, start))
        for group, found in self._rows.items():
            if group in _TRACE_NAMES:
                names = _TRACE_NAMES[group](trace)
                if group == "experiment":
                    names = [self._experiments.get(name, name) for name in names]
                rows += [_get_or_add_row(found, name) for name in names]
        return rows

    def _add_spans(self, trace: TraceOutline) -> None:
        """Add each span to the group that it belongs to."""
        spans, errors = trace.spans, self._rows.get("error")
        is_whole = is_simple(spans) if trace.is_simple is None else trace.is_simple
        tree = None if is_whole else _SpanTree(spans)
        passed_on = set() if errors is None else {span[1] for span in spans if span[4]}  # to these spans, by one below
        whole = None
        for span in spans:
            key = span[2], span[3], span[6]
            kind, row = self._places.get(key) or self._find_place(*key)
            failed, duration_ms = span[4], span[5]
            if row is not None and not (kind == "model" and tree is not None and tree.is_below_model(span)):
                row.add_call(failed=bool(failed), duration_ms=duration_ms)
                if kind == "agent":
                    row.add_usage(*_find_usage(trace, span, tree))
                elif kind == "model" and is_whole:
                    whole = row
                elif kind == "model":
                    row.add_usage(span[7], span[8], span[9])
            if failed and errors is not None and span[0] not in passed_on:
                _get_or_add_row(errors, span[10] or "failed").add_call(failed=True, duration_ms=duration_ms)
        if whole is not None:
            whole.add_usage(trace.input_tokens, trace.output_tokens, trace.cost)

    def _find_place(self, name: str, span_type: str, model: str | None) -> tuple[str, StatsRow | None]:
        """Return whether a span is a call to a model, to a tool, or of an agent, and its row; None if it has none."""
        key = name, span_type, model
        if key in self._places:
            return self._places[key]
        group, kind = None, ""
        if span_type in MODEL_TYPES:
            group, kind, name = "model", "model", model or name
        elif span_type in AGENT_TYPES:
            group, kind, name = ("agent" if span_type == "AGENT" else "workflow"), "agent", _strip_operation(name)
        elif span_type == "TOOL":
            group, kind, name = "tool", "tool", _strip_operation(name)
        rows = None if group is None else self._rows.get(group)
        found = kind, None if rows is None else _get_or_add_row(rows, name)
        if len(self._places) < _MOST_PLACES:
            self._places[key] = found
        return found

    def list_intervals(self) -> list[StatsRow]:
        """Return the rows of all intervals from the first to the last, each named by its start in local time.

        Those without traces are there too, unless they are more than 1,000.
        """
        if self._every_ms is None or not self.intervals:
            return []
        first, last = min(self.intervals), max(self.intervals)
        is_short = (last - first) // self._every_ms <= _MOST_EMPTY
        starts = range(first, last + 1, self._every_ms) if is_short else sorted(self.intervals)
        is_daily = self._every_ms % 86_400_000 == 0
        named = [(start, form.format_full_time(start)) for start in starts]
        return [
            replace(self.intervals.get(start) or StatsRow(""), name=text[:10] if is_daily else text[:16])
            for start, text in named
        ]

    @property
    def rows_by_group(self) -> dict[str, list[StatsRow]]:
        """Return the rows by group, the most expensive first."""
        called = {group: [row for row in rows.values() if row.calls] for group, rows in self._rows.items()}
        return {group: sorted(rows, key=_rank_row) for group, rows in called.items() if rows}


def _rank_row(row: StatsRow) -> tuple[float, int, int, str]:
    """Return the sort key of a row. Costs are rounded: their sum's last digits depend on the order of the traces."""
    return -float(f"{row.cost:.9g}"), -(row.input_tokens + row.output_tokens), -row.calls, row.name


_TRACE_NAMES: Final[dict[str, Callable[[TraceOutline], Iterable[str]]]] = {
    "user": lambda trace: [trace.user or _UNKNOWN],
    "session": lambda trace: [trace.session or _UNKNOWN],
    "run": lambda trace: [trace.run_id or _UNKNOWN],
    "experiment": lambda trace: [trace.experiment_id],
    "tag": lambda trace: [f"{key}={value}" for key, value in trace.tags.items()],
}
GROUPS_OF_TRACES: Final = frozenset(_TRACE_NAMES)  # whose rows count whole traces, not calls


def _sum_usage(traces: Sequence[TraceOutline]) -> SummedUsage:
    costs = [trace.cost for trace in traces if trace.cost is not None]
    sent = sum([trace.input_tokens or 0 for trace in traces])
    return SummedUsage(sent, sum([trace.output_tokens or 0 for trace in traces]), sum(costs), len(costs))


def _add_traces(row: StatsRow, traces: Sequence[TraceOutline], usage: SummedUsage) -> None:
    """Add whole traces to a row."""
    row.add_calls([trace.duration_ms for trace in traces], sum([bool(trace.failed) for trace in traces]))
    row.add_summed_usage(usage)


def _find_usage(
    trace: TraceOutline, span: SpanOutline, tree: _SpanTree | None
) -> tuple[int | None, int | None, float | None]:
    """Return the tokens and cost of an agent and all below it; the trace's where it is all of the trace."""
    return (trace.input_tokens, trace.output_tokens, trace.cost) if tree is None else tree.sum_usage(span)


def _get_or_add_row(rows: dict[T, StatsRow], key: T) -> StatsRow:
    row = rows.get(key)
    if row is None:
        row = rows[key] = StatsRow(str(key))
    return row


def _strip_operation(name: str) -> str:
    """Return a span's name without its operation."""
    return next((name.removeprefix(known) for known in _OPERATION_PREFIXES if name.startswith(known)), name)


class _SpanTree:
    """The spans of one trace by their ids, and the spans below each."""

    def __init__(self, spans: Sequence[SpanOutline]) -> None:
        self._by_id = {span[0]: span for span in spans}
        self._children: dict[str, list[SpanOutline]] = {}
        for span in spans:
            if span[1] is not None:
                self._children.setdefault(span[1], []).append(span)

    def is_below_model(self, span: SpanOutline) -> bool:
        """Return whether a call to a model is above a span."""
        seen = {span[0]}
        above = self._by_id.get(span[1] or "")
        while above is not None and above[0] not in seen:
            if above[3] in MODEL_TYPES:
                return True
            seen.add(above[0])
            above = self._by_id.get(above[1] or "")
        return False

    def sum_usage(self, span: SpanOutline) -> tuple[int | None, int | None, float | None]:
        """Return the sums of the topmost spans' tokens and of the topmost spans' costs; None if none is known."""
        sent: list[int] = []
        received: list[int] = []
        costs: list[float] = []
        waiting, seen = [(span, True, True)], {span[0]}
        while waiting:
            one, counts_tokens, counts_cost = waiting.pop()
            span_id, own_sent, own_received, cost = one[0], one[7], one[8], one[9]
            if counts_tokens and own_sent is not None:
                sent.append(own_sent)
                received.append(own_received or 0)
                counts_tokens = False
            if counts_cost and cost is not None:
                costs.append(cost)
                counts_cost = False
            if counts_tokens or counts_cost:
                below = [child for child in self._children.get(span_id, ()) if child[0] not in seen]
                seen.update(child[0] for child in below)
                waiting += [(child, counts_tokens, counts_cost) for child in below]
        return sum(sent) if sent else None, sum(received) if sent else None, sum(costs) if costs else None
