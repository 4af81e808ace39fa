"""Counting of steps (each one executed bytecode) and of functions. It needs nothing of ours: peers have it, too."""

from __future__ import annotations

import gc
import sys
from collections import Counter
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

OURS = "/mlspan/"
Steps = dict[str, float]  # of one call, by function


def _find_package() -> str:
    """Return the folder of mlspan with a slash behind it; "/mlspan/" where it is not installed."""
    found = find_spec("mlspan")
    return f"{Path(found.origin).parent}/" if found is not None and found.origin else OURS


class StepCounter:
    """A trace function, for this thread or for all that start later; it counts the steps of each function."""

    def __init__(self, *, ours: bool) -> None:
        self.steps: Counter[str] = Counter()
        self._ours = ours  # whether only our own functions count
        self._names: dict[Any, str] = {}
        self._package = _find_package()

    def __call__(self, frame: Any, event: str, _: object) -> Any:
        name = self._names.get(frame.f_code) or self._name(frame.f_code)
        if self._ours and not name.startswith(OURS):
            return None
        if event == "opcode":
            self.steps[name] += 1
        else:
            frame.f_trace_opcodes, frame.f_trace_lines = True, False
        return self

    def _name(self, code: Any) -> str:
        path = code.co_filename
        place = OURS + path.removeprefix(self._package) if path.startswith(self._package) else Path(path).name
        self._names[code] = name = f"{place} {code.co_qualname}"
        return name


def count_here(run: Callable[[], object], *, ours: bool = False, warm_up: int = 100, rounds: int = 20) -> Steps:
    """Return the steps of one call of *run* in this thread; *ours* counts mlspan's functions alone.

    Args:
        run: the call.
        ours: whether only functions of mlspan count.
        warm_up: calls before it is counted: caches fill, and the exporter's threads have started.
        rounds: calls that are counted.
    """
    counter = StepCounter(ours=ours)
    _watch_calls(run, sys.settrace, counter, warm_up, rounds)
    return {name: count / rounds for name, count in counter.steps.items()}


def count_functions(run: Callable[[], object], *, warm_up: int = 100, rounds: int = 20) -> Steps:
    """Return how many functions one call of *run* calls in this thread, those in C included, by caller and function.

    Between two calls of a client the processor's caches fill with its data, so it is rather the functions and the
    memory that they touch than the steps that take the time.
    """
    found: Counter[str] = Counter()

    def note(frame: Any, event: str, function: Any) -> None:
        code = frame.f_code
        if event == "call":
            found[f"{Path(code.co_filename).name} {code.co_qualname}"] += 1
        elif event == "c_call":
            name = getattr(function, "__qualname__", function)
            found[f"{Path(code.co_filename).name} {code.co_qualname}: {name}"] += 1

    _watch_calls(run, sys.setprofile, note, warm_up, rounds)
    return {name: count / rounds for name, count in found.items()}


def _watch_calls(
    run: Callable[[], object], set_watcher: Callable[[Any], None], watcher: Any, warm_up: int, rounds: int
) -> None:
    """Call *run* so often, after some calls to warm up, while *watcher* is told what the interpreter does."""
    for _ in range(warm_up):
        run()
    gc.disable()  # what a collection finalizes is no cost of this call
    set_watcher(watcher)
    try:
        for _ in range(rounds):
            run()
    finally:
        set_watcher(None)
        gc.enable()


def subtract_steps(more: Steps, less: Steps) -> Steps:
    """Return the steps that *more* has beyond *less*, by function; a function of equal counts is left out."""
    found = {name: more.get(name, 0) - less.get(name, 0) for name in {**more, **less}}
    return {name: steps for name, steps in found.items() if steps}
