"""How fast traces are stored: by mlspan, by MLflow's own client, and at the least that the store takes.

    python benchmarks/drain.py [database] [server-sqlite] [server-postgres] [cpu]

Every contender makes the same traces (a chat of two short messages in each span) as fast as it can, in a process of its
own that has stored one trace already; the clock runs from the first span to the last trace stored. Who takes part takes
turns, and only the ratios of one run say something. What counts as the floor: for a database, the store's ``log_spans``
alone, on entities made beforehand, 100 traces a call; for a server, the very requests that mlspan sends, made
beforehand, on as many connections. ``SCALE=0.1`` makes a tenth of the traces.
"""

from __future__ import annotations

import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import chain, product
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
from servers.postgres import postgres
from servers.process import Process, free_port

SCALE = float(os.environ.get("SCALE", "1"))  # of the number of traces, where there is no time
SHAPES = {  # traces, spans in each, and whether it happens in a run
    "one": (int(2000 * SCALE), 1, False),
    "fifty": (int(200 * SCALE), 50, False),
    "one in a run": (int(2000 * SCALE), 1, True),
}
SHARE = {"client": 5}  # MLflow's client makes a fifth of them: its rate does not depend on it, the hour does
ROUNDS = 3
SECONDS = 20  # of the measurement of CPU
USAGE = {"input_tokens": 12, "output_tokens": 5, "total_tokens": 17}
ASKED = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "What is the weather?"}]
ANSWER = {"role": "assistant", "content": "Sunny, 21 degrees."}


def _parts(message: dict[str, str], **more: str) -> dict[str, Any]:
    return {"role": message["role"], "parts": [{"type": "text", "content": message["content"]}], **more}


OURS = {
    "gen_ai.operation.name": "chat",
    "gen_ai.provider.name": "openai",
    "gen_ai.request.model": "gpt-4o-mini",
    "gen_ai.response.model": "gpt-4o-mini",
    "gen_ai.response.id": "chatcmpl-1",
    "gen_ai.response.finish_reasons": ["stop"],
    "gen_ai.usage.input_tokens": 12,
    "gen_ai.usage.output_tokens": 5,
    "server.address": "127.0.0.1",
    "server.port": 80,
    "gen_ai.input.messages": json.dumps([_parts(message) for message in ASKED]),
    "gen_ai.output.messages": json.dumps([_parts(ANSWER, finish_reason="stop")]),
}
# The root of several: an agent, as a chat inside of a chat would be taken for the same call.
AGENT = {name: value for name, value in OURS.items() if ".usage." not in name and ".response.id" not in name} | {
    "gen_ai.operation.name": "invoke_agent"
}
INPUTS = {"model": "gpt-4o-mini", "messages": ASKED}
OUTPUTS = {"id": "chatcmpl-1", "choices": [{"index": 0, "message": ANSWER, "finish_reason": "stop"}]}
THEIRS = {"mlflow.llm.model": "gpt-4o-mini", "mlflow.chat.tokenUsage": USAGE, "mlflow.message.format": "openai"}


# Contenders: each a function from (uri, experiment) to what makes and stores so many traces of so many spans.


def mlspan(uri: str, experiment: str) -> Callable[[int, int], None]:
    """Spans as our integrations make them, and the pipeline that they go through."""
    from opentelemetry import trace
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import SpanKind, set_span_in_context

    import mlspan
    from mlspan.tracing.otel.fast_span import SpanStarter

    trace.set_tracer_provider(TracerProvider(shutdown_on_exit=False))
    mlspan.tracing.configure(tracking_uri=uri, experiment=experiment)
    starter = SpanStarter(trace.get_tracer("mlspan"))

    def span(around: Context, attributes: dict[str, Any] = OURS) -> Any:
        return starter.decide_sampling(around).start_span("chat gpt-4o-mini", SpanKind.CLIENT, dict(attributes))

    def make(traces: int, spans: int) -> None:
        for _ in range(traces):
            root = span(Context(), AGENT if spans > 1 else OURS)
            inside = set_span_in_context(root, Context())
            for _ in range(spans - 1):
                span(inside).end()
            root.end()
        if not mlspan.tracing.flush(600):
            raise RuntimeError("not all was stored")

    return make


