"""Signals that come while a process forks end it as they would without us, and nothing of it is seen on stderr."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from servers.process import BoundedPopen
from servers.program import PREAMBLE, environment, run
from servers.receiver import Receiver, once

from mlspan.tracing.export.fork_safety import ForkLock

OWN = "signal.signal(signal.SIGTERM, lambda *_: (print('mine', flush=True), sys.exit(3)))"
# A hook registered before mlspan's import runs in the middle of our hooks before a fork, and ahead of ours after it.
PROGRAM = """
import os, signal, sys, time
parent = os.getpid()
def hook(name):
    def send():
        if name == {where!r} and (os.getpid() != parent) == (name == "after_in_child"):
            os.kill(os.getpid(), signal.SIGTERM)
    return send
for name in ("before", "after_in_parent", "after_in_child"):
    os.register_at_fork(**{{name: hook(name)}})
{own}
{preamble}
work(0, 3)
child = os.fork()
if child == 0:
    for _ in range(200):
        time.sleep(0.05)
        if os.getppid() != parent:
            break
    os._exit(9)
{then}
for _ in range(600):
    pid, status = os.waitpid(child, os.WNOHANG)
    if pid:
        break
    time.sleep(0.05)
print("child", os.waitstatus_to_exitcode(status), flush=True)
"""
KILL = "os.kill(child, signal.SIGTERM)"
CASES = {
    "the child at once": ("", KILL),  # before its first line, when Python forgets what it has noted
    "the child in a hook": ("after_in_child", ""),
    "the parent before": ("before", ""),
    "the parent after": ("after_in_parent", ""),
}


SOME = [*((case, "") for case in CASES), ("the child in a hook", OWN)]
ALL = [(case, own) for case in CASES for own in ("", OWN)]


@pytest.mark.parametrize(("case", "own"), ALL if os.environ.get("MLSPAN_WIDE") else SOME)
def test_sigterm_in_a_fork(receiver: Receiver, spool: Path, case: str, own: str) -> None:
    """The process that gets it ends by it, or as the program's handler says; the parent's spans arrive once."""
    where, then = CASES[case]
    code = PROGRAM.format(where=where, own=own, preamble=PREAMBLE, then=then)
    env = environment(spool, None, receiver.url)
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with BoundedPopen([sys.executable, "-c", code], env=env, **pipes) as process:
        try:
            out, err = process.communicate(timeout=60)
        finally:
            process.kill()
    ending = 3 if own else -signal.SIGTERM
    said = ["mine"] if own else []
    in_child = case.startswith("the child")
    assert (process.returncode, err) == (0 if in_child else ending, "")
    assert out.splitlines() == [*said, *([f"child {ending}"] if in_child else [])]
    assert receiver.otlp == once(3)


def test_ctrl_c_while_a_fork_waits(receiver: Receiver, spool: Path) -> None:
    """It is raised in the program once the fork is over."""
    code = """
    import threading
    from mlspan.tracing.export.fork_safety import IMPORT_LOCK
    work(0, 3)
    held, interrupted = threading.Event(), threading.Event()
    def import_slowly():
        with IMPORT_LOCK.delay_forks():
            held.set()
            time.sleep(0.5)  # until the main thread waits for the lock
            os.kill(os.getpid(), signal.SIGINT)
            interrupted.wait(10)
    thread = threading.Thread(target=import_slowly)
    thread.start()
    held.wait(10)
    try:
        child = os.fork()
        if child == 0:  # it is not the child that was interrupted
            for sender in threading.enumerate():
                if sender.name == "mlspan-signal":
                    sender.join(10)
            os._exit(0)
        time.sleep(10)
    except KeyboardInterrupt:
        print("interrupted", flush=True)
    interrupted.set()
    thread.join(10)
    os.waitpid(-1, 0)
    """
    done = run(code, environment(spool, None, receiver.url))
    assert (done.returncode, done.stdout, done.stderr) == (0, "interrupted\n", "")


def test_two_threads_fork_at_once() -> None:
    """Each lets go of the lock only if it has taken it itself: here the first gives up waiting, the second does not."""
    lock = ForkLock(0.01)
    with ThreadPoolExecutor(1) as first, ThreadPoolExecutor(1) as second:
        with lock.delay_forks():
            first.submit(lock.before).result(10)
        second.submit(lock.before).result(10)
        first.submit(lock.in_parent).result(10)
        second.submit(lock.in_parent).result(10)
    lock.before()
    assert lock._held.here
    lock.in_parent()
