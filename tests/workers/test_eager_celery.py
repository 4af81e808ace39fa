"""Celery's eager tasks, which run in the caller's process: several runs may have one task id, one inside another."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry import trace

pytest.importorskip("celery", reason="in the nox session workers")
import celery

from mlspan import tracing
from mlspan.integrations.workers import celery as hook
from mlspan.testing import Spans, content

pytestmark = pytest.mark.filterwarnings("default")


@pytest.fixture
def app() -> Iterator[Any]:
    """An application whose tasks run where they are sent, with a span for each attempt."""
    hook.autolog(task_spans=True)
    app = celery.Celery("eager", broker="memory://", backend="cache+memory://", set_as_current=False)
    app.conf.task_always_eager = True
    yield app
    hook.autolog(disable=True)
    app.close()


def make_task(app: Any, *, fails: int, max_retries: int) -> Any:
    """Return a task whose first attempts fail, *fails* of them."""

    @app.task(bind=True, name="ask", max_retries=max_retries)
    def ask(self: Any) -> int:
        attempt = int(self.request.retries)
        with tracing.span(f"attempt {attempt}"):
            pass
        if attempt < fails:
            raise self.retry(exc=ValueError("not yet"), countdown=0)
        return attempt

    return ask


def list_states(spans: Spans) -> list[object]:
    attributes = [dict(span.attributes or {}) for span in spans.all if span.name == "ask"]
    return [(one["celery.retries"], one["celery.state"]) for one in attributes]


@pytest.mark.parametrize("how", ["delay", "apply"])
@pytest.mark.parametrize("fails", [0, 1, 3])
def test_a_task_that_retries(app: Any, spans: Spans, fails: int, how: str) -> None:
    """Each attempt is a span that ends; what comes after them is in a trace of its own."""
    getattr(make_task(app, fails=fails, max_retries=3), how)()
    assert not trace.get_current_span().get_span_context().is_valid
    states = dict(list_states(spans))  # type: ignore[arg-type, var-annotated]
    assert [*states] == [*range(fails + 1)]
    assert states[fails] == "SUCCESS"
    with tracing.span("later"):
        pass
    (later,) = [span for span in spans.all if span.name == "later"]
    assert later.parent is None
    for attempt in range(fails + 1):
        (step,) = [span for span in spans.all if span.name == f"attempt {attempt}"]
        (task,) = [span for span in spans.all if (span.attributes or {}).get("celery.retries") == attempt]
        assert step.parent is not None
        assert step.parent.span_id == task.context.span_id


def test_a_task_that_fails_for_good(app: Any, spans: Spans) -> None:
    """The last attempt has the error that the task ends with, and none is left open."""
    make_task(app, fails=3, max_retries=1).apply()
    assert not trace.get_current_span().get_span_context().is_valid
    assert len(list_states(spans)) == 2
    (last,) = [span for span in spans.all if (span.attributes or {}).get("celery.retries") == 1]
    assert (last.attributes or {})["error.type"] == "ValueError"


def test_a_task_that_runs_itself_under_its_own_id(app: Any, spans: Spans) -> None:
    """The inner run is a span inside of the outer one, which ends as well, with an error that is its own."""

    @app.task(bind=True, name="ask")
    def ask(self: Any, depth: int = 2) -> None:
        if depth:
            self.apply((depth - 1,), task_id=self.request.id)
        if depth == 1:
            raise KeyError("one")

    ask.apply()
    assert spans.tree() == "ask\n  ask [ERROR KeyError]\n    ask"
    assert not trace.get_current_span().get_span_context().is_valid


def test_one_id_in_two_threads(app: Any, spans: Spans) -> None:
    """A message that is delivered twice runs in two threads at once: each ends its own span, in its own context."""
    second_runs, first_is_over = threading.Event(), threading.Event()
    left: dict[str, bool] = {}

    @app.task(name="ask")
    def ask(who: str) -> str:
        if who == "first":
            assert second_runs.wait(20)
        else:
            second_runs.set()
            assert first_is_over.wait(20)
        return who

    def run(who: str) -> None:
        ask.apply((who,), task_id="one")
        left[who] = not trace.get_current_span().get_span_context().is_valid

    second = threading.Thread(target=run, args=("second",))
    first = threading.Thread(target=run, args=("first",))
    first.start()
    second.start()
    first.join(30)
    first_is_over.set()
    second.join(30)
    assert left == {"first": True, "second": True}
    assert {span.status.status_code.name for span in spans.all} == {"UNSET"}
    for span in spans.all:
        assert content(span, "mlspan.input")["args"] == [content(span, "mlspan.output")]
