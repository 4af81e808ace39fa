"""The pytest plugin: its fixture, what tests assert of spans, golden trees, limits and the report."""

from __future__ import annotations

import importlib.metadata
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pytest_sessions import ROOT, Session

from mlspan import testing, tracing

pytestmark = pytest.mark.timeout(500)  # sessions in processes of their own, with workers of pytest-xdist

SUPPORT = """
from mlspan import tracing

TOOLS = ["check_policy", "refund"]

def answer(tools=TOOLS, fails=""):
    with tracing.span("support", kind="agent"):
        for name in tools:
            with tracing.span(name, kind="tool") as span:
                span.input = {"order": 7}
                if name == fails:
                    raise ValueError(name)
"""


@pytest.fixture
def session(tmp_path: Path) -> Session:
    """A folder with an agent to test; the plugin is there as an installed one is."""
    if not [one for one in importlib.metadata.entry_points(group="pytest11") if one.name == "mlspan"]:
        pytest.skip("this environment was made before the plugin: install mlspan into it again")
    made = Session(tmp_path)
    made.write(support=SUPPORT)
    return made


def run_agent(tools: tuple[str, ...] = ("search", "book")) -> None:
    with tracing.span("travel", kind="agent"):
        for name in tools:
            with tracing.span(name, kind="tool"):
                pass


@pytest.mark.parametrize(
    ("match", "expected", "passes"),
    [
        ("exact", "search book", True),
        ("exact", "book search", False),
        ("exact", "search book book", False),
        ("unordered", "book search", True),
        ("unordered", "book", False),
        ("in_order", "search", True),
        ("in_order", "search book", True),
        ("in_order", "book search", False),
        ("superset", "book", True),
        ("superset", "book book", False),
        ("superset", "", True),
        ("subset", "book search pay", True),
        ("subset", "search", False),
    ],
)
def test_tools_match(match: Any, expected: str, passes: bool, spans: testing.Spans) -> None:
    run_agent()
    if passes:
        spans.assert_tools(*expected.split(), match=match)
        return
    with pytest.raises(AssertionError) as caught:
        spans.assert_tools(*expected.split(), match=match)
    assert "tools that ran: ['search', 'book']" in str(caught.value)
    assert spans.tree() in str(caught.value)


def test_a_way_to_match_that_is_none(spans: testing.Spans) -> None:
    with pytest.raises(ValueError, match="match must be one of exact, unordered, in_order, superset, subset"):
        spans.assert_tools(match="ordered")  # type: ignore[arg-type]


def test_tool_calls(spans: testing.Spans) -> None:
    """Arguments and results are decoded; a tool that fails tells its error."""
    with tracing.span("search", kind="tool") as span:
        span.input, span.output = {"city": "Paris"}, ["a", "b"]
    with pytest.raises(KeyError), tracing.span("book", kind="tool"):
        raise KeyError
    assert spans.tool_calls == [
        testing.ToolCall("search", {"city": "Paris"}, ["a", "b"]),
        testing.ToolCall("book", error="KeyError"),
    ]
    assert spans.tools == ["search", "book"]
    assert spans.totals.errors == 1


def chat(name: str, **attributes: Any) -> Any:
    made = {"gen_ai.operation.name": "chat", "gen_ai.provider.name": "openai", "gen_ai.request.model": "gpt-4o-mini"}
    names = {
        "given": "gen_ai.usage.input_tokens",
        "taken": "gen_ai.usage.output_tokens",
        "model": "gen_ai.request.model",
    }
    made |= {names.get(key, key): value for key, value in attributes.items()}
    from opentelemetry import trace

    return trace.get_tracer(name).start_as_current_span("chat", attributes=made)


@pytest.mark.any_span
def test_a_call_counts_once(spans: testing.Spans) -> None:
    """A framework's span of a call has the client's below it; both tell the same tokens."""
    with tracing.span("support", kind="agent"):
        with chat("framework", given=10, taken=5), chat("client", given=10, taken=5):
            pass
        with chat("client", given=1, taken=1):
            pass
    totals = spans.totals
    assert (totals.calls, totals.input_tokens, totals.output_tokens, totals.tokens) == (2, 11, 6, 17)
    assert totals.cost == pytest.approx((11 * 0.15 + 6 * 0.60) / 1e6)
    assert 0 < totals.seconds < 60
    spans.assert_within(calls=2, tokens=17, cost=0.001, errors=0)


