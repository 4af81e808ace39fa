"""What a process holds beside its values: open files, threads, child processes and context variables; ours left out."""

from __future__ import annotations

import contextvars
import gc
import re
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any, Final

_SETTLE_SECONDS: Final = 3.0  # for threads, connections and children that end by themselves
_OURS: Final = "mlspan"  # in the name of each of our threads, and in the path of each of our files
# MLflow's own pools, one for each training, whose threads end whenever the pool is collected: with us and without.
_BY_CHANCE: Final = ("MlflowAutologgingQueueingClient", "litellm-logging")
State = dict[str, Counter[str]]


def take_state(own_port: int = 0) -> State:
    """Return open files, threads and child processes, counted by name; *own_port* is where our spans are sent."""
    return {"files": _list_files(own_port), "threads": _list_threads(), "children": _list_children()}


def wait_for_change(before: State, own_port: int = 0) -> dict[str, list[str]]:
    """Return what there is now and was not *before*, and the other way round, once it has had time to settle."""
    until = time.monotonic() + _SETTLE_SECONDS
    while (changes := _compare(before, take_state(own_port))) and time.monotonic() < until:
        time.sleep(0.1)
        gc.unfreeze()  # a client's thread may have let go of a connection since the collection
        gc.collect()
        gc.freeze()
    return changes


def _compare(before: State, now: State) -> dict[str, list[str]]:
    changes = {}
    for kind, held in now.items():
        lines = [f"+{one}" for one in (held - before[kind]).elements()]
        lines += [f"-{one}" for one in (before[kind] - held).elements()]
        if lines:
            changes[kind] = sorted(lines)
    return changes


def _list_threads() -> Counter[str]:
    names = (one.name for one in threading.enumerate() if _OURS not in one.name)
    return Counter(re.sub(r"\d+", "N", name) for name in names if not name.startswith(_BY_CHANCE))


def _list_children() -> Counter[str]:
    found: Counter[str] = Counter()
    for task in Path("/proc/self/task").iterdir():
        try:
            found["child"] += len((task / "children").read_text().split())
        except OSError:  # a thread that has ended meanwhile
            continue
    return +found


def _list_files(own_port: int) -> Counter[str]:
    ours = _list_own_sockets(own_port)
    found: Counter[str] = Counter()
    for number in Path("/proc/self/fd").iterdir():
        try:
            target = str(number.readlink())
        except OSError:  # the descriptor of this listing
            continue
        if target not in ours and _OURS not in target:
            found[re.sub(r"\d+", "N", target)] += 1
    return found


def _list_own_sockets(port: int) -> set[str]:
    """Return the names of the sockets that are connected to *port*."""
    rows = [line.split() for line in Path("/proc/self/net/tcp").read_text().splitlines()[1:]]
    return {f"socket:[{row[9]}]" for row in rows if int(row[2].partition(":")[2], 16) == port}


def read_context() -> dict[str, Any]:
    """Return the value of each context variable that is set, but for our own."""
    return {one.name: value for one, value in contextvars.copy_context().items() if _OURS not in one.name}


def compare_contexts(before: dict[str, Any]) -> list[str]:
    """Return the names of the variables whose value is another one than *before*; one without a value is empty."""
    now = read_context()
    return sorted(
        name
        for name in {*before, *now}
        if (before.get(name) or None) is not (now.get(name) or None) and before.get(name) != now.get(name)
    )
