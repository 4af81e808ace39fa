"""What reading costs: the processor's time and the memory of each command over a store of 100,000 traces.

``python benchmarks/reading.py [TRACES] [FOLDER]``: the store is made in FOLDER, or in one below the system's folder for
temporary files, and stays there for the next time. It holds copies of a few traces that were recorded for this, an
agent with two calls to a model and a tool each, spread over a week. The copies are made by SQL; making 100,000 takes
one to two minutes, and 1.1 GB.
Traces land meanwhile, one each tenth of a second, as they would from a running application.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import closing, suppress
from pathlib import Path
from typing import Final

COMMANDS: Final = {
    "--help": ["--help"],
    "list": ["list"],
    "list --status error": ["list", "--status", "error"],
    "show": ["show"],
    "stats": ["stats"],
    "list --status waiting": ["list", "--status", "waiting"],
    "stats --since 1w": ["stats", "--since", "1w"],
}
MODELS: Final = ("gpt-4o", "gpt-4o-mini", "claude-sonnet-4-5", "gemini-2.5-flash")
WEEK: Final = 7 * 86_400_000  # milliseconds


def record_templates(uri: str) -> None:
    """Store eight traces: two of each model, one of them failed."""
    from opentelemetry.trace import get_current_span

    from mlspan import tracing

    tracing.configure(tracking_uri=uri)
    for number in range(8):
        with (
            tracing.session(f"session {number}"),
            tracing.user(f"user {number % 3}"),
            tracing.span("assistant", kind="agent", input="What is the weather in Paris?") as agent,
        ):
            for turn in range(2):
                with tracing.span(f"chat {MODELS[number % 4]}", kind="chat", input=f"turn {turn}") as chat:
                    named = {"gen_ai.request.model": MODELS[number % 4], "gen_ai.provider.name": "openai"}
                    counts = {"gen_ai.usage.input_tokens": 100 + number, "gen_ai.usage.output_tokens": 20}
                    get_current_span().set_attributes({**named, **counts})
                    chat.output = "It is sunny. " * 20
                if turn == 0:
                    with suppress(TimeoutError):
                        ask_weather(fails=number == 7)
            agent.output = "It is sunny in Paris."
    assert tracing.flush(600)
    tracing.shutdown()


def ask_weather(*, fails: bool) -> None:
    """Record the call of a tool."""
    from mlspan import tracing

    with tracing.span("get_weather", kind="tool", input={"city": "Paris"}) as tool:
        tool.output = "sunny"
        if fails:
            raise TimeoutError("the weather service is away")


def multiply_traces(file: Path, traces: int) -> None:
    """Copy the traces in a database until it has *traces*, spread over the last week."""
    now = round(time.time() * 1000)
    with closing(sqlite3.connect(file)) as database, database:
        database.execute("PRAGMA synchronous = OFF")
        ids = [row[0] for row in database.execute("SELECT request_id FROM trace_info ORDER BY timestamp_ms")]
        count = traces - len(ids)
        rows = [(ids[n % len(ids)], make_trace_id(n), now - WEEK * (count - n) // count) for n in range(count)]
        copy_traces(database, rows)
        database.execute("ANALYZE")


def make_trace_id(number: int) -> str:
    """Return an id as random as real ones are: one that grew with time would be found in an index too quickly."""
    return f"tr-{hashlib.md5(str(number).encode(), usedforsecurity=False).hexdigest()}"


def copy_traces(database: sqlite3.Connection, copies: list[tuple[str, str, int]]) -> None:
    """Copy traces with all that belongs to them: the old id, the new one, and the time in milliseconds of each."""
    database.execute("CREATE TEMP TABLE IF NOT EXISTS copies (old TEXT, new TEXT, at INTEGER)")
    database.execute("DELETE FROM copies")
    database.executemany("INSERT INTO copies VALUES (?, ?, ?)", copies)
    keys = {"trace_info": "request_id", "trace_tags": "request_id", "trace_request_metadata": "request_id"}
    keys |= {"spans": "trace_id", "span_metrics": "trace_id", "trace_metrics": "request_id"}
    for table, key in keys.items():
        names = [row[1] for row in database.execute(f"PRAGMA table_info({table})")]  # without generated columns
        moved = {key: "copies.new", "timestamp_ms": "copies.at"}
        if table == "spans":
            began = "(SELECT timestamp_ms FROM trace_info t WHERE t.request_id = copies.old)"
            shift = f"(copies.at - {began}) * 1000000"
            moved |= {name: f"{name} + {shift}" for name in ("start_time_unix_nano", "end_time_unix_nano")}
        values = ", ".join(moved.get(name, f"{table}.{name}") for name in names)
        database.execute(
            f"INSERT INTO {table} ({', '.join(names)}) SELECT {values} FROM copies JOIN {table} "
            f"ON {table}.{key} = copies.old"
        )


def make_store(file: Path, traces: int) -> None:
    """Make a store of so many traces."""
    unfinished = file.with_suffix(".unfinished")
    unfinished.unlink(missing_ok=True)
    record_templates(f"sqlite:///{unfinished}")
    multiply_traces(unfinished, traces)
    unfinished.rename(file)


def move_to_now(file: Path) -> None:
    """Move all traces of a store that was made earlier, so that the newest begins now."""
    with closing(sqlite3.connect(file)) as database, database:
        (newest,) = database.execute("SELECT MAX(timestamp_ms) FROM trace_info").fetchone()
        database.execute("UPDATE trace_info SET timestamp_ms = timestamp_ms + ?", (round(time.time() * 1000) - newest,))


class Arrivals(threading.Thread):
    """Stores a copy of a trace each tenth of a second until it is stopped."""

    def __init__(self, file: Path) -> None:
        super().__init__(daemon=True)
        self._file, self._stopped, self.landed = file, threading.Event(), 0

    def run(self) -> None:
        with closing(sqlite3.connect(self._file, timeout=20)) as database:
            (newest,) = database.execute("SELECT request_id FROM trace_info LIMIT 1").fetchone()
            while not self._stopped.wait(0.1):
                with database:
                    copy_traces(database, [(newest, f"tr-f{time.time_ns():031x}", round(time.time() * 1000))])
                self.landed += 1

    def stop(self) -> None:
        """End it, and wait for that."""
        self._stopped.set()
        self.join(30)


# The largest size since the process began as this program: that of getrusage includes the process that has started it.
CODE: Final = """
import re, resource, sys
try:
    if len(sys.argv) > 1:
        from mlspan.cli import main
        main()
