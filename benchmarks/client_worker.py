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
from functools import reduce
from pathlib import Path
from typing import Any

from client_calls import OPENERS, Call
from clients import list_peers
from harness import Counting, ForkedVariant, provider, turns_of_processor
from opentelemetry.sdk.trace import SpanProcessor
from opentelemetry.trace import SpanKind, Tracer
from step_counter import Steps, count_functions, count_here, subtract_steps

SIZES = {"few": 2, "many": 102}  # chunks of a stream: what each adds is the difference
CALLS_IN_A_TURN = 20
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
    """Take the processor's time of calls, each in a fork: bare ones and the floor in those made before we patch."""
    made, counting = provider()
    bare = open_calls(client)
    hand = make_floor(bare["chat"], made.get_tracer("by-hand"), file)
    for call in (*bare.values(), hand):
        call()  # what a first call imports is there in each fork
    gc.collect()
    gc.freeze()  # else a collection walks all that is there, and more of it here than in a fork
    # The bare call twice: what the two differ by is nobody's cost, but the memory that each fork happens to have.
    forks = {name: ForkedVariant(call) for name, call in {**bare, "hand": hand, "again": bare["chat"]}.items()}
    list_peers(client)[peer].turn_on(made)
    traced = open_calls(client)
    expect_spans(counting, traced["chat"])
    gc.collect()
    gc.freeze()
    ours = {name: ForkedVariant(call) for name, call in traced.items()}  # woken by a pipe, as the others are
    chat = {"bare": forks["chat"], "floor": forks["hand"], "added": ours["chat"], "again": forks["again"]}
    figures = turns_of_processor(chat, int(rounds), CALLS_IN_A_TURN)
    if "few" in traced:
        few, many = (
            turns_of_processor({"bare": forks[name], "added": ours[name]}, int(rounds), CALLS_IN_A_TURN // 4)["added"]
            for name in SIZES
        )
        figures["chunk"] = many.over(few, SIZES["many"] - SIZES["few"])
    print("\n" + json.dumps(figures), flush=True)


def expect_spans(counting: Counting, call: Call) -> None:
    """None would be no measurement."""
    call()
    before = counting.ended
    call()
    assert counting.ended > before, "not a single span"


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
