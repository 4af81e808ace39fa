"""One client in this process: tells what our spans say, times its calls, or makes them while valgrind counts.

client_worker.py record CLIENT FILE [PEER]
client_worker.py time CLIENT FILE PEER ROUNDS
client_worker.py count CLIENT FILE PEER MARKS
client_worker.py steps CLIENT FILE PEER
client_worker.py functions CLIENT FILE PEER
client_worker.py calls CLIENT FILE PEER
"""

from __future__ import annotations

import ctypes
import gc
import json
import logging
import os
import sys
import warnings
from collections.abc import Callable
from functools import partial, reduce
from pathlib import Path
from typing import Any

from client_calls import OPENERS, Call
from clients import list_peers
from harness import Counting, Switched, Time, provider, turns_of_processor
from opentelemetry.sdk.trace import SpanProcessor
from opentelemetry.trace import SpanKind, Tracer
from step_counter import Steps, count_functions, count_here, subtract_steps

SIZES = {"few": 2, "many": 102}  # chunks of a stream: what each adds is the difference
CALLS_IN_A_TURN, WARM_CALLS = 20, 100
MAKE_SPANS = {"anthropic": 1, "mcp": 2}  # themselves, where there is a TracerProvider
WARM_UP, STEPPED = 20, 5  # calls before bytecodes are counted, and calls whose bytecodes are
COUNTED = {"chat": 20, "few": 4, "many": 4}  # so many calls are counted


class Keeping(SpanProcessor):
    """What each span that ends says, for the floor."""

    def __init__(self) -> None:
        self.told: list[dict[str, Any]] = []

    def on_end(self, span: Any) -> None:
        self.told.append({"name": span.name, "kind": span.kind.value, "attributes": dict(span.attributes)})


def record(client: str, file: str, peer: str = "mlspan") -> None:
    """Write what each span of one chat says, the inner ones first."""
    made, keeping = provider()[0], Keeping()
    made.add_span_processor(keeping)
    list_peers(client)[peer].turn_on(made)
    chat = open_calls(client)["chat"]
    for _ in range(3):  # what a first call alone does is not what a call costs
        keeping.told.clear()
        chat()
    Path(file).write_text(json.dumps(keeping.told), encoding="utf-8")
    print("{}", flush=True)


def open_calls(client: str) -> dict[str, Call]:
    """A chat and, of a client that has them, streams of few chunks and of many; each by a client of its own."""
    found: dict[str, Call] = {}
    for name, size in SIZES.items():
        found["chat"], stream = OPENERS[client](size)
        if stream:
            found[name] = stream
    return found


def write_by_hand(call: Call, tracer: Tracer, told: dict[str, Any]) -> Call:
    """Return *call* inside a span that somebody has written around it, with its objects at hand."""
    name, kind = told["name"], SpanKind(told["kind"])
    content = {key: json.loads(value) for key, value in told["attributes"].items() if is_json(value)}
    plain = {key: value for key, value in told["attributes"].items() if key not in content}

    def run() -> None:
        with tracer.start_as_current_span(name, kind=kind) as span:
            call()
            for key, value in plain.items():
                span.set_attribute(key, value)
            for key, objects in content.items():
                span.set_attribute(key, json.dumps(objects))

    return run


def is_json(value: object) -> bool:
    return isinstance(value, str) and value[:1] in {"[", "{"}


def make_floor(call: Call, tracer: Tracer, file: str) -> Call:
    spans = json.loads(Path(file).read_text(encoding="utf-8"))
    return reduce(lambda inner, told: write_by_hand(inner, tracer, told), spans, call)


def time_calls(client: str, file: str, peer: str, rounds: str) -> None:
    """Take the processor's time of calls in this process: bare ones, the floor's and the peer's take turns.

    The application has a TracerProvider in all of them, as it needs one for its own span: Anthropic's client then makes
    one, too. Tracing is turned off for the bare call and the floor, and on for the others.
    """
    tracer, (made, counting) = list_peers(client)[peer], provider()
    tracer.turn_on(made)
    calls = open_calls(client)
    expect_spans(counting, calls["chat"])
    if tracer.switch is None:
        raise SystemExit("nothing turns it off again")
    on, off = partial(tracer.switch, True), partial(tracer.switch, False)
    hand = make_floor(calls["chat"], made.get_tracer("by-hand"), file)
    off()
    if count_spans(counting, calls["chat"]) > MAKE_SPANS.get(client, 0):
        raise SystemExit("it makes spans although it is turned off")
    on()
    if not count_spans(counting, calls["chat"]):
        raise SystemExit("it makes no spans after it was turned off and on, so it cannot take turns")
    chat = {
        "bare": Switched(off, calls["chat"]),
        "floor": Switched(off, hand),
        "added": Switched(on, calls["chat"]),
        "again": Switched(off, calls["chat"]),  # what it differs by is nobody's cost
    }
    figures = turns_of_processor(chat, int(rounds), CALLS_IN_A_TURN, WARM_CALLS)
    if "few" in calls:
        figures |= time_chunks(calls, on, off, int(rounds))
    if "few" in calls and peer == "mlspan":
        from decoded_chunks import list_chunks, time_decoded  # which needs mlspan; a peer has none

        off()
        decoded = list_chunks(calls["many"])
        on()
        figures["decoded"] = time_decoded(calls["many"], decoded, int(rounds))
    print("\n" + json.dumps(figures), flush=True)


