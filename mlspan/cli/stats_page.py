"""Rendering of totals as one self-contained HTML page with charts, without scripts, fonts or images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from typing import Final

from . import form
from .html_document import render_document
from .trace_totals import PERCENTILES, Metric, StatsRow, TraceStats, choose_metric

_MOST_BARS: Final = 200
_MOST_ROWS: Final = 200  # of one group; the rest is told as a number
_TITLES: Final[dict[Metric, str]] = {
    "calls": "Traces",
    "errors": "Failed traces",
    "tokens": "Tokens",
    "cost": "Cost",
    "p95": "Latency, 95th percentile",
}


def render_stats_page(totals: TraceStats, period: str, metric: Metric | None) -> str:
    """Return totals as an HTML page: all of them, by intervals, then by each group."""
    title = f"{totals.traces.calls:,} trace{'s' * (totals.traces.calls != 1)} {period}"
    facts = _list_facts(totals.traces).items()
    return render_document(
        title,
        escape(title),
        "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in facts),
        "".join([*_render_intervals(totals), *_render_groups(totals, metric)]),
        stylesheet="stats.css",
    )


def _list_facts(row: StatsRow) -> dict[str, str]:
    """Return the totals of all traces, by title."""
    facts = {
        "failed": f"{row.errors:,} ({row.errors / row.calls:.1%})" if row.calls else "0",
        "tokens in": form.format_count(row.input_tokens),
        "tokens out": form.format_count(row.output_tokens),
        "cost": form.format_cost(row.cost) if row.priced_calls else "",
    }
    facts |= {f"p{percent}": form.format_duration(row.compute_percentile(percent)) for percent in PERCENTILES}
    return {name: value for name, value in facts.items() if value}


def format_metric(row: StatsRow, metric: Metric) -> str:
    """Return the value of a metric as text for a person."""
    formats = {"cost": form.format_cost, "p95": form.format_duration}
    return formats.get(metric, form.format_count)(row.get_metric(metric))


def _render_intervals(totals: TraceStats) -> Iterator[str]:
    """Yield a chart over time for each metric that has values."""
    rows = totals.list_intervals()[-_MOST_BARS:]
    if not rows:
        return
    yield '<section class="charts">'
    for metric, title in _TITLES.items():
        if any(row.get_metric(metric) for row in rows):
            yield _render_chart(rows, metric, title)
    yield "</section>"


def _render_chart(rows: Sequence[StatsRow], metric: Metric, title: str) -> str:
    """Return a chart with a bar for each interval; each bar tells its value when it is pointed at."""
    highest = max(row.get_metric(metric) for row in rows) or 1.0
    width = 100 / len(rows)
    bars = "".join(
        f'<rect x="{at * width + width * 0.1:.3f}" y="{100 - row.get_metric(metric) / highest * 100:.3f}" '
        f'width="{width * 0.8:.3f}" height="{row.get_metric(metric) / highest * 100:.3f}">'
        f"<title>{escape(row.name)}: {format_metric(row, metric)}</title></rect>"
        for at, row in enumerate(rows)
    )
    top = format_metric(max(rows, key=lambda row: row.get_metric(metric)), metric)
    label = escape(f"{title} from {rows[0].name} to {rows[-1].name}, at most {top}")
    return f"""<figure class="{metric}"><figcaption><b>{title}</b><span>at most {top}</span></figcaption>
<svg viewBox="0 0 100 100" preserveAspectRatio="none" role="img" aria-label="{label}">{bars}</svg>
<div class="ends"><span>{escape(rows[0].name)}</span><span>{escape(rows[-1].name)}</span></div></figure>
"""


def _render_groups(totals: TraceStats, metric: Metric | None) -> Iterator[str]:
    """Yield a table for each group, with a bar in each row."""
    for group, rows in totals.rows_by_group.items():
        charted = metric or choose_metric(rows)
        highest = max(row.get_metric(charted) for row in rows) or 1.0
        columns = _choose_columns(rows)
        head = "".join(f'<th class="num {name}">{name}</th>' for name in columns)
        body = "".join(_render_row(row, columns, row.get_metric(charted) / highest) for row in rows[:_MOST_ROWS])
        more = f"<p>and {len(rows) - _MOST_ROWS:,} more</p>" if len(rows) > _MOST_ROWS else ""
        yield (
            f'<section><h2>By {group}</h2><table><thead><tr><th>{group}</th><th class="lane">{charted}</th>{head}</tr>'
            f"</thead><tbody>{body}</tbody></table>{more}</section>\n"
        )


def _choose_columns(rows: Sequence[StatsRow]) -> list[str]:
    """Return the columns that have a value in any row."""
    has_tokens = any(row.input_tokens or row.output_tokens for row in rows)
    has_cost = any(row.priced_calls for row in rows)
    return ["calls", "errors", *(["in", "out"] if has_tokens else []), *(["cost"] if has_cost else []), "p50", "p95"]


def _render_row(row: StatsRow, columns: Sequence[str], share: float) -> str:
    """Return one row of a table. *share* is the length of its bar, from 0 to 1."""
    texts = {
        "calls": form.format_count(row.calls),
        "errors": f"{row.errors} ({row.errors / row.calls:.0%})" if row.errors else "-",
        "in": form.format_count(row.input_tokens),
        "out": form.format_count(row.output_tokens),
        "cost": form.format_cost(row.cost) if row.priced_calls else "?",
        "p50": form.format_duration(row.compute_percentile(50)),
        "p95": form.format_duration(row.compute_percentile(95)),
    }
    bad = {"errors": " bad"} if row.errors else {}
    cells = "".join(f'<td class="num {name}{bad.get(name, "")}">{texts[name]}</td>' for name in columns)
    name = escape(form.join_lines(row.name)) or "&nbsp;"
    bar = f'<td class="lane"><i style="width: {share * 100:.1f}%"></i></td>'
    return f'<tr><th scope="row">{name}</th>{bar}{cells}</tr>\n'
