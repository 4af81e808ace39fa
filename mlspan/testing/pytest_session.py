"""The hooks of the pytest plugin once a session uses it: limits, the trees of failed comparisons, and the report."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import asdict
from typing import Any, Final

import pytest

from .answer_replay import ModelAnswers
from .call_totals import CallTotals
from .collected import Spans
from .running_session import find_running_session
from .tool_calls import ToolNames

_SPANS: Final = pytest.StashKey[Spans]()
_ANSWERS: Final = pytest.StashKey[ModelAnswers]()


def note_spans(item: pytest.Item, ended: Spans) -> None:
    """Keep the spans of a test for its limits and for the report."""
    item.stash[_SPANS] = ended


def note_answers(item: pytest.Item, answers: ModelAnswers) -> None:
    """Keep the answers of a test, whose problems fail it."""
    item.stash[_ANSWERS] = answers


class SessionHooks:
    """The hooks of a session that uses the plugin. With pytest-xdist, the reports of tests carry what workers know."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._session = find_running_session()
        self._tests: list[tuple[str, CallTotals]] = []
        self._written: list[str] = []

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, object, object]:
        """Fail a test that has passed, although it asked what is not recorded, or used more than it may."""
        try:
            result = yield
        except BaseException:
            if problems := _list_problems(item):  # a client's exception may show them as one line, or not at all
                item.add_report_section("call", "model answers", problems)
            raise
        if problems := _list_problems(item):
            pytest.fail(problems, pytrace=False)
        limits, ended = _collect_limits(item), item.stash.get(_SPANS, None)
        if limits and ended is not None:
            try:
                ended.assert_within(**limits)
            except AssertionError as exceeded:
                pytest.fail(str(exceeded), pytrace=False)
        return result

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item) -> Generator[None, Any, pytest.TestReport]:
        """Add to the report of the teardown what the process that reports at the end has to know."""
        report: pytest.TestReport = yield
        if report.when == "teardown" and self._session is not None:
            ended = None if self._session.reported is None else item.stash.get(_SPANS, None)
            written = self._session.files_written
            carried = {"totals": None if ended is None else asdict(ended.totals), "written": [*written]}
            vars(report)["mlspan"] = carried  # pytest-xdist sends all that a report holds
            written.clear()
        return report

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep what the report of a test carries."""
        carried: dict[str, Any] = getattr(report, "mlspan", {})
        self._written += carried.get("written", ())
        if carried.get("totals"):
            self._tests.append((report.nodeid, CallTotals(**carried["totals"])))

    def pytest_assertrepr_compare(self, op: str, left: object, right: object) -> list[str] | None:
        """Show the tree below a comparison of tools that has failed."""
        if not isinstance(left, ToolNames) and not isinstance(right, ToolNames):
            return None
        plain = [[*one] if isinstance(one, ToolNames) else one for one in (left, right)]
        hook, names = self._config.hook, left if isinstance(left, ToolNames) else right
        told = hook.pytest_assertrepr_compare(config=self._config, op=op, left=plain[0], right=plain[1])
        lines = next(filter(None, told), [f"{plain[0]!r} {op} {plain[1]!r}"])
        return [*lines, "", *(names.explain().splitlines() if isinstance(names, ToolNames) else ())]

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """List the golden trees and recordings that were written, and the slowest and dearest tests."""
        if self._written:
            terminalreporter.section("golden trees and recordings")
            for path in sorted(set(self._written)):
                terminalreporter.write_line(f"written: {path}")
        if self._session is not None and self._session.reported is not None:
            terminalreporter.section("traces")
            for line in render_report(self._tests, self._session.reported):
                terminalreporter.write_line(line)


def _collect_limits(item: pytest.Item) -> dict[str, float]:
    """Return the limits of a test: its own, and those of its class and module that it does not name itself."""
    limits: dict[str, float] = {}
    for marker in item.iter_markers("trace_limits"):  # the nearest first
        if marker.args:
            pytest.fail(f"trace_limits takes limits by their names, not {marker.args}", pytrace=False)
        limits = {**marker.kwargs, **limits}
    return limits


def _list_problems(item: pytest.Item) -> str:
    answers = item.stash.get(_ANSWERS, None)
    return "" if answers is None else "\n\n".join(answers.problems)


def render_report(tests: Sequence[tuple[str, CallTotals]], most: int) -> list[str]:
    """Return the lines of the report: the slowest and the dearest tests, and the totals of all.

    Args:
        tests: node ids and totals; those without a span are left out.
        most: the number of tests in each list.
    """
    traced = [(name, totals) for name, totals in tests if totals.seconds or totals.calls]
    lines: list[str] = []
    slowest = sorted(traced, key=lambda test: -test[1].seconds)[:most]
    dearest = sorted(traced, key=lambda test: (-test[1].cost, -test[1].tokens))[:most]
    for title, chosen in (("slowest", slowest), ("dearest", [one for one in dearest if one[1].tokens])):
        if chosen:
            lines += [f"{title}:", *(f"  {_format_totals(totals)}  {name}" for name, totals in chosen)]
    whole = [totals for _, totals in traced]
    unpriced = sorted({name for totals in whole for name in totals.unpriced})
    lines.append(
        f"{len(traced)} of {len(tests)} tests have spans: {sum(one.calls for one in whole):,} calls to models, "
        f"{sum(one.tokens for one in whole):,} tokens, ${sum(one.cost for one in whole):.4f}"
    )
    if unpriced:
        lines.append(f"without a known price: {', '.join(unpriced)}")
    return lines


def _format_totals(totals: CallTotals) -> str:
    return f"{totals.seconds:8.3f} s  {totals.calls:4,} calls  {totals.tokens:9,} tokens  ${totals.cost:.6f}"
