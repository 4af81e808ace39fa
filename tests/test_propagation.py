"""What goes along with a task, and how it is put back: the parts that need no other process."""

from __future__ import annotations

import multiprocessing
import pickle
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.pool import Pool, ThreadPool
from typing import Any

import pytest

from mlspan import integrations, tracing
from mlspan.integrations.workers import _task
from mlspan.testing import Spans
from mlspan.tracing import propagation
from mlspan.tracing.mlflow_state.runs import get_active_run_id
from mlspan.tracing.operations import call_context
from mlspan.tracing.runtime import get_runtime


@pytest.fixture(autouse=True)
def _mlflow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where MLflow logs is set in a worker, which these tests stand for."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")


def hide(text: str) -> str:
    return text.replace("ada", "A.")


def _elsewhere(captured: Any) -> Any:
    """*captured*, as another process sees it."""
    return {**captured, "process": "another"}


def test_surroundings(spans: Spans) -> None:
    """Span, session, user, tags and run are put back around a task, and are gone after it."""
    with tracing.session("s"), tracing.user("ada"), tracing.tags(team="blue"), tracing.run("r"), tracing.span("job"):
        captured = _elsewhere(propagation.capture_context())
    with propagation.restore_context(captured):
        scope = call_context.get_call_scope()
        assert (scope.session, scope.user, scope.tags, scope.run_id) == ("s", "ada", {"team": "blue"}, "r")
        with tracing.span("task"):
            pass
    assert call_context.get_call_scope() == call_context.CallScope()
    assert spans.tree() == "job\n  task"


def test_a_task_that_fails(spans: Spans) -> None:
    """Its exception comes out as it is, a StopIteration as well, and the caller's span is no longer current."""
    captured = _task.capture_task_context()
    assert captured is not None
    for error in (ValueError("no"), StopIteration("no"), KeyboardInterrupt()):

        def fail(error: BaseException = error) -> None:
            raise error

        with pytest.raises(type(error)) as raised:
            _task.Task(fail, captured)()
        assert raised.value is error


def test_a_task_is_pickled_as_its_function() -> None:
    """By reference, with what surrounds it."""
    again = pickle.loads(pickle.dumps(_task.Task(hide, "{}")))
    assert (again.fn, again.task_context) == (hide, "{}")


@pytest.mark.parametrize(
    ("redact", "said"),
    [
        ([r"sk-\w+"], {"redact": [r"sk-\w+"]}),
        (r"sk-\w+", {"redact": [r"sk-\w+"]}),
        (hide, {"redact_by": f"{__name__}:hide"}),
        (lambda text: text, {"capture_content": False}),
    ],
)
def test_redaction_goes_along(tracing_off: None, redact: Any, said: Any) -> None:
    """Expressions as they are, a function by its name; where that cannot be, no content is recorded over there."""
    tracing.configure(redact=redact, tracking_uri="none")
    captured = propagation.capture_context()
    assert captured is not None
    assert {k: v for k, v in captured["settings"].items() if k != "tracking_uri"} == said


def test_settings_are_taken_over(tracing_off: None) -> None:
    """In another process, which nobody has configured; a function is found by its name."""
    tracing.configure(redact=hide, max_content_bytes=2048, tracking_uri="none")
    captured = _elsewhere(propagation.capture_context())
    tracing.shutdown()
    with propagation.restore_context(captured):
        now = get_runtime()
        assert now is not None
        assert (now.config.redact, now.config.max_content_bytes) == (hide, 2048)


def test_what_a_process_has_configured_stays(tracing_off: None) -> None:
    """A worker whose own code calls ``configure`` keeps its settings."""
    tracing.configure(max_content_bytes=2048, tracking_uri="none")
    captured = _elsewhere(propagation.capture_context())
    tracing.configure(max_content_bytes=4096, tracking_uri="none")
    with propagation.restore_context(captured):
        now = get_runtime()
        assert now is not None
        assert now.config.max_content_bytes == 4096


def test_a_caller_that_sends_nothing_to_mlflow(tracing_off: None) -> None:
    """Its tasks send nothing either, instead of writing a folder of that name."""
    tracing.configure(tracking_uri="none")
    assert (propagation.capture_context() or {})["settings"]["tracking_uri"] == "none"


def test_no_credentials_go_along(tracing_off: None) -> None:
    """Neither user nor password of a store, unless to a process that this one starts."""
    tracing.configure(tracking_uri="https://ada:secret@host/mlflow")
    assert "secret" not in str(propagation.capture_context())
    assert "secret" in str(propagation.capture_context(near=True))


def test_the_run_that_is_around() -> None:
    """A run that a task itself has active counts over the one of its caller."""
    with call_context.use_scope(call_context.CallScope(around_run="outer")):
        assert get_active_run_id() == "outer"
        with tracing.run("inner"):
            assert get_active_run_id() == "inner"


def test_taken_back() -> None:
    """``disable=True`` brings the originals back, ``workers=False`` never takes them."""
    names = [(multiprocessing.process.BaseProcess, "start"), (Pool, "apply_async"), (ProcessPoolExecutor, "submit")]
    before = [vars(owner)[name] for owner, name in names]
    integrations.workers.autolog(silent=True)
    assert not any(vars(owner)[name] is one for (owner, name), one in zip(names, before, strict=True))
    integrations.workers.autolog(disable=True)
    integrations.workers.multiprocessing.autolog(disable=True)
    assert [vars(owner)[name] for owner, name in names] == before


def test_threads_of_a_pool(spans: Spans) -> None:
    """ThreadPool's threads get the context, too, and take over no settings."""
    integrations.workers.multiprocessing.autolog()
    try:
        with ThreadPool(1) as pool, tracing.span("job"):
            pool.map(tracing.trace(name="task")(hide), ["ada"])
    finally:
        integrations.workers.multiprocessing.autolog(disable=True)
    assert spans.tree() == "job\n  task"
