"""Real servers, started on first use; and what every test must leave behind: nothing."""

from __future__ import annotations

import faulthandler
import gc
import itertools
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

if (
    signal.getsignal(signal.SIGINT) is signal.SIG_IGN
):  # a shell's background job, and all that it starts, hear no Ctrl-C
    signal.signal(signal.SIGINT, signal.default_int_handler)
os.environ["MLSPAN_STRICT"] = "1"
STATE_FOLDER = os.environ["XDG_STATE_HOME"] = tempfile.mkdtemp(prefix="mlspan-state-")  # for spools
os.environ["MLSPAN_TRACKING_URI"] = "none"  # tests that want MLflow say which
sys.path.insert(0, str(Path(__file__).parent))

os.environ["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"  # seven processes a server that no test has a use for
os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] = "1"  # a server that fails is a finding, not something to wait for

import pytest
from conventions import problems
from opentelemetry import context as otel_context
from opentelemetry.sdk.trace import SpanProcessor
from servers.process import Process, free_port
from servers.receiver import Receiver
from servers.scripted import Scripted

from mlspan import _private_names, integrations, testing, tracing
from mlspan.hooks import Hook
from mlspan.integrations._training.hook import TrainingHook
from mlspan.tracing.operations.operation import handed_over_operations
from mlspan.tracing.operations.suppression import is_suppressed
from mlspan.tracing.runtime import get_runtime

HERE = Path(__file__).parent


if os.environ.get("MLSPAN_NEWEST") == "1":  # tests/newest.py asks what breaks, not what is in the tested range
    for hook_class in (Hook, TrainingHook):
        hook_class._is_version_supported = lambda _: True  # type: ignore[method-assign]


class _Balance(SpanProcessor):
    """Counts the spans that have started and not ended."""

    open = 0

    def on_start(self, span: Any, parent_context: Any = None) -> None:
        self.open += 1

    def on_end(self, span: Any) -> None:
        self.open -= 1


_STDERR = pytest.StashKey[int]()
_OWN_ID = pytest.StashKey[Any]()
_STARTED = time.monotonic()
_TEST_NUMBERS = itertools.count()
_RAN: deque[str] = deque(maxlen=8)  # the tests of this process, the last ones


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--seconds", type=float, default=None, help="begin no test once so many seconds have passed")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    """A test that fails says what ran before it in this process, and how tracing stood."""
    report: Any = yield
    if report.failed:
        told = [*_RAN, f"suppressed: {is_suppressed()}"]
        with suppress(Exception):  # what has failed may be what is asked
            told.append(str(tracing.doctor()))
        report.sections.append((f"before it, and tracing at its {call.when}", "\n".join(told)))
    return report


def pytest_runtest_setup(item: pytest.Item) -> None:
    _RAN.append(item.nodeid)
    _postpone_last_resort(item)
    gc.collect()
    gc.freeze()  # what is left need not be looked at in the collections of this test, nor of those after it
    limit = item.config.getoption("--seconds")
    if limit is not None and time.monotonic() - _STARTED > limit:
        pytest.skip(f"{limit:g} seconds have passed; `make test` runs it")


def _postpone_last_resort(item: pytest.Item) -> None:
    """A test with a longer time of its own has it: ``faulthandler_timeout``, counted from its start, may be shorter."""
    own = item.get_closest_marker("timeout")
    if own is not None and own.args:
        seconds = own.args[0] + float(item.config.getini("faulthandler_timeout"))
        faulthandler.dump_traceback_later(seconds, exit=True, file=item.config.stash[_STDERR])


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_STDERR] = os.dup(2)  # at the end, 2 may be where pytest has captured


def pytest_unconfigure(config: pytest.Config) -> None:
    """A thread that a test has left waiting would hold up the interpreter's exit for ever."""
    seconds = float(config.getini("faulthandler_timeout"))
    faulthandler.dump_traceback_later(seconds, exit=True, file=config.stash[_STDERR])


