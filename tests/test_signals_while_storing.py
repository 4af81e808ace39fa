"""SIGTERM in the middle of storing on the main thread, as where the interpreter is ending: no threads start there."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from servers.process import BoundedPopen

PROGRAM = """
import os, signal, sys

from mlspan import tracing
from mlspan.tracing.export import processor, segment_writer, worker
from mlspan.tracing.export.sending import sender
from mlspan.tracing.export.spool import queue

where, handler = sys.argv[1], sys.argv[2]
if handler == "own handler":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(3))
threads = sys.argv[3] == "threads"
if not threads:
    processor.start = lambda *_: None
tracing.configure(tracking_uri="http://127.0.0.1:9", durability="span" if threads else "batch")
owner, _, name = where.partition(".")
owner = {
    "ExportProcessor": processor.ExportProcessor,
    "ExportWorker": worker.ExportWorker,
    "SegmentWriter": segment_writer.SegmentWriter,
    "Spool": queue.Spool,
    "Sender": sender.Sender,
}[owner]
own, struck = getattr(owner, name), []


def strike(self, *given, **more):
    if not struck:
        struck.append(True)
        os.kill(os.getpid(), signal.SIGTERM)
    result = own(self, *given, **more)
    if len(struck) == 1:
        struck.append(True)
        os.kill(os.getpid(), signal.SIGTERM)
    return result


setattr(owner, name, strike)
with tracing.span("kept", kind="tool"):
    pass
tracing.shutdown()
print("went on")
"""
WHERE = [
    *("ExportProcessor._begin", "ExportProcessor._open_worker", "ExportProcessor._round"),
    *("ExportWorker.__init__", "ExportWorker.accept_end", "ExportWorker.store_ended", "ExportWorker.close"),
    *("SegmentWriter.store_spans", "Spool.__init__", "Spool.add_spans", "Sender.turn"),
]


@pytest.mark.parametrize("handler", ["no handler", "own handler"])
@pytest.mark.parametrize("where", WHERE)
def test_it_ends_once_all_is_stored(where: str, handler: str, tmp_path: Path) -> None:
    """The process ends by the signal, or as its own handler says, and what it has recorded is on the disk."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("MLSPAN_", "MLFLOW_", "OTEL_"))}
    env = {**kept, "MLSPAN_SPOOL_DIR": str(tmp_path), "MLSPAN_STRICT": "1"}
    argv = [sys.executable, "-c", PROGRAM, where, handler, "no threads"]
    with BoundedPopen(argv, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        out, err = process.communicate(timeout=90)
    assert process.returncode == (-signal.SIGTERM if handler == "no handler" else 3), err
    assert out == ""
    assert "Traceback" not in err
    assert count_stored(tmp_path, env) == 1


@pytest.mark.parametrize("where", ["ExportProcessor._open_worker", "ExportWorker.__init__", "Spool.__init__"])
def test_it_ends_where_our_threads_start(where: str, tmp_path: Path) -> None:
    """The first span opens the spool on the caller's thread, which the signal finds with our lock."""
    env = {**os.environ, "MLSPAN_SPOOL_DIR": str(tmp_path)}
    argv = [sys.executable, "-c", PROGRAM, where, "no handler", "threads"]
    with BoundedPopen(argv, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        out, err = process.communicate(timeout=90)
    assert (process.returncode, out) == (-signal.SIGTERM, ""), err
    assert "Traceback" not in err


LATE = """
import os, signal

from mlspan import tracing
from mlspan.tracing.export import processor

start, struck = processor.start, []


def strike(*given):
    if not struck:
        struck.append(True)
        os.kill(os.getpid(), signal.SIGTERM)
    return start(*given)


tracing.configure(tracking_uri="http://127.0.0.1:9")
processor.start = lambda *_: None
with tracing.span("kept", kind="tool"):
    pass
processor.start = strike
with tracing.span("never ended", kind="tool"):
    print("went on")
"""


def test_what_has_waited_for_threads_is_stored(tmp_path: Path) -> None:
    """The signal comes as they start, and its handler stores by them what has ended before."""
    env = {**os.environ, "MLSPAN_SPOOL_DIR": str(tmp_path)}
    with BoundedPopen([sys.executable, "-c", LATE], env=env, stdout=subprocess.PIPE, text=True) as process:
        out, _ = process.communicate(timeout=90)
    assert (process.returncode, out) == (-signal.SIGTERM, "")
    assert count_stored(tmp_path, env) == 1


def count_stored(folder: Path, env: dict[str, str]) -> int:
    """Return how many spans the spools in *folder* hold."""
    argv = [sys.executable, "-c", READ, str(folder)]
    done = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=60, check=True)
    return int(done.stdout)


READ = """
import sqlite3, sys
from pathlib import Path
from mlspan.tracing.export.spool.limits import SPOOL_SUFFIX
found = 0
for path in Path(sys.argv[1]).rglob(f"*{SPOOL_SUFFIX}"):
    with sqlite3.connect(path) as database:
        found += database.execute("select count(*) from span").fetchone()[0]
print(found)
"""


ANYWHERE = """
import signal, sys, threading
from pathlib import Path

import mlspan
from mlspan.tracing.export.flush_request import FlushRequest
from mlspan.tracing.export.span_queue import SpanQueue

OURS = (str(Path(mlspan.__file__).parent), threading.__file__)
queue, flush = SpanQueue(), FlushRequest(last=True, send=True)


def stop():
    \"\"\"Do what the end of a process does, from asking for the last flush to waiting for it.\"\"\"
    queue.put_flush(flush)
    flush.wait(0.001)
    flush.kept.wait(0.001)
    flush.kept.set()
    FlushRequest(last=True, send=True).give_up(sent=True)


def strike_at(number):
    left = [number]

    def strike(frame, event, _):
        if event in {"call", "c_call", "c_return"} and frame.f_code.co_filename.startswith(OURS):
            left[0] -= 1
            if left[0] == 0:
                sys.setprofile(None)
                signal.raise_signal(signal.SIGTERM)

    sys.setprofile(strike)
    try:
        stop()
    finally:
        sys.setprofile(None)
    return left[0] <= 0


signal.signal(signal.SIGTERM, lambda *_: stop())
number = 1
while strike_at(number):
    number += 1
    queue, flush = SpanQueue(), FlushRequest(last=True, send=True)
    print(number, flush=True)
"""


def test_the_end_of_a_process_in_its_own_midst(tmp_path: Path) -> None:
    """A signal finds the main thread where it asks for the last flush, or waits for it, and its handler does the same.

    ``Pool.terminate`` sends one to workers that are ending by themselves.
    """
    argv = [sys.executable, "-c", ANYWHERE]
    with BoundedPopen(
        argv, env={**os.environ, "MLSPAN_SPOOL_DIR": str(tmp_path)}, stdout=subprocess.PIPE, text=True
    ) as it:
        try:
            out, _ = it.communicate(timeout=60)
        except subprocess.TimeoutExpired as error:
            raise AssertionError(f"it hangs at place {(error.stdout or b'').split()[-1:]}") from None
    assert it.returncode == 0
    assert int(out.split()[-1]) > 20
