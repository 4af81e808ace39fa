"""The application's OpenTelemetry and MLflow are its own: joined, never replaced, in whatever order they are set up.

Each case is a program of its own, as a process has but one global TracerProvider.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
from servers.receiver import Receiver

PRELUDE = """
import json, logging, sys
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from mlspan import integrations, tracing
exporter = InMemorySpanExporter()
def provider():
    made = TracerProvider()
    made.add_span_processor(SimpleSpanProcessor(exporter))
    return made
def names():
    return [span.name for span in exporter.get_finished_spans()]
def ask():
    import openai
    with openai.OpenAI() as client:
        client.chat.completions.create(model="gpt-4o-mini", messages=[{"role": "user", "content": "hello"}])
def stored():
    import mlflow
    assert tracing.flush(60)
    found = mlflow.search_traces(locations=["0"], return_type="list")
    return sorted(sorted(span.name for span in t.data.spans) for t in found)
"""


def run_program(code: str, aimock: str, store: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run *code* after the prelude in a process of its own, which must end well."""
    keep = {k: v for k, v in os.environ.items() if not k.startswith(("MLSPAN_", "MLFLOW_", "OTEL_"))}
    env = {"OPENAI_BASE_URL": aimock, "OPENAI_API_KEY": "x", "MLFLOW_TRACKING_URI": store, "MLSPAN_STRICT": "1", **env}
    command = [sys.executable, "-c", PRELUDE + textwrap.dedent(code)]
    done = subprocess.run(command, env={**keep, **env}, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    return done


def program(code: str, aimock: str, store: str, *, says: str = "", **env: str) -> Any:
    """What a program prints last, as JSON; it must log nothing of ours, or one line with the words *says*."""
    done = run_program(code, aimock, store, **env)
    assert done.stderr.count("mlspan:") == bool(says), done.stderr
    assert says in done.stderr, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("order", ["before", "after", "late"])
def test_a_provider_set_in_any_order_is_joined(aimock: str, mlflow_store: str, order: str) -> None:
    """Set before autolog, after it, or after the first call: its spans are ours and ours its, in one trace."""
    code = {
        "before": "mine = provider(); trace.set_tracer_provider(mine); integrations.openai.autolog()",
        "after": "integrations.openai.autolog(); mine = provider(); trace.set_tracer_provider(mine)",
        "late": "integrations.openai.autolog(); ask(); mine = provider(); trace.set_tracer_provider(mine)",
    }[order]
    code += """
with trace.get_tracer("app").start_as_current_span("GET /chat"):
    ask()
assert trace.get_tracer_provider() is mine
print(json.dumps([names(), stored()]))
"""
    first = [["chat gpt-4o-mini"]] if order == "late" else []
    expected = sorted([*first, ["GET /chat", "chat gpt-4o-mini"]])
    assert program(code, aimock, mlflow_store) == [["chat gpt-4o-mini", "GET /chat"], expected]


@pytest.mark.parametrize("setter", ["trace.set_tracer_provider", "kept", "instrumented"])
def test_spans_before_the_first_call_are_kept(aimock: str, mlflow_store: str, setter: str) -> None:
    """A provider that is set after autolog is joined at once: what ends before the first call is in its trace."""
    code = f"""
    kept = trace.set_tracer_provider
    integrations.openai.autolog()
    def instrumented(made):
        import os
        os.environ["OTEL_PYTHON_TRACER_PROVIDER"] = "mine"
        trace._load_provider = lambda *_: made
        assert trace.get_tracer_provider() is made
    {setter}(provider())
    app = trace.get_tracer("app")
    with app.start_as_current_span("GET /chat"):
        with app.start_as_current_span("auth"):
            pass
        with app.start_as_current_span("load"):
            pass
        ask()
    print(json.dumps([stored(), names()]))
    """
    names = ["GET /chat", "auth", "chat gpt-4o-mini", "load"]
    assert program(code, aimock, mlflow_store) == [[names], ["auth", "load", "chat gpt-4o-mini", "GET /chat"]]


def test_a_task_that_outlives_its_request(aimock: str, mlflow_store: str) -> None:
    """A background task's trace has the request's root; below a parent that nobody records it has one of its own."""
    code = """
    trace.set_tracer_provider(provider())
    integrations.openai.autolog()
    app = trace.get_tracer("app")
    with app.start_as_current_span("GET /chat") as request:
        pass
    assert tracing.flush(60)
    with trace.use_span(request):
        ask()
    lost = trace.SpanContext(0xabc, 0xdef, is_remote=False, trace_flags=trace.TraceFlags(1))
    with trace.use_span(trace.NonRecordingSpan(lost)):
        ask()
    names = stored()
    import mlflow
    found = mlflow.search_traces(locations=["0"], return_type="list")
    roots = sorted(span.name for one in found for span in one.data.spans if span.parent_id is None)
    said = [one.info.request_metadata.get("mlspan.missing_parent") for one in found]
    print(json.dumps([names, roots, sorted(filter(None, said))]))
    """
    got = program(code, aimock, mlflow_store)
    assert got == [
        [["GET /chat", "chat gpt-4o-mini"], ["chat gpt-4o-mini"]],
        ["GET /chat", "chat gpt-4o-mini"],
        ["0000000000000def"],
    ]


PROXY = """
class Proxy(trace.TracerProvider):
    __hash__ = None  # as a dataclass has it
    def __init__(self):
        self.replace()
    def replace(self):
        if hasattr(self, "inner"):
            self.inner.shutdown()
        self.inner = provider()
    def get_tracer(self, *args, **kwargs):
        return self.inner.get_tracer(*args, **kwargs)
    def add_span_processor(self, processor):
        self.inner.add_span_processor(processor)
"""


@pytest.mark.parametrize("first", ["theirs", "ours"])
def test_a_provider_is_what_it_can_do(aimock: str, mlflow_store: str, first: str) -> None:
    """A proxy takes processors as one of the SDK does, and may replace the provider that it stands for."""
    lines = ["proxy = Proxy(); trace.set_tracer_provider(proxy)", "integrations.openai.autolog()"]
    code = f"""
{PROXY}
{"; ".join(lines if first == "theirs" else lines[::-1])}
def serve(name):
    with proxy.get_tracer("app").start_as_current_span(name):
        ask()
serve("first")
proxy.replace()
ask()
serve("second")
print(json.dumps(stored()))
"""
    expected = [["chat gpt-4o-mini"], ["chat gpt-4o-mini", "first"], ["chat gpt-4o-mini", "second"]]
    assert program(code, aimock, mlflow_store) == expected


def test_a_proxy_that_exports_by_otlp_is_seen_through(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its spans are not sent a second time, wherever in its processors the exporter is."""
    from opentelemetry.sdk.trace import SpanProcessor, SynchronousMultiSpanProcessor, TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter

    from mlspan.tracing.export.otlp.environment import exports_otlp

    class Wrapper(SpanProcessor):
        def __init__(self, processor: SpanProcessor) -> None:
            self.processor = processor

    class OTLPSpanExporter(SpanExporter):
        pass

    class Proxy:
        def __init__(self) -> None:
            self.provider = TracerProvider(shutdown_on_exit=False)

    proxy, several = Proxy(), SynchronousMultiSpanProcessor()
    several.add_span_processor(SimpleSpanProcessor(SpanExporter()))
    proxy.provider.add_span_processor(Wrapper(several))
    assert not exports_otlp(proxy)
    several.add_span_processor(Wrapper(SimpleSpanProcessor(OTLPSpanExporter())))
    assert exports_otlp(proxy)
    assert not exports_otlp(object())


SUPPRESSOR = """
from contextlib import contextmanager
from opentelemetry.instrumentation.utils import suppress_instrumentation

@contextmanager
def maybe_suppress_instrumentation(suppress):
    with suppress_instrumentation():
        yield

def call(function):
    with maybe_suppress_instrumentation(True):
        return function()

async def acall(function):
    with maybe_suppress_instrumentation(True):
        return await function()
"""


@pytest.mark.parametrize("kind", ["library", "async library", "application"])
def test_who_suppresses_us_is_said_once(
    kind: str, tmp_path: Path, spans: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A library that does it is named; the application that does it knows."""
    pytest.importorskip("opentelemetry.instrumentation")
    from mlspan import tracing

    folder = tmp_path / ("app" if kind == "application" else "site-packages")
    folder.mkdir()
    library = f"tracer_of_{kind.replace(' ', '_')}"
    (folder / f"{library}.py").write_text(SUPPRESSOR)
    monkeypatch.syspath_prepend(folder)
    module = importlib.import_module(library)

    def work() -> str:
        with tracing.span("step"):
            return "done"

    async def awork() -> str:
        return work()

    for _ in range(3):
        done = asyncio.run(module.acall(awork)) if kind == "async library" else module.call(work)
        assert done == "done"
    said = [record.getMessage() for record in caplog.records if record.name == "mlspan"]
    if kind == "application":
        assert said == []
    else:
        (line,) = said
        assert line.startswith(f"mlspan: {library} suppresses other instrumentations")
    assert spans.all == []


def test_the_following_of_providers_ends_at_shutdown(aimock: str, mlflow_store: str) -> None:
    """``shutdown`` gives OpenTelemetry its function back; a later autolog follows again."""
    code = """
    own = trace._set_tracer_provider
    integrations.openai.autolog()
    followed = trace._set_tracer_provider
    tracing.configure(service_name="again")
    tracing.shutdown()
    after = trace._set_tracer_provider
    integrations.openai.autolog()
    trace.set_tracer_provider(provider())
    with trace.get_tracer("app").start_as_current_span("GET /chat"):
        with trace.get_tracer("app").start_as_current_span("auth"):
            pass
        ask()
    print(json.dumps([own is followed, own is after, stored()]))
    """
    assert program(code, aimock, mlflow_store) == [False, True, [["GET /chat", "auth", "chat gpt-4o-mini"]]]


def test_an_api_without_its_private_function_still_joins(aimock: str, mlflow_store: str) -> None:
    """Where OpenTelemetry has no such function, a provider is joined at the first call; a line says so."""
    code = """
    del trace._set_tracer_provider
    integrations.openai.autolog()
    trace._TRACER_PROVIDER = provider()
    with trace.get_tracer("app").start_as_current_span("GET /chat"):
        ask()
    print(json.dumps(stored()))
    """
    lost = "no _set_tracer_provider"
    assert program(code, aimock, mlflow_store, says=lost) == [["GET /chat", "chat gpt-4o-mini"]]


def test_mlflows_own_calls_never_break_it(aimock: str, mlflow_store: str) -> None:
    """``mlflow.set_experiment`` resets a shared provider in MLflow's unified mode; the joined one goes on."""
    code = """
    mine = provider()
    trace.set_tracer_provider(mine)
    integrations.openai.autolog()
    import mlflow
    mlflow.set_experiment("Default")
    mlflow.set_tracking_uri(mlflow.get_tracking_uri())
    ask()
    print(json.dumps([names(), stored()]))
    """
    got = program(code, aimock, mlflow_store, MLFLOW_USE_DEFAULT_TRACER_PROVIDER="false")
    assert got == [["chat gpt-4o-mini"], [["chat gpt-4o-mini"]]]


def test_a_remote_parent(aimock: str, mlflow_store: str) -> None:
    """A request that comes in with a traceparent: its spans are stored under the far trace's id."""
    code = """
    trace.set_tracer_provider(provider())
    integrations.openai.autolog()
    from opentelemetry import propagate
    far = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}
    with trace.get_tracer("app").start_as_current_span("GET /chat", context=propagate.extract(far)):
        ask()
    tracing.flush(60)
    import mlflow
    found = mlflow.get_trace("tr-0af7651916cd43dd8448eb211c80319c")
    print(json.dumps([sorted(span.name for span in found.data.spans), found.info.state.value]))
    """
    assert program(code, aimock, mlflow_store) == [["GET /chat", "chat gpt-4o-mini"], "OK"]


def test_the_providers_shutdown_is_not_ours(aimock: str, mlflow_store: str) -> None:
    """An application that shuts its provider down keeps the traces it had, and may set up another."""
    code = """
    mine = provider()
    trace.set_tracer_provider(mine)
    integrations.openai.autolog()
    ask()
    mine.shutdown()
    print(json.dumps(stored()))
    """
    assert program(code, aimock, mlflow_store) == [["chat gpt-4o-mini"]]


def test_sampled_out_traces_are_not_stored(aimock: str, mlflow_store: str) -> None:
    """``sample_ratio=0`` keeps none, in a provider of our own or a joined one."""
    code = """
    tracing.configure(sample_ratio=0)
    integrations.openai.autolog()
    ask()
    trace.set_tracer_provider(provider())
    ask()
    print(json.dumps([names(), stored()]))
    """
    assert program(code, aimock, mlflow_store) == [["chat gpt-4o-mini"], []]


def test_opentelemetry_instrument_needs_no_code(aimock: str, mlflow_store: str, tmp_path: Path) -> None:
    """``opentelemetry-instrument python app.py``: the entry point turns everything on."""
    pytest.importorskip("opentelemetry.distro")
    app = tmp_path / "app.py"
    app.write_text(PRELUDE + "ask()\nprint(json.dumps(stored()))\n")
    keep = {k: v for k, v in os.environ.items() if not k.startswith(("MLSPAN_", "MLFLOW_", "OTEL_"))}
    env = {"OPENAI_BASE_URL": aimock, "OPENAI_API_KEY": "x", "MLFLOW_TRACKING_URI": mlflow_store}
    env |= {"OTEL_TRACES_EXPORTER": "none", "OTEL_METRICS_EXPORTER": "none", "OTEL_LOGS_EXPORTER": "none"}
    command = [str(Path(sys.executable).parent / "opentelemetry-instrument"), sys.executable, str(app)]
    done = subprocess.run(command, env={**keep, **env}, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == [["chat gpt-4o-mini"]]


def test_a_script_needs_no_flush(aimock: str, tmp_path: Path) -> None:
    """The first lines of the README: no configuration, a new database in the working folder, one trace at exit."""
    keep = {k: v for k, v in os.environ.items() if not k.startswith(("MLSPAN_", "MLFLOW_", "OTEL_"))}
    env = {**keep, "OPENAI_BASE_URL": aimock, "OPENAI_API_KEY": "x"}
    code = """
from openai import OpenAI
from mlspan import integrations
integrations.openai.autolog(log_traces=True)
OpenAI().chat.completions.create(model="gpt-4o-mini", messages=[{"role": "user", "content": "hello"}])
"""
    done = subprocess.run(
        [sys.executable, "-c", code], env=env, cwd=tmp_path, capture_output=True, text=True, timeout=100, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    import mlflow

    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/mlflow.db")
    (found,) = mlflow.search_traces(locations=["0"], return_type="list")
    mlflow.set_tracking_uri(None)
    assert found.info.response_preview == "Hi there!"


@pytest.mark.parametrize("delay", [0.05, 0.3, 0.8])
def test_the_application_imports_mlflow_while_we_do(delay: float, tmp_path: Path) -> None:
    """The exporter's thread needs MLflow just when the program imports it: neither gets half a module."""
    code = f"""
import threading
from mlspan.tracing.export.mlflow.database import DatabaseStore
store = DatabaseStore("sqlite:///{tmp_path}/mlflow.db", executor=None)
opened = threading.Timer({delay}, lambda: store._tracking_store)
opened.start()
import mlflow
opened.join()
print("fine")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=150, check=False)
    assert (done.returncode, done.stdout) == (0, "fine\n"), done.stderr
    assert "Error" not in done.stderr


LIBRARY = """
from opentelemetry import trace
early = trace.get_tracer("a.library")  # as its module does when it is imported
def work():
    for tracer in (early, trace.get_tracer("another.library")):
        with tracer.start_as_current_span("chat m", attributes={"gen_ai.operation.name": "chat"}):
            pass
"""


@pytest.mark.parametrize(
    ("configured", "seen"),
    [
        ("tracing.configure()", []),
        ("tracing.configure(global_provider=True)", [["chat m"], ["chat m"]]),
        ("tracing.configure(global_provider=True); tracing.configure(tags={'a': 'b'})", [["chat m"], ["chat m"]]),
        (
            "mine = provider(); trace.set_tracer_provider(mine); tracing.configure(global_provider=True)",
            2 * [["chat m"]],
        ),
    ],
)
def test_a_library_that_traces_itself_is_seen_if_asked_for(
    configured: str, seen: list[Any], aimock: str, mlflow_store: str
) -> None:
    """It asks for the global provider. Ours becomes that only if we are asked, and where there is none."""
    code = f"""{LIBRARY}
{configured}
work()
if "mine" in globals():
    assert trace.get_tracer_provider() is tracing.tracer_provider() is mine
elif "global" in {configured!r}:
    assert trace.get_tracer_provider() is tracing.tracer_provider()
print(json.dumps(stored()))
"""
    assert program(code, aimock, mlflow_store) == seen


def test_the_provider_can_be_handed_to_a_library(aimock: str, mlflow_store: str) -> None:
    """Without making it the global one; after a shutdown it is one that records nothing."""
    code = """
with tracing.tracer_provider().get_tracer("a.library").start_as_current_span("chat m") as span:
    span.set_attribute("gen_ai.operation.name", "chat")
assert isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)
found = stored()
tracing.shutdown()
with tracing.tracer_provider().get_tracer("a.library").start_as_current_span("chat m") as span:
    assert not span.is_recording()
print(json.dumps(found))
"""
    assert program(code, aimock, mlflow_store) == [["chat m"]]


@pytest.mark.parametrize("order", ["before", "late"])
def test_no_span_of_ours_goes_to_a_librarys_maker(aimock: str, receiver: Receiver, order: str) -> None:
    """A library makes its usage telemetry the global provider: it gets what others record, and none of our spans."""
    code = f"""
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    telemetry = TracerProvider(resource=Resource({{"service.name": "crewAI-telemetry"}}))
    telemetry.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter("{receiver.url}/v1/traces")))
    def import_library():
        trace.set_tracer_provider(telemetry)
    if "{order}" == "before":
        import_library()
    integrations.openai.autolog()
    if "{order}" == "late":
        ask()
        import_library()
    with trace.get_tracer("app").start_as_current_span("GET /chat"):
        ask()
    with tracing.span("work"):
        ask()
    assert tracing.flush(60)
    print(json.dumps("mlflow" in sys.modules))
    """
    ours = Receiver()
    try:
        env = {"MLSPAN_TRACKING_URI": "none", "MLSPAN_OTLP_ENDPOINT": ours.url}
        done = run_program(code, aimock, "", **env)
        assert dict(receiver.otlp) == {"GET /chat": 1}
        assert dict(ours.otlp) == {"chat gpt-4o-mini": 2 + (order == "late"), "work": 1}
        assert done.stdout.splitlines()[-1] == "false"
        assert done.stderr.count("mlspan:") == done.stderr.count("Set CREWAI_DISABLE_TELEMETRY=true") == 1, done.stderr
    finally:
        ours.stop()