def client(uri: str, experiment: str) -> Callable[[int, int], None]:
    """MLflow's own, which its autologs record and export with; with a queue long enough for it to drop nothing."""
    import mlflow

    mlflow.set_tracking_uri(uri)
    mlflow.set_experiment(experiment)
    if "MLFLOW_RUN_ID" in os.environ:
        mlflow.start_run()

    def span(parent: Any = None, kind: str = "CHAT_MODEL") -> Any:
        attributes = THEIRS if kind == "CHAT_MODEL" else None
        return mlflow.start_span_no_context(
            "Completions", kind, parent_span=parent, inputs=INPUTS, attributes=attributes
        )

    def make(traces: int, spans: int) -> None:
        for _ in range(traces):
            root = span(None, "AGENT" if spans > 1 else "CHAT_MODEL")
            for _ in range(spans - 1):
                span(root).end(outputs=OUTPUTS)
            root.end(outputs=OUTPUTS)
        mlflow.flush_trace_async_logging()

    return make


def bulk(uri: str, experiment: str) -> Callable[[int, int], Callable[[], None]]:
    """The floor of a database."""
    from mlflow.entities import Span
    from mlflow.tracking._tracking_service.utils import _get_store

    from mlspan.tracing.export.mlflow.span_rows import prepare_for_mlflow_span

    store = _get_store(uri)
    experiment_id = store.get_experiment_by_name(experiment).experiment_id

    def prepare(traces: int, spans: int) -> Callable[[], None]:
        made = [
            [Span(prepare_for_mlflow_span(span, info.trace_id)) for span in found]
            for info, found in _ready(traces, spans)
        ]

        def store_all() -> None:
            for start in range(0, traces, 100):
                store.log_spans(experiment_id, [span for found in made[start : start + 100] for span in found])

        return store_all

    return prepare


def replay(uri: str, experiment: str) -> Callable[[int, int], Callable[[], None]]:
    """The floor of a server."""
    from http.client import HTTPConnection
    from urllib.parse import urlsplit

    from mlspan.tracing.export.mlflow import server as tracking
    from mlspan.tracing.export.mlflow.batches import split_portions
    from mlspan.tracing.export.mlflow.store import MAX_CONNECTIONS
    from mlspan.tracing.export.sending.executor import BoundedExecutor

    server = tracking.ServerStore(uri, BoundedExecutor(MAX_CONNECTIONS))
    experiment_id = server.find_or_create_experiment(experiment)
    address = urlsplit(uri).netloc

    def prepare(traces: int, spans: int) -> Callable[[], None]:
        server.write_traces(experiment_id, [trace for trace, _ in _ready(1, 1, whole=True)])
        ready = [trace for trace, _ in _ready(traces, spans, whole=True)]
        portions = list(split_portions(ready, server))
        phases = zip(
            *(server.build_phases(experiment_id, some, server.add_summaries(some)) for some in portions), strict=True
        )
        made = [
            [
                (request.path, request.encode_body(parses_text=True), {**server.headers, **request.headers})
                for request in chain(*phase)
            ]
            for phase in phases
        ]

        def work(waiting: deque[Any]) -> None:
            connection = HTTPConnection(address)
            while waiting:
                try:
                    path, body, headers = waiting.popleft()
                except IndexError:
                    break
                connection.request("POST", f"/{path}", body, headers)
                answer = connection.getresponse()
                answer.read()
                if answer.status != 200:
                    raise RuntimeError(answer.status)
            connection.close()

        def send_all() -> None:
            for phase in made:
                waiting = deque(phase)
                most = server.most_writers if phase and phase[0][0] == tracking.SPANS_PATH else MAX_CONNECTIONS
                threads = [threading.Thread(target=work, args=(waiting,)) for _ in range(most)]
                for thread in threads:
                    thread.start()
                for thread in threads:
                    thread.join(600)

        return send_all

    return prepare