except SystemExit as end:
    assert not end.code, end.code
used = resource.getrusage(resource.RUSAGE_SELF)
size = re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())
print(used.ru_utime + used.ru_stime, int(size[1]) / 1024, file=sys.stderr)
"""


def measure_process(arguments: list[str], environ: dict[str, str]) -> tuple[float, float, float]:
    """Run a command, and return the processor's time and the time in seconds, and its largest size in MB."""
    began = time.perf_counter()
    command = [sys.executable, "-c", CODE, *arguments]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=True, timeout=600)
    cpu, size = done.stderr.splitlines()[-1].split()
    return float(cpu), time.perf_counter() - began, float(size)


def measure_commands(uri: str, times: int = 5) -> dict[str, tuple[float, float, float]]:
    """Return seconds of the processor beside ``python -c pass``, seconds, and megabytes of each command: medians."""
    with tempfile.TemporaryDirectory() as compiled:
        environ = {**os.environ, "PYTHONPYCACHEPREFIX": compiled, "MLSPAN_TRACKING_URI": uri, "COLUMNS": "100"}
        environ.pop("PYTHONDONTWRITEBYTECODE", None)
        programs: dict[str, list[str]] = {"python -c pass": [], **COMMANDS}
        found: dict[str, list[tuple[float, float, float]]] = {name: [] for name in programs}
        for turn in range(times + 1):
            for name, arguments in programs.items():
                print(f"{turn} of {times}: {name}", file=sys.stderr, flush=True)
                taken = measure_process(arguments, environ)
                if turn:  # the first one compiles
                    found[name].append(taken)
    medians = {name: tuple(map(statistics.median, zip(*runs, strict=True))) for name, runs in found.items()}
    base = medians["python -c pass"][0]
    return {name: (cpu - base, elapsed, size) for name, (cpu, elapsed, size) in medians.items()}


def main(traces: int = 100_000, folder: str | None = None) -> None:
    """Print the table."""
    kept = Path(folder or Path(tempfile.gettempdir()) / f"mlspan-reading-{traces}")
    kept.mkdir(exist_ok=True)
    file = kept / "mlflow.db"
    if not file.exists():
        print(f"making {file}", file=sys.stderr, flush=True)
        make = "import sys; sys.path.insert(0, sys.argv[1]); import pathlib, reading; "
        make += "reading.make_store(pathlib.Path(sys.argv[2]), int(sys.argv[3]))"
        environ = {**os.environ, "MLSPAN_SPOOL_DIR": str(kept / "spool")}
        argv = [sys.executable, "-c", make, str(Path(__file__).parent), str(file), str(traces)]
        subprocess.run(argv, env=environ, check=True, timeout=3600)
    move_to_now(file)
    load = os.getloadavg()[0]
    arrivals = Arrivals(file)
    arrivals.start()
    try:
        measured = measure_commands(f"sqlite:///{file}")
    finally:
        arrivals.stop()
    cores, loads = os.cpu_count(), f"{load:.1f} to {os.getloadavg()[0]:.1f}"
    print(f"{traces:,} traces, and {arrivals.landed} that landed meanwhile; {cores} cores, load {loads}")
    print("| command | processor, s | elapsed, s | MB |\n|---|---|---|---|")
    for name, (cpu, elapsed, size) in measured.items():
        print(f"| `{name}` | {cpu:.2f} | {elapsed:.2f} | {size:.0f} |")


if __name__ == "__main__":
    main(*(int(one) if one.isdigit() else one for one in sys.argv[1:]))  # type: ignore[arg-type]