def _uses_browser(item: pytest.Item) -> bool:
    return "browser" in getattr(item, "fixturenames", ())


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Those with a browser come last: Playwright leaves an event loop running in our thread.

    With ``-n`` a process takes a whole file at a time, and one of them all that use the browser. The wheel's, which
    take longest of all files, come first: no process is left alone with them at the end.
    """
    items.sort(key=lambda item: (_uses_browser(item), item.path.name != "test_wheel.py"))
    for item in items:
        group = "browser" if _uses_browser(item) else item.path.name
        item.add_marker(pytest.mark.xdist_group(group))
        if hasattr(item.config, "workerinput") and (own := getattr(item, "_id", None)) is not None:
            # pytest-xdist 3.8 writes the group to a field that pytest 9.2 does not read
            item.stash[_OWN_ID], item._id = own, type(own).parse(f"{own}@{group}")


@pytest.hookimpl(trylast=True)  # once pytest-xdist has told the groups
def pytest_collection_finish(session: pytest.Session) -> None:
    """Give the tests their own names back."""
    for item in session.items:
        if (own := item.stash.get(_OWN_ID, None)) is not None:
            item._id = own


@pytest.fixture(scope="session")
def _collected() -> Iterator[tuple[testing.Spans, _Balance]]:
    from opentelemetry import trace

    balance = _Balance()
    gc.collect()
    gc.freeze()  # what the imports have left need not be looked at after each test
    with testing.spans() as ended:
        trace.get_tracer_provider().add_span_processor(balance)
        yield ended, balance


@pytest.fixture
def spans(_collected: tuple[testing.Spans, _Balance], request: pytest.FixtureRequest) -> Iterator[testing.Spans]:
    """What ends during the test; afterwards each span is held against the conventions."""
    ended, balance = _collected
    if get_runtime() is None:  # an earlier test has shut tracing down for good
        tracing.configure()
    ended.clear()
    balance.open = 0
    before = {*handed_over_operations}
    yield ended
    gc.collect()
    assert balance.open == 0, "spans that never ended"
    assert {*handed_over_operations} <= before, "operations that nobody has taken off the list"
    if request.node.get_closest_marker("any_span") is None:
        assert [line for span in ended.all for line in problems(span)] == []


@pytest.fixture(autouse=True)
def _own_spool() -> Iterator[None]:
    """What one test leaves waiting on disk, no other finds, sends or reports."""
    os.environ["XDG_STATE_HOME"] = f"{STATE_FOLDER}/{next(_TEST_NUMBERS)}"
    yield
    os.environ["XDG_STATE_HOME"] = STATE_FOLDER


@pytest.fixture(autouse=True)
def _own_losses() -> Iterator[None]:
    """What one test takes away from another library, no doctor of another test reports."""
    before = dict(_private_names._missing)
    yield
    _private_names._missing.clear()
    _private_names._missing.update(before)


@contextmanager
def _put_back_mlflows_state() -> Iterator[None]:
    """``mlflow.set_experiment`` and its kin write to the environment: the next test must not write to their store."""
    before = {name: value for name, value in os.environ.items() if name.startswith("MLFLOW_")}
    yield
    for name in [name for name in os.environ if name.startswith("MLFLOW_") and name not in before]:
        del os.environ[name]
    os.environ.update(before)
    if (fluent := sys.modules.get("mlflow.tracking.fluent")) is not None:
        fluent._active_experiment_id = None


@pytest.fixture(autouse=True)
def _mlflows_state() -> Iterator[None]:
    """What one test tells MLflow, no other finds."""
    with _put_back_mlflows_state():
        yield


@pytest.fixture(autouse=True, scope="module")
def _mlflows_state_of_a_module() -> Iterator[None]:
    """What fixtures of a whole module tell MLflow, no other module finds."""
    with _put_back_mlflows_state():
        yield


@pytest.fixture(autouse=True)
def _leaves_nothing(request: pytest.FixtureRequest) -> Iterator[None]:
    threads, context = {*threading.enumerate()}, otel_context.get_current()
    yield
    assert otel_context.get_current() == context, "a context that nobody has detached"
    left = [thread for thread in threading.enumerate() if thread not in threads and not thread.daemon]
    for thread in left:  # AnyIO tells its workers to stop when the loop ends, and waits for none
        thread.join(2)
    left = [thread for thread in left if thread.is_alive()]
    keeps = any(request.node.get_closest_marker(name) for name in ("browser", "trains"))  # Playwright and MLflow do
    assert left == [] or keeps, left


@pytest.fixture
def tracing_off() -> Iterator[None]:
    """Settings of its own for a test: whatever it configures ends with it."""
    tracing.shutdown(10)
    yield
    integrations.autolog(disable=True)
    tracing.shutdown(10)
    tracing.configure()


@pytest.fixture
def no_global_provider(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process in which nobody has set a provider: that of ``spans`` may be there from an earlier test."""
    monkeypatch.setattr("opentelemetry.trace._TRACER_PROVIDER", None)