def _ready(traces: int, spans: int, *, whole: bool = False) -> Iterator[tuple[Any, Any]]:
    """Traces as mlspan's exporter has them just before it writes."""
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.trace import SpanContext, TraceFlags

    from mlspan.tracing.export.mlflow.traces import translate_segment
    from mlspan.tracing.export.types import TraceSegment
    from mlspan.tracing.operations.call_context import TraceOrigin

    def span(trace_id: int, span_id: int, parent_id: int | None) -> ReadableSpan:
        said = AGENT if spans > 1 and parent_id is None else OURS
        here, above = (
            SpanContext(trace_id, id, is_remote=False, trace_flags=TraceFlags(1)) if id else None
            for id in (span_id, parent_id)
        )
        now = time.time_ns()
        return ReadableSpan("chat gpt-4o-mini", here, above, Resource({}), said, start_time=now, end_time=now + 10**6)

    run_id = os.environ.get("MLFLOW_RUN_ID")
    for _ in range(traces):
        trace_id, root_id = random.getrandbits(127) + 1, random.getrandbits(63) + 1
        below = [span(trace_id, random.getrandbits(63) + 1, root_id) for _ in range(spans - 1)]
        trace = translate_segment(
            TraceSegment(TraceOrigin(), (span(trace_id, root_id, None), *below), root_id, whole=True),
            run_id,
            links_run=True,  # as there are many
            previews_apart=True,
        )
        yield (trace, None) if whole else (trace.summary, trace.spans)


CONTENDERS: dict[str, Callable[..., Any]] = {"mlspan": mlspan, "client": client, "bulk": bulk, "replay": replay}


def contend(name: str, uri: str, experiment: str, traces: int, spans: int) -> tuple[float, float]:
    """Seconds, and seconds of CPU in this process."""
    make = CONTENDERS[name](uri, experiment)
    if name in {"bulk", "replay"}:
        make(1, spans)()
        store_all = make(traces, spans)
    else:
        make(1, spans)
        store_all = partial(make, traces, spans)
    started, before = time.perf_counter(), time.process_time()
    store_all()
    return time.perf_counter() - started, time.process_time() - before


def cpu(uri: str, experiment: str, spans: int) -> float:
    """The share of one core that exporting 200 spans a second takes from this process, recording them left out."""
    from opentelemetry import trace

    make = mlspan(uri, experiment)
    make(5, spans)
    tracer = trace.get_tracer("mlspan")

    def second() -> None:
        for _ in range(200 // spans):
            with tracer.start_as_current_span("chat gpt-4o-mini", attributes=OURS):
                for _ in range(spans - 1):
                    tracer.start_span("chat gpt-4o-mini", attributes=OURS).end()
            time.sleep(spans / 200)

    def spent() -> float:
        before, started = time.process_time(), time.perf_counter()
        for _ in range(SECONDS // 2):
            second()
        return (time.process_time() - before) / (time.perf_counter() - started)

    import mlspan as sdk

    exporting = spent()
    sdk.tracing.flush(60)
    sdk.tracing.configure(tracking_uri="none")
    return exporting - spent()


# Backends: each the tracking URI, and the ids of the sessions that its processes run in.

Backend = Iterator[tuple[str, list[int]]]


@contextmanager
def database(folder: Path) -> Backend:
    yield f"sqlite:///{folder}/mlflow.db", []


@contextmanager
def _server(folder: Path, store: str) -> Backend:
    port = free_port()
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", store, "--port", str(port)]
    command += ["--default-artifact-root", str(folder / "artifacts"), "--host", "127.0.0.1"]
    quiet = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}  # a dozen processes that look for work
    server = Process(command, port, folder / "log", env=quiet, cwd=folder)
    server.wait(300)
    try:
        yield f"http://127.0.0.1:{port}", [server._process.pid]
    finally:
        server.stop()


@contextmanager
def server_sqlite(folder: Path) -> Backend:
    with _server(folder, f"sqlite:///{folder}/mlflow.db") as backend:
        yield backend


@contextmanager
def server_postgres(folder: Path) -> Backend:
    with postgres() as (address, process), _server(folder, f"{address}/postgres") as (uri, sessions):
        yield uri, [*sessions, process]


BACKENDS: dict[str, Callable[[Path], Any]] = {
    "database": database,
    "server-sqlite": server_sqlite,
    "server-postgres": server_postgres,
}


# The run.


def new_run(uri: str) -> str:
    from mlflow.tracking import MlflowClient

    client = MlflowClient(uri)
    return client.create_run(client.get_experiment_by_name("drain").experiment_id).info.run_id


def elsewhere(role: str, uri: str, *more: object, **environ: str) -> tuple[float, ...]:
    """What ``drain.py --as role uri ...`` measures, in a process of its own."""
    fair = {"MLFLOW_ASYNC_TRACE_LOGGING_MAX_QUEUE_SIZE": "100000", "MLFLOW_MODEL_CATALOG_URI": ""}
    command = [sys.executable, __file__, "--as", role, uri, *map(str, more)]
    env = {**os.environ, **fair, **environ}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=1800)
    if done.returncode:
        raise RuntimeError(done.stderr[-3000:])
    (taken,) = [line for line in done.stdout.splitlines() if line.startswith("taken ")]  # MLflow has words of its own
    return tuple(map(float, taken.split()[1:]))