@pytest.mark.any_span
@pytest.mark.parametrize(
    ("attributes", "limits", "lines"),
    [
        ({"given": 10, "taken": 5}, {"calls": 0}, ["calls: 1, and 0 are allowed"]),
        (
            {"given": 1000, "taken": 500},
            {"tokens": 1200, "input_tokens": 1000, "cost": 0.0001},
            ["tokens: 1,500, and 1,200 are allowed", "cost: $0.00045, and $0.0001 are allowed"],
        ),
        ({}, {"tokens": 10}, ["tokens: not known, as no tokens are reported by chat"]),
        ({}, {"cost": 1}, ["cost: not known, as no tokens are reported by chat"]),
        ({"given": 1, "taken": 1, "model": "mine"}, {"cost": 1}, ["cost: not known, as there is no price for chat"]),
        ({"given": 1, "taken": 1, "model": "mine"}, {"tokens": 1}, ["tokens: 2, and 1 are allowed"]),
    ],
)
def test_limits(attributes: Any, limits: Any, lines: list[str], spans: testing.Spans) -> None:
    """All that are exceeded are listed, and those that nobody can check."""
    with chat("client", **attributes):
        pass
    with pytest.raises(AssertionError) as caught:
        spans.assert_within(**limits)
    assert str(caught.value).splitlines()[1 : 1 + len(lines)] == lines


def test_a_limit_that_is_none(spans: testing.Spans) -> None:
    with pytest.raises(TypeError, match="there is no limit 'token'; there are calls, tool_calls"):
        spans.assert_within(token=5)


ASKS = """[{"role": "assistant", "parts": [
    {"type": "text", "content": "I look"}, {"type": "tool_call", "name": "search", "arguments": {"q": 1}}
]}]"""


@pytest.mark.any_span
def test_what_models_ask_for(spans: testing.Spans) -> None:
    """It is read from their answers, once for a call with two spans; a message says that no span tells of a tool."""
    with tracing.span("guide", kind="agent"), chat("framework", **{"gen_ai.output.messages": ASKS}):
        with chat("client", **{"gen_ai.output.messages": ASKS}):
            pass
    assert spans.agents == ["guide"]
    assert spans.requested_tools == [testing.ToolCall("search", {"q": 1})]
    with pytest.raises(AssertionError, match=r"models asked for \['search'\], of which no span of a tool tells"):
        spans.assert_tools("search")


@pytest.mark.any_span
def test_what_is_asked_for_counts_once_as_its_call_does(spans: testing.Spans) -> None:
    """Spans of one call are known as such at any depth; the one that is read has the content."""
    asks, other = ({"gen_ai.output.messages": text} for text in (ASKS, ASKS.replace("search", "book")))
    with chat("framework", **asks), chat("router"), tracing.span("retry"), chat("client", **asks):
        pass
    with tracing.span("guide", kind="agent"), chat("framework"), chat("client", **other):
        pass
    assert spans.totals.calls == 2
    assert spans.requested_tools == [testing.ToolCall("search", {"q": 1}), testing.ToolCall("book", {"q": 1})]


@pytest.mark.any_span
def test_what_two_instrumentations_tell_of_one_call(spans: testing.Spans) -> None:
    """Their spans stand side by side, and name the same answer."""
    from opentelemetry import trace

    told = {"gen_ai.operation.name": "chat", "gen_ai.response.id": "answer-1", "gen_ai.output.messages": ASKS}
    with tracing.span("guide", kind="agent"):
        started = [trace.get_tracer(name).start_span("chat", attributes=told) for name in ("one", "other")]
        for span in started:
            span.end()
    assert spans.totals.calls == 1
    assert spans.requested_tools == [testing.ToolCall("search", {"q": 1})]


def test_without_private_names() -> None:
    """A pytest that keeps what it rewrites elsewhere compiles more, and nothing breaks."""
    from mlspan.testing.pytest_plugin import pytest_addoption

    for manager in (SimpleNamespace(), SimpleNamespace(rewrite_hook=None), SimpleNamespace(rewrite_hook=object())):
        pytest_addoption(manager)  # type: ignore[arg-type]


@pytest.mark.any_span
def test_the_spans_of_other_instrumentations(spans: testing.Spans) -> None:
    """What they say in names of their own is read as the exporters read it."""
    from opentelemetry import trace

    attributes = {"openinference.span.kind": "TOOL", "tool.name": "search", "input.value": '{"q": 1}'}
    with trace.get_tracer("openinference.x").start_as_current_span("run", attributes=attributes):
        pass
    assert spans.tools == ["search"]


