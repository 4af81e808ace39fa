"""What only we are asked: calls that are not recorded, content off, many threads, memory."""

from __future__ import annotations

import gc
import resource
import threading
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any

from cases import CASES, Setting, bare_client, call, client
from harness import Time, turns
from opentelemetry import trace
from opentelemetry.instrumentation.utils import suppress_instrumentation
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBased

from mlspan import integrations, tracing


def content_off(setting: Setting) -> dict[str, Time]:
    """Content on and off, taking turns: what each adds to the bare call."""
    bare = bare_client()
    setting["turn_on"]()
    watched = client()
    on = turns({"bare": lambda: call(bare), "watched": lambda: call(watched)}, setting["rounds"])
    tracing.configure(tracking_uri="none", capture_content=False)
    off = turns({"bare": lambda: call(bare), "watched": lambda: call(watched)}, setting["rounds"])
    return {"on": on["watched"].over(on["bare"]), "off": off["watched"].over(off["bare"])}


def not_recorded(setting: Setting) -> dict[str, Time]:
    """Calls that leave no span. The client's own work is stubbed too: it takes a thousand times as long."""
    import openai

    openai.OpenAI.request = lambda *_args, **_kwargs: None
    bare = bare_client()
    setting["turn_on"]()
    watched = client()
    variants = {"bare": lambda: call(bare), "watched": lambda: call(watched)}

    def added() -> Time:
        times = turns(variants, 10 * setting["rounds"])
        return times["watched"].over(times["bare"])

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
    """Calls per second of 64 threads, each behind a wait of 0.4 s as a network would have: ours beside the bare."""
    bare = bare_client()
    setting["turn_on"]()
    watched = client()

    def throughput(client: Any) -> float:
        def work() -> None:
            for _ in range(8):
                pause.wait(0.4)  # nobody sets it
                call(client)

        pause = threading.Event()
        crowd = [threading.Thread(target=work) for _ in range(64)]
        started = perf_counter()
        for one in crowd:
            one.start()
        for one in crowd:
            one.join()
        return 64 * 8 / (perf_counter() - started)

    rates: dict[str, list[float]] = {"bare": [], "watched": []}
    for _ in range(5):
        for name, of in (("bare", bare), ("watched", watched)):
            rates[name].append(throughput(of))
    best = {name: max(rate) for name, rate in rates.items()}
    return {"calls a second": Time(best["watched"], best["bare"])}


def memory(setting: Setting) -> dict[str, Time]:
    """Objects and resident megabytes that 10,000 traced calls leave, after 1,000 to warm up."""
    setting["turn_on"]()
    watched = client()
    for _ in range(1000):
        call(watched)
    gc.collect()
    objects, resident = len(gc.get_objects()), _resident()
    for _ in range(10_000):
        call(watched)
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