def spent_by(root: int) -> float:
    """Seconds of CPU that the processes of *root*'s session have taken, those that have ended included. Linux only."""
    total = 0
    for found in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = found.read_text().rpartition(")")[2].split()
        except OSError:  # it has just ended
            continue
        if int(fields[3]) == root:
            total += sum(map(int, fields[11:15]))
    return total / os.sysconf("SC_CLK_TCK")


def measure(backend: str) -> None:
    floor = "bulk" if backend == "database" else "replay"
    with tempfile.TemporaryDirectory() as folder, BACKENDS[backend](Path(folder)) as (uri, sessions):
        elsewhere("mlspan", uri, "drain", 1, 1)  # makes the database and the experiment
        run_id = new_run(uri)
        for shape, (traces, spans, in_run) in SHAPES.items():
            environ = {"MLFLOW_RUN_ID": run_id} if in_run else {}
            rates: dict[str, list[float]] = {"mlspan": [], floor: [], "client": []}
            costs: dict[str, list[float]] = {"mlspan": [], floor: [], "client": []}
            for turn, name in product(range(ROUNDS), rates):
                count = max(traces // SHARE.get(name, 1), 2)
                before = sum(map(spent_by, sessions))
                taken, cpu = elsewhere(name, uri, "drain", count, spans, **environ)
                cpu += sum(map(spent_by, sessions)) - before
                rates[name].append(count / taken)
                costs[name].append(cpu / count)
                print(backend, shape, turn, name, f"{count / taken:.0f}/s, {cpu / count:.4f} s", file=sys.stderr)
            ours, least, theirs = (statistics.median(found) for found in rates.values())
            cost, least_cost, their_cost = (1000 * statistics.median(found) for found in costs.values())
            what = f"{traces} of {spans}{', in a run' if in_run else ''}"
            print(
                f"| {backend} | {what} | {ours:.0f} | {theirs:.0f} | **{ours / theirs:.1f}** | {least:.0f} | "
                f"**{ours / least:.2f}** | {cost:.1f} ms | 1/{their_cost / cost:.1f} | 1/{least_cost / cost:.2f} |",
                flush=True,
            )


def measure_cpu() -> None:
    for backend in ("database", "server-postgres"):
        with tempfile.TemporaryDirectory() as folder, BACKENDS[backend](Path(folder)) as (uri, _):
            elsewhere("mlspan", uri, "drain", 1, 1)
            print(f"| {backend} |", end="", flush=True)
            for spans in (1, 10, 50):
                (share,) = elsewhere("cpu", uri, "drain", spans)
                print(f" {100 * share:.1f} % |", end="", flush=True)
            print(flush=True)


def main(asked: list[str]) -> None:
    backends = [name for name in asked if name in BACKENDS] or ([] if asked else list(BACKENDS))
    if backends:
        print(
            "| into | traces of spans | mlspan/s | MLflow's client/s | of the client | the floor/s | of the floor | "
            "CPU of a trace | of the client's | of the floor's |\n" + 10 * "|---" + "|"
        )
    for backend in backends:
        measure(backend)
    if "cpu" in asked or not asked:
        print("\n| CPU of one core, 200 spans/s | traces of 1 span | of 10 | of 50 |\n|---|---|---|---|", flush=True)
        measure_cpu()


if __name__ == "__main__":
    if sys.argv[1:2] == ["--as"]:
        role, uri, experiment, *numbers = sys.argv[2:]
        counts = [int(number) for number in numbers]
        print("taken", *([cpu(uri, experiment, *counts)] if role == "cpu" else contend(role, uri, experiment, *counts)))
    else:
        main(sys.argv[1:])