def test_side_by_side(spans: testing.Spans, tmp_path: Path) -> None:
    """Where order does not count, two runs that differ in it have one golden tree."""
    run_agent(("b", "a"))
    spans.assert_golden(tmp_path / "golden.txt", ordered=False, update=True)
    spans.clear()
    run_agent(("a", "b"))
    spans.assert_golden(tmp_path / "golden.txt", ordered=False)
    assert (tmp_path / "golden.txt").read_text() == "invoke_agent travel\n  execute_tool a\n  execute_tool b\n"


def test_what_changes_from_run_to_run(spans: testing.Spans, tmp_path: Path) -> None:
    for number in (17, 4711):
        spans.clear()
        with tracing.span(f"order {number}", kind="agent"):
            pass
        spans.assert_golden(tmp_path / "golden.txt", replace={r"\d+": "N"}, update=number == 17)


TESTS = """
import unittest
import pytest
from mlspan import testing, tracing
from support import answer

def test_tools(spans):
    answer()
    assert spans.tools == ["check_policy", "refund"]

def test_wrong_tools(spans):
    answer(["refund"])
    assert spans.tools == ["check_policy", "refund"]

@pytest.mark.trace_limits(tool_calls=1, seconds=60)
def test_limited():
    answer()

@pytest.mark.trace_limits(tool_calls=1)
@pytest.mark.xfail(strict=True)
def test_known_to_be_too_much():
    answer()

@pytest.mark.trace_limits(tool_calls=1)
class TestOfAClass:
    @pytest.mark.trace_limits(tool_calls=2, errors=0)
    def test_within(self):
        answer()

    @pytest.mark.trace_limits(errors=0)
    def test_too_many_of_the_class(self):
        answer()

@pytest.mark.trace_limits(2)
def test_without_a_name():
    answer()

@pytest.mark.asyncio
async def test_async(spans):
    answer()
    assert spans.tools == ["check_policy", "refund"]

@pytest.mark.asyncio
@pytest.mark.trace_limits(tool_calls=1)
async def test_limited_async():
    answer()

class TestUnit(unittest.TestCase):
    @pytest.fixture(autouse=True)
    def take_spans(self, spans):
        self.spans = spans

    def test_fixture(self):
        answer()
        assert self.spans.tools == ["check_policy", "refund"]

    def test_block(self):
        with testing.spans() as ended:
            answer()
        ended.assert_golden()

    @pytest.mark.trace_limits(tool_calls=1)
    def test_limited_unit(self):
        answer()

def test_golden(spans):
    answer()
    spans.assert_golden()
    spans.assert_golden(name="with arguments", attributes=["gen_ai.tool.call.arguments"])

@pytest.mark.parametrize("place", ["a/b", "a_b", "x" * 200])
def test_places(spans, place):
    answer([place[:3]])
    spans.assert_golden()

def test_without():
    pass
"""
GOLDEN = """
invoke_agent support
  execute_tool check_policy [gen_ai.tool.call.arguments={"order":7}]
  execute_tool refund [gen_ai.tool.call.arguments={"order":7}]
"""
FAILS = {"test_wrong_tools", "test_limited", "test_limited_async", "TestUnit::test_limited_unit"}
FAILS |= {"TestOfAClass::test_too_many_of_the_class", "test_without_a_name"}


@pytest.mark.parametrize("more", [(), ("-n", "2")], ids=["one process", "xdist"])
def test_in_a_session(session: Session, more: tuple[str, ...]) -> None:
    """Every kind of test has the fixture; goldens are written, then compared; the report lists what every test used."""
    session.write(test_all=TESTS)
    outcomes, said = session.find_outcomes("--update-golden", "--trace-report-tests=2", *more, status=1)
    assert {name for name, outcome in outcomes.items() if outcome == "FAILED"} == FAILS, said
    assert set(outcomes.values()) == {"PASSED", "FAILED", "XFAIL"}
    written = sorted(re.findall(r"^written: (\S.*)$", said, re.MULTILINE))
    files = sorted(path.relative_to(session.folder).as_posix() for path in session.folder.rglob("*.txt"))
    assert written == files
    assert len(files) == 6
    assert (session.folder / "golden/test_all/test_golden.with_arguments.txt").read_text() == GOLDEN[1:]
    assert re.search(r"^E +invoke_agent support\nE +execute_tool refund$", said, re.MULTILINE)
    assert "\nmore than the test allows:\ntool_calls: 2, and 1 are allowed\ninvoke_agent support\n" in said
    assert "16 of 17 tests have spans: 0 calls to models, 0 tokens, $0.0000" in said
    again, said = session.find_outcomes(*more, status=1)
    assert again == outcomes
    assert "written: " not in said
    assert "slowest" not in said


