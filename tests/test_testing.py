"""``mlspan.testing.spans()`` keeps spans in memory and leaves a process as it was."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider

from mlspan import testing, tracing
from mlspan.tracing import runtime


def run(code: str, folder: Path, **more: str) -> str:
    """Run a program as a user would, without the settings of this test suite. Return what it prints."""
    keep = {k: v for k, v in os.environ.items() if not k.startswith(("MLSPAN_", "MLFLOW_", "OTEL_"))}
    env = {**keep, "MLSPAN_STRICT": "1", "XDG_STATE_HOME": str(folder / "state"), **more}
    done = subprocess.run(
        [sys.executable, "-W", "error::ResourceWarning", "-c", code],
        cwd=folder,
        env=env,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


IN_MEMORY = """
from mlspan import testing, tracing
{before}
with testing.spans() as ended:
    {inside}
    with tracing.span("a"), tracing.span("b"):
        pass
    assert tracing.flush(30)
assert ended.tree() == "a\\n  b", ended.tree()
"""


@pytest.mark.parametrize("before", ["", "tracing.configure(otlp_endpoint='http://127.0.0.1:9', tracking_uri='none')"])
@pytest.mark.parametrize("inside", ["", "tracing.configure(experiment='x')"])
def test_nothing_is_written_or_sent(before: str, inside: str, tmp_path: Path, receiver: Any) -> None:
    """No file appears and no server hears of it, whatever the environment says, and whatever is set up inside."""
    run(
        IN_MEMORY.format(before=before, inside=inside or "pass"),
        tmp_path,
        OTEL_EXPORTER_OTLP_ENDPOINT=receiver.url,
        MLSPAN_DURABILITY="span",
    )
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    assert receiver.requests == []


SENT = """
from mlspan import testing, tracing
tracing.configure(tracking_uri="none", otlp_endpoint={url!r}, durability="none")
with tracing.span("before"):
    pass
with testing.spans():
    with tracing.span("inside"):
        pass
with tracing.span("after"):
    pass
assert tracing.flush(30)
"""


def test_the_previous_destination_is_back(tmp_path: Path, receiver: Any) -> None:
    """What was configured before gets what ends before and after, and nothing of what ends inside."""
    run(SENT.format(url=receiver.url), tmp_path)
    assert receiver.otlp == {"before": 1, "after": 1}


EXPLICIT = """
import os
from mlspan import testing, tracing
with testing.spans() as ended:
    {setup}
    with tracing.span("a"):
        pass
    assert tracing.flush(30)
    assert ended.tree() == "a"
with testing.spans(), tracing.span("b"):
    pass
"""


@pytest.mark.parametrize(
    "setup",
    [
        "tracing.configure(otlp_endpoint={url!r}, tracking_uri='none')",
        "os.environ['MLSPAN_OTLP_ENDPOINT'] = {url!r}; tracing.configure()",
    ],
)
def test_a_destination_set_inside_counts(setup: str, tmp_path: Path, receiver: Any) -> None:
    """A test that says where its spans go gets them there too; the next block sends nothing again."""
    run(EXPLICIT.format(setup=setup.format(url=receiver.url)), tmp_path, MLSPAN_DURABILITY="none")
    assert receiver.otlp == {"a": 1}


TAKES_BACK = """
import atexit, signal
at_exit, register, unregister = [], atexit.register, atexit.unregister
def note(function, *arguments):
    at_exit.append(function)
    return register(function, *arguments)
def forget(function):
    at_exit[:] = [each for each in at_exit if each != function]
    unregister(function)
atexit.register, atexit.unregister = note, forget
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from mlspan import testing, tracing
from mlspan.tracing import runtime
{provider}
in_a_module = trace.get_tracer("application")
def state():
    processors = getattr(trace.get_tracer_provider(), "_active_span_processor", None)
    ours = [function for function in at_exit if function is runtime.stop_runtime]
    count = len(processors._span_processors) if processors else None
    handler = signal.getsignal(signal.SIGTERM)
    return (count, len(runtime.listeners), ours, trace.get_tracer_provider(), runtime._runtime, handler)
before = state()
for _ in range(20):
    with testing.spans() as ended, in_a_module.start_as_current_span("theirs"), tracing.span("ours"):
        pass
    assert ended.tree() == "theirs\\n  ours", ended.tree()
    assert state() == before, (state(), before)
with in_a_module.start_as_current_span("later"):
    pass