def time_chunks(calls: dict[str, Call], on: Call, off: Call, rounds: int) -> dict[str, Time]:
    """Return what each chunk adds: the difference between a stream of many and one of few."""
    few, many = (
        turns_of_processor(
            {"bare": Switched(off, calls[name]), "added": Switched(on, calls[name])},
            rounds,
            CALLS_IN_A_TURN // 2,
            WARM_CALLS // 10,
        )["added"]
        for name in SIZES
    )
    return {"chunk": many.over(few, SIZES["many"] - SIZES["few"])}


def count_spans(counting: Counting, call: Call) -> int:
    before = counting.ended
    call()
    return counting.ended - before


def expect_spans(counting: Counting, call: Call) -> None:
    """None would be no measurement."""
    call()
    assert count_spans(counting, call), "not a single span"


def count_calls(client: str, file: str, peer: str, marks: str) -> None:
    """Make the bare calls, the floor's and the peer's in turn, between marks that valgrind sees: it counts no more."""
    made, counting = provider()
    valgrind = ctypes.CDLL(marks)

    def count(variant: str, calls: dict[str, Call]) -> None:
        for name, call in calls.items():
            for _ in range(30 if name == "chat" else 2):  # caches fill
                call()
            gc.collect()
            gc.disable()  # else a collection falls into one variant and not into another
            valgrind.start_counting()
            for _ in range(COUNTED[name]):
                call()
            valgrind.stop_counting(f"{variant}_{name}".encode())
            gc.enable()

    bare = open_calls(client)
    count("bare", bare)
    count("hand", {"chat": make_floor(bare["chat"], made.get_tracer("by-hand"), file)})
    list_peers(client)[peer].turn_on(made)
    traced = open_calls(client)
    expect_spans(counting, traced["chat"])
    count("traced", traced)
    os._exit(0)


def count_steps(client: str, file: str, peer: str) -> None:
    """Count the bytecodes of this thread for the bare calls, the floor's and the peer's; tell the totals."""
    found = list_steps(client, file, peer)
    print("\n" + json.dumps({name: (sum(steps.values()),) * 2 for name, steps in found.items()}), flush=True)


def count_steps_by_function(client: str, file: str, peer: str) -> None:
    """Tell the bytecodes by function."""
    print("\n" + json.dumps(list_steps(client, file, peer)), flush=True)


def count_calls_by_function(client: str, file: str, peer: str) -> None:
    """Tell the functions that are called, those in C included, by caller and function."""
    print("\n" + json.dumps(list_steps(client, file, peer, count_functions)), flush=True)


def list_steps(client: str, file: str, peer: str, counter: Callable[..., Steps] = count_here) -> dict[str, Steps]:
    """Count the bytecodes of the bare call, and those that the floor, the peer, and the peer for a chunk add to it.

    Another *counter* counts something else.
    """

    def _count(call: Call) -> Steps:
        return counter(call, warm_up=WARM_UP, rounds=STEPPED)

    made, counting = provider()
    bare = open_calls(client)
    found = {name: _count(call) for name, call in bare.items()}
    floor = subtract_steps(_count(make_floor(bare["chat"], made.get_tracer("by-hand"), file)), found["chat"])
    list_peers(client)[peer].turn_on(made)
    traced = open_calls(client)
    expect_spans(counting, traced["chat"])
    added = {name: subtract_steps(_count(call), found[name]) for name, call in traced.items()}
    figures = {"bare": found["chat"], "floor": floor, "added": added["chat"]}
    if "many" in added:
        apart = SIZES["many"] - SIZES["few"]
        between = subtract_steps(added["many"], added["few"])
        figures["chunk"] = {name: steps / apart for name, steps in between.items()}
    return figures


MODES: dict[str, Callable[..., None]] = {
    "record": record,
    "time": time_calls,
    "count": count_calls,
    "steps": count_steps,
    "functions": count_steps_by_function,
    "calls": count_calls_by_function,
}

if __name__ == "__main__":
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    MODES[sys.argv[1]](*sys.argv[2:])