@pytest.fixture(scope="session")
def aimock(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The base URL of an OpenAI-compatible server that we did not write; its answers are in servers/fixtures."""
    llmock = HERE / "servers/node_modules/.bin/llmock"
    if not llmock.exists():
        pytest.skip("the OpenAI-compatible server is not installed: run tests/servers/install")
    port = free_port()
    log = tmp_path_factory.mktemp("aimock") / "log"
    server = Process([str(llmock), "-p", str(port), "-f", str(HERE / "servers/fixtures")], port, log)
    server.wait(150)
    yield f"http://127.0.0.1:{port}/v1"
    server.stop()


@pytest.fixture(scope="session")
def _scripted() -> Iterator[Scripted]:
    server = Scripted()
    yield server
    server.stop()


@pytest.fixture
def scripted(_scripted: Scripted) -> Scripted:
    """A server that answers what the test says."""
    _scripted.clear()
    return _scripted


@pytest.fixture
def model_server() -> Iterator[Scripted]:
    """A server of its own whose answers go by the request: web applications ask it from several processes at once."""
    from web.kit import answer_by_request

    server = Scripted()
    answer_by_request(server)
    yield server
    server.stop()


@pytest.fixture(scope="session")
def _template_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MLflow's database, empty: making one takes seconds, so it is made once and copied."""
    pytest.importorskip("mlflow")
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    folder = tmp_path_factory.mktemp("template")
    store = SqlAlchemyStore(f"sqlite:///{folder}/mlflow.db", str(folder / "artifacts"))
    store._dispose_engine()
    return folder / "mlflow.db"


@pytest.fixture
def mlflow_store(_template_store: Path, tmp_path: Path) -> str:
    """The tracking URI of an empty database."""
    shutil.copy(_template_store, tmp_path / "mlflow.db")
    return f"sqlite:///{tmp_path}/mlflow.db"


@pytest.fixture(scope="session")
def mlflow_server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a real tracking server: MLSPAN_TEST_SERVER, or one that runs under MLSPAN_SERVER_PYTHON or ours."""
    if (running := os.environ.get("MLSPAN_TEST_SERVER")) is not None:
        yield running
        return
    folder, port = tmp_path_factory.mktemp("server"), free_port()
    python = os.environ.get("MLSPAN_SERVER_PYTHON")
    if python is None:
        shutil.copy(request.getfixturevalue("_template_store"), folder / "mlflow.db")
    store = f"sqlite:///{folder}/mlflow.db"
    command = [python or sys.executable, "-m", "mlflow", "server", "--backend-store-uri", store, "--port", str(port)]
    command += ["--default-artifact-root", str(folder / "artifacts"), "--workers", "1", "--host", "127.0.0.1"]
    server = Process(command, port, folder / "log", cwd=folder)
    server.wait(150)
    yield f"http://127.0.0.1:{port}"
    server.stop()


@pytest.fixture(scope="session")
def phoenix(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """An OTLP receiver that we did not write: ``.http`` and ``.grpc`` are its endpoints."""
    python = HERE.parent / ".phoenix/bin/python"
    if not python.exists():
        pytest.skip("the OTLP receiver is not installed: make .phoenix/.installed")
    folder, port, grpc = tmp_path_factory.mktemp("phoenix"), free_port(), free_port()
    env = {"PHOENIX_PORT": str(port), "PHOENIX_GRPC_PORT": str(grpc), "PHOENIX_WORKING_DIR": str(folder)}
    env |= {"PHOENIX_HOST": "127.0.0.1", "PHOENIX_TELEMETRY_ENABLED": "false"}
    server = Process([str(python), "-m", "phoenix.server.main", "serve"], port, folder / "log", env=env)
    server.wait(150)
    yield SimpleNamespace(http=f"http://127.0.0.1:{port}", grpc=f"http://127.0.0.1:{grpc}")
    server.stop()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """A backend for MLflow's and OTLP's requests that fails as it is told to."""
    made = Receiver()
    yield made
    made.stop()


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    return tmp_path / "spool"


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Chromium, driven by Playwright."""
    playwright = pytest.importorskip("playwright.sync_api")
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("no browser: apt-get install chromium")
    options = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
    with playwright.sync_playwright() as driver:
        found = driver.chromium.launch(executable_path=chromium, args=[*options, "--disable-sync"])
        yield found
        found.close()