def test_another_tree(session: Session) -> None:
    """The difference is shown whole, with nothing of our own code around it."""
    session.write(test_one="from support import answer\ndef test_it(spans):\n    answer()\n    spans.assert_golden()")
    assert "there is no golden tree golden/test_one/test_it.txt yet" in session.run(status=1)
    session.run("--update-golden")
    session.write(support=SUPPORT.replace('["check_policy", "refund"]', '["refund", "ask"]'))
    said = session.run("-q", status=1)
    shown = [line.removeprefix("E  ").strip() for line in said.splitlines() if line.startswith("E ")]
    assert shown == [
        "AssertionError: the spans are not the golden tree golden/test_one/test_it.txt:",
        "invoke_agent support",
        "-   execute_tool check_policy",
        "execute_tool refund",
        "+   execute_tool ask",
        "(- golden, + this run; if this is meant to be so: pytest --update-golden)",
    ]
    assert "check_golden" not in said


def test_two_golden_trees_of_one_test(session: Session) -> None:
    code = "def test_it(spans):\n    spans.assert_golden()\n    spans.assert_golden()"
    session.write(test_one=code)
    assert "is another golden tree of this test: give each a name=" in session.run("--update-golden", status=1)


OF_THE_USER = """
import pytest

def pytest_addoption(parser):
    parser.addoption("--update-golden", action="store", default="theirs", help="of the user")

@pytest.fixture
def spans(request):
    return request.config.getoption("--update-golden")
"""


def test_names_of_the_user(session: Session) -> None:
    """A fixture and an option of the same names are the user's; ours has another name beside it."""
    code = """
    from support import answer
    def test_theirs(spans, mlspan_spans):
        answer()
        assert spans == "yes"
        assert mlspan_spans.tools == ["check_policy", "refund"]
    """
    session.write(conftest=OF_THE_USER, test_one=code)
    assert "1 passed" in session.run("--update-golden", "yes")


def test_beside_a_provider_of_the_user(session: Session) -> None:
    """Their exporter gets all that it gets without us, before, during and after; the fixture sees their spans too."""
    conftest = """
    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
    theirs = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(theirs))
    trace.set_tracer_provider(provider)
    """
    code = """
    import pytest
    from conftest import provider, theirs
    from opentelemetry import trace
    from support import answer
    tracer = trace.get_tracer("theirs")
    @pytest.mark.parametrize("time", [1, 2])
    def test_it(spans, time):
        with tracer.start_as_current_span("request"):
            answer()
        assert spans.tree().splitlines()[:2] == ["request", "  invoke_agent support"]
        assert spans.tools == ["check_policy", "refund"]
    def test_after():
        with tracer.start_as_current_span("after"):
            pass
        assert trace.get_tracer_provider() is provider
        names = [span.name for span in theirs.get_finished_spans()]
        assert names.count("request") == 2 and names.count("invoke_agent support") == 2 and names[-1] == "after"
    """
    session.write(conftest=conftest, test_one=code)
    assert "3 passed" in session.run()


def test_nothing_is_imported_unasked(session: Session) -> None:
    """A session that uses nothing of it has neither the SDK nor our own packages, and no other way to compile them."""
    code = """
    import sys
    def test_it(request):
        ours = {name for name in sys.modules if name.partition(".")[0] in ("mlspan", "opentelemetry")}
        parts = {"pytest_plugin", "running_session"}
        assert ours == {"mlspan", "mlspan._version", "mlspan.testing", *(f"mlspan.testing.{name}" for name in parts)}
        import mlspan.tracing
        assert type(mlspan.tracing.__loader__).__name__ == "SourceFileLoader"
        assert not request.config.pluginmanager.has_plugin("mlspan-session")
    """
    session.write(test_one=code)
    assert "1 passed" in session.run()


def test_mlspan_is_imported_before_pytest(session: Session) -> None:
    """Pytest warns of what it comes too late to rewrite, and the warning is an error: there is nothing to rewrite."""
    session.write(test_one="def test_it(spans):\n    assert spans.tools == []")
    session.write(sitecustomize="import mlspan.tracing")
    session.environment["PYTHONPATH"] = str(session.folder)
    assert "1 passed" in session.run()


def test_the_entry_point_is_in_the_project() -> None:
    assert 'pytest11]\nmlspan = "mlspan.testing.pytest_plugin"' in (ROOT / "pyproject.toml").read_text("utf-8")
