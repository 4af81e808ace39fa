"""What only we are asked: calls that are not recorded, content off, many threads, memory."""

from __future__ import annotations

import gc
import itertools
import resource
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from time import sleep
from typing import Any

from cases import CASES, Setting, bare_client, call, client
from harness import Time, turns
from opentelemetry import trace
from opentelemetry.instrumentation.utils import suppress_instrumentation
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBased

from mlspan import integrations, tracing


def content_off(setting: Setting) -> dict[str, Time]:
    """Content on and off, six blocks of calls each by turns: what each adds to the bare call."""
    bare = bare_client()
    setting["turn_on"]()
    traced = client()
    found: dict[str, list[Time]] = {"on": [], "off": []}
    for block in range(12):
        kept = block % 2 == 0
        tracing.configure(tracking_uri="none", capture_content=kept)
        times = turns({"bare": lambda: call(bare), "traced": lambda: call(traced)}, setting["rounds"] // 4)
        found["on" if kept else "off"].append(times["traced"].over(times["bare"]))
    return {name: Time(*map(median, zip(*added, strict=True))) for name, added in found.items()}


def not_recorded(setting: Setting) -> dict[str, Time]:
    """Calls that leave no span. The client's own work is stubbed too: it takes a thousand times as long."""
    import openai

    openai.OpenAI.request = lambda *_args, **_kwargs: None
    bare = bare_client()
    setting["turn_on"]()
    traced = client()
    variants = {"bare": lambda: call(bare), "traced": lambda: call(traced)}

    def added() -> Time:
        times = turns(variants, 10 * setting["rounds"])
        return times["traced"].over(times["bare"])

    dropping = TracerProvider(sampler=ParentBased(ALWAYS_OFF), shutdown_on_exit=False)
    found = {}
    with trace.use_span(dropping.get_tracer("web").start_span("request")):
        found["inside an unsampled trace"] = added()
    with suppress_instrumentation():
        found["suppressed"] = added()
    integrations.openai.autolog(log_traces=False)
    found["log_traces=False"] = added()
    integrations.openai.autolog(disable=True)
    found["disable=True"] = added()
    return found


def threads(setting: Setting) -> dict[str, Time]:
    """What 64 threads at once keep of a bare client's throughput, and what being at once costs them.

    Behind a wait of 0.1 s, as a network has one, the processor is free for a part of the time. Without one the lock of
    the interpreter is always taken: what 64 threads then take more than one after the other, beside what the bare
    client's do, is due to our locks.
    """
    bare = bare_client()
    setting["turn_on"]()
    clients = {"bare": bare, "traced": client()}
    waiting = turns({name: partial(_crowd, each, 8, 64, 0.1) for name, each in clients.items()}, 6)
    both = itertools.product((1, 64), clients.items())
    took = turns({f"{name} {size}": partial(_crowd, each, 5, size) for size, (name, each) in both}, 30)

    def over(one: Time, other: Time) -> Time:
        return Time(one.median / other.median, one.low / other.low)

    return {
        "throughput behind a wait, of the bare client's": over(waiting["bare"], waiting["traced"]),
        "time at once to one after the other, of the bare client's": over(
            over(took["traced 64"], took["traced 1"]), over(took["bare 64"], took["bare 1"])
        ),
    }


def _crowd(client: Any, calls: int, at_once: int, wait: float = 0) -> None:
    """64 threads, each with so many calls."""

    def work() -> None:
        for _ in range(calls):
            if wait:
                sleep(wait)
            call(client)

    for _ in range(0, 64, at_once):
        crowd = [threading.Thread(target=work) for _ in range(at_once)]
        for one in crowd:
            one.start()
        for one in crowd:
            one.join(600)


def memory(setting: Setting) -> dict[str, Time]:
    """Objects and resident megabytes that 10,000 traced calls leave, after 1,000 to warm up."""
    setting["turn_on"]()
    traced = client()
    for _ in range(1000):
        call(traced)
    gc.collect()
    objects, resident = len(gc.get_objects()), _resident()
    for _ in range(10_000):
        call(traced)
    gc.collect()
    return {"left": Time(len(gc.get_objects()) - objects, _resident() - resident)}


def _resident() -> float:
    """Megabytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**20


OWN: dict[str, Callable[[Setting], dict[str, Time]]] = {
    "content": content_off,
    "not recorded": not_recorded,
    "threads": threads,
    "memory": memory,
}
CASES |= OWN