assert ended.tree() == "theirs\\n  ours"
trace.set_tracer_provider(mine := TracerProvider()) if {alone} else None
assert not {alone} or trace.get_tracer_provider() is mine
"""


@pytest.mark.parametrize(
    ("provider", "alone"),
    [
        ("", True),
        ("tracing.configure(tracking_uri='none')", True),
        ("trace.set_tracer_provider(TracerProvider())", False),
        ("trace.set_tracer_provider(TracerProvider()); tracing.configure(tracking_uri='none')", False),
        ("tracing.shutdown()", True),
    ],
)
def test_everything_is_taken_back(provider: str, alone: bool, tmp_path: Path) -> None:
    """After each of 20 uses the process has the processors, listeners, provider, handlers and runtime of before."""
    run(TAKES_BACK.format(provider=provider, alone=alone), tmp_path)


def test_blocks_in_a_block() -> None:
    """An inner block has its own spans, and the outer one all of them."""
    with testing.spans() as outer:
        with testing.spans() as inner, tracing.span("a"):
            pass
        with tracing.span("b"):
            pass
    assert (inner.tree(), outer.tree()) == ("a", "a\nb")


def test_settings_go_on_inside(tracing_off: None) -> None:
    """What was configured apart from destinations holds inside, and what is configured inside ends with the block."""
    tracing.configure(tracking_uri="none", redact="secret")
    kept = runtime.get_runtime()
    with testing.spans() as ended:
        with tracing.span("a") as span:
            span.input = "a secret"
        tracing.configure(capture_content=False)
    assert testing.content(ended.one(), "mlspan.input") == "a [redacted]"
    assert runtime.get_runtime() is kept


def test_without_private_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """An SDK that names its processors otherwise keeps ours, which passes nothing on any more."""
    from mlspan.tracing.otel.provider import ForwardingProcessor, remove_processor

    provider, ours = TracerProvider(), ForwardingProcessor(())
    provider.add_span_processor(ours)
    monkeypatch.setattr(provider, "_active_span_processor", object())
    remove_processor(provider, ours)


PAGE = Path(__file__).parent.parent / "docs/testing.md"


def run_contracts(folder: Path, hook: str | None = None, tests: Iterable[str] = ("",)) -> dict[str, set[str]]:
    """Run *tests* of the documentation's page, with *hook* for its own. Return the names by outcome."""
    code = "\n".join(re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE))
    assert RIGHT_HOOK in code
    (folder / "test_tinyllm.py").write_text(code.replace(RIGHT_HOOK, hook or RIGHT_HOOK))
    command = [sys.executable, "-m", "pytest", "-q", "-rA", "--tb=short", "-p", "no:cacheprovider", "-p", "no:asyncio"]
    env = {**os.environ, "PYTHONPATH": str(PAGE.parent.parent), "MLSPAN_STRICT": "1"}
    done = subprocess.run(
        command + [f"test_tinyllm.py{'::' * bool(name)}{name}" for name in tests],
        cwd=folder,
        env=env,
        capture_output=True,
        text=True,
        timeout=170,
        check=False,
    )
    found: dict[str, set[str]] = {"PASSED": set(), "FAILED": set(), "ERROR": set()}
    for outcome, name in re.findall(r"^(PASSED|FAILED|ERROR) test_tinyllm.py::(\S+)", done.stdout, re.MULTILINE):
        found[outcome].add(name)
    assert any(found.values()), done.stdout + done.stderr
    return found


RIGHT_HOOK = 'HOOK = Hook("mlspan>=0.1,<1", "tinyllm", trace_methods({"tinyllm:Client.ask": begin}))'
BROKEN_HOOK = """
def install(hook):
    original = Client.ask

    def ask(self, **asked):
        with hook.start_operation(begin, (self,), asked) as operation:
            {body}

    Client.ask = ask
    return lambda: {undo}


HOOK = Hook("mlspan>=0.1,<1", "tinyllm", install)
"""


def test_the_page_keeps_its_contracts(tmp_path: Path) -> None:
    """An integration from outside of the repository inherits the contracts, and keeps them."""
    found = run_contracts(tmp_path)
    assert found["FAILED"] | found["ERROR"] == set()
    assert len(found["PASSED"]) >= 25


RIGHT = "return operation.record_result(original(self, **asked))"
UNDO = "setattr(Client, 'ask', original)"


@pytest.mark.parametrize(
    ("body", "undo", "caught"),
    [
        (
            "answer = original(self, **asked); operation.record_result(answer); return answer",
            UNDO,
            {"TestStreams::test_read_to_the_end", "TestStreams::test_closed[close_early]"},
        ),
        (
            "return operation.record_result(list(original(self, **asked))) if asked.get('stream') else " + RIGHT[7:],
            UNDO,
            {"TestStreams::test_the_class_is_the_clients", "TestStreams::test_cut_off"},
        ),
        (RIGHT, "None", {"TestCalls::test_disable_brings_the_originals_back"}),
        (RIGHT, UNDO, {"TestCalls::test_what_is_patched_looks_like_itself"}),
        (
            "operation.record_result(answer := original(self, **asked)); return dict(answer, more=1)",
            UNDO,
            {"TestCalls::test_the_caller_gets_the_same_answer"},
        ),
    ],
    ids=["streams not kept", "streams read ahead", "no undo", "no signature", "another answer"],
)
def test_a_broken_integration_is_caught(body: str, undo: str, caught: set[str], tmp_path: Path) -> None:
    """Each contract can fail: what an integration does wrong is seen by the test that says so."""
    found = run_contracts(tmp_path, BROKEN_HOOK.format(body=body, undo=undo), caught)
    assert found["FAILED"] | found["ERROR"] == caught, found


def test_testing_needs_no_pytest(tmp_path: Path) -> None:
    """Only the contracts need pytest, and they say so."""
    (tmp_path / "pytest.py").write_text("raise ModuleNotFoundError('no', name='pytest')")
    code = """
from mlspan import testing
try:
    import mlspan.testing.contracts
except ImportError as error:
    print(error)
"""
    assert run(code, tmp_path) == "mlspan.testing.contracts needs pytest: pip install pytest\n"
