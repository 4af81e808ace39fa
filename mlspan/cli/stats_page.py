"""Rendering of totals as one self-contained HTML page with charts, without scripts, fonts or images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from typing import Final

from . import form
from .html_document import render_document
from .stats_figures import choose_columns, format_cell, format_metric, title_column
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
    title = f"{form.format_quantity(totals.traces.calls, 'trace')} {period}"
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
    heights = [row.get_metric(metric) for row in rows]
    highest = max(heights) or 1.0
    width = 100 / len(rows)
    bars = "".join(
        f'<rect x="{at * width + width * 0.1:.3f}" y="{100 - height / highest * 100:.3f}" '
        f'width="{width * 0.8:.3f}" height="{height / highest * 100:.3f}">'
        f"<title>{escape(row.name)}: {format_metric(row, metric)}</title></rect>"
        for at, (row, height) in enumerate(zip(rows, heights, strict=True))
    )
    top = format_metric(rows[heights.index(max(heights))], metric)
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
        columns = [name for name in choose_columns(rows) if name != "p99"]
        head = f'<th>{group}</th><th class="lane">{title_column(charted, group)}</th>'
        head += "".join(f'<th class="num {name}">{title_column(name, group)}</th>' for name in columns)
        body = "".join(_render_row(row, columns, row.get_metric(charted) / highest) for row in rows[:_MOST_ROWS])
        more = f"<p>and {len(rows) - _MOST_ROWS:,} more</p>" if len(rows) > _MOST_ROWS else ""
        yield (
            f"<section><h2>By {group}</h2><table><thead><tr>{head}</tr>"
            f"</thead><tbody>{body}</tbody></table>{more}</section>\n"
        )


def _render_row(row: StatsRow, columns: Sequence[str], share: float) -> str:
    """Return one row of a table. *share* is the length of its bar, from 0 to 1."""
    bad = {"errors": " bad"} if row.errors else {}
    cells = "".join(f'<td class="num {name}{bad.get(name, "")}">{format_cell(row, name)}</td>' for name in columns)
    name = escape(form.join_lines(row.name)) or "&nbsp;"
    bar = f'<td class="lane"><i style="width: {share * 100:.1f}%"></i></td>'
    return f'<tr><th scope="row">{name}</th>{bar}{cells}</tr>\n'
