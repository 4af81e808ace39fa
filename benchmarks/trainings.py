"""What a training in a loop costs with mlspan, beside MLflow's autologging alone.

    python benchmarks/trainings.py [--fits 1000] [--anew 6]

Needs MLflow and scikit-learn. Each of the rows has a process of its own, with a store in SQLite and no model logged, as
a loop of so many trainings would have it. They take turns in blocks of 25 fits. What counts is the processor's time of
a block, all threads included; the ratio is the median of those of the blocks that ran one after the other. Memory is
what the process holds after so many fits more than after the first hundred.

Two processes of the same kind differ by up to a tenth. So all of them are started anew, six times by default, and a
column has the ratio of each time.

``--instructions`` counts those of the processor instead, by valgrind, which takes twelve minutes: what 60 fits more add
to a process. There a fit takes fifty times as long, and so do the moments in which spans gather: else each trace would
be stored by itself.
"""

from __future__ import annotations

import argparse
import os
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from itertools import chain
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
from servers.process import BoundedPopen

BLOCK, WARM_UP = 25, 100  # fits
SLOWDOWN = "MLSPAN_BENCHMARK_SLOWDOWN"  # how many times as long all takes
KINDS = ("MLflow alone", "with mlspan", "with mlspan, spans not stored")


def make_env(kind: str, folder: str) -> dict[str, str]:
    """Return the environment of a process of this *kind*, whose state is in *folder*."""
    stored = {"MLSPAN_TRACKING_URI": "none"} if kind == KINDS[2] else {}
    return {**os.environ, "XDG_STATE_HOME": folder, "PYTHONHASHSEED": "0", **stored}


class Process:
    """A process that fits when it is told to."""

    def __init__(self, kind: str, folder: str, closing: ExitStack) -> None:
        command = [sys.executable, __file__, "--serve", kind]
        env = make_env(kind, folder)
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        self._process = closing.enter_context(BoundedPopen(command, cwd=folder, env=env, text=True, **pipes))

    def fit(self, fits: int) -> tuple[float, float]:
        """Return milliseconds of the processor for a fit, and megabytes that the process holds."""
        self._process.stdin.write(f"{fits}\n")
        self._process.stdin.flush()
        milliseconds, megabytes = map(float, self._process.stdout.readline().split())
        return milliseconds, megabytes


def serve(kind: str) -> None:
    """Fit as often as each line says; print what it took."""
    import logging
    import warnings

    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    import mlflow
    import numpy as np
    from sklearn.linear_model import Ridge

    folder = Path.cwd()
    mlflow.set_tracking_uri(f"sqlite:///{folder}/store.db")
    if kind != KINDS[0]:
        from mlspan import integrations

        integrations.sklearn.autolog(log_models=False)
    else:
        mlflow.sklearn.autolog(log_models=False)
    rows = np.random.default_rng(0).random((50, 4))
    targets = rows.sum(axis=1)
    if kind != KINDS[0] and SLOWDOWN in os.environ:
        from mlspan.tracing.export import span_queue

        slowdown = float(os.environ[SLOWDOWN])
        span_queue._GATHER_TURNS = tuple(seconds * slowdown for seconds in span_queue._GATHER_TURNS)
    for line in sys.stdin:
        started = time.process_time()
        for _ in range(int(line)):
            Ridge().fit(rows, targets)
        taken = time.process_time() - started
        print(taken * 1000 / int(line), read_memory(), flush=True)


def read_memory() -> float:
    """Return the megabytes that this process holds now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def compare(fits: int, anew: int) -> None:
    """Print a row for each kind, of so many *fits*, in processes that are started *anew* so many times."""
    times = [take_turns(fits // anew) for _ in range(anew)]
    print("| | ms of the processor for a fit | of MLflow's (half of the blocks) | in each set of processes | MB more |")
    print("| --- | --- | --- | --- | --- |")
    for kind in KINDS:
        each = [taken for time_ in times for taken in time_[kind].taken]
        ratios = [list_ratios(time_, kind) for time_ in times]
        every = sorted(chain(*ratios))
        middle = f"{statistics.median(every):.3f} ({every[len(every) // 4]:.2f} to {every[-len(every) // 4]:.2f})"
        medians = ", ".join(f"{statistics.median(one):.2f}" for one in ratios)
        more = statistics.median(time_[kind].megabytes for time_ in times)
        print(f"| {kind} | {statistics.median(each):.1f} | {middle} | {medians} | {more:.1f} |")


class Taken(NamedTuple):
    """What the fits of a process have taken: milliseconds of each block, and megabytes more at their end."""

    taken: list[float]
    megabytes: float


def list_ratios(times: dict[str, Taken], kind: str) -> list[float]:
    return [mine / their for mine, their in zip(times[kind].taken, times[KINDS[0]].taken, strict=True)]


def take_turns(fits: int) -> dict[str, Taken]:
    """Let a process of each kind fit so often, in turns of blocks."""
    with ExitStack() as closing:
        processes = {}
        for kind in KINDS:
            folder = closing.enter_context(tempfile.TemporaryDirectory())
            processes[kind] = Process(kind, folder, closing)
        first = {kind: process.fit(WARM_UP)[1] for kind, process in processes.items()}
        taken: dict[str, list[float]] = {kind: [] for kind in KINDS}
        last = dict(first)
        for number in range(fits // BLOCK):
            for kind in KINDS[number % 3 :] + KINDS[: number % 3]:
                milliseconds, last[kind] = processes[kind].fit(BLOCK)
                taken[kind].append(milliseconds)
    return {kind: Taken(taken[kind], last[kind] - first[kind]) for kind in KINDS}


def compare_instructions() -> None:
    """Print the instructions of a fit of each kind, in millions, and their ratio."""
    alone = 0.0
    print("| | millions of instructions for a fit | of MLflow's |\n| --- | --- | --- |")
    for kind in KINDS:
        few, many = (count_instructions(kind, fits) for fits in (5, 65))
        each = (many - few) / 60
        alone = alone or each
        print(f"| {kind} | {each / 1e6:.1f} | {each / alone:.3f} |", flush=True)


def count_instructions(kind: str, fits: int) -> int:
    """Return what a process of a *kind* with so many *fits* executes outside of the kernel, in all threads."""
    with tempfile.TemporaryDirectory() as folder:
        command = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", sys.executable, __file__]
        env = make_env(kind, folder) | {SLOWDOWN: "50"}
        done = subprocess.run(
            [*command, "--serve", kind],
            cwd=folder,
            env=env,
            input=f"{fits}\n",
            text=True,
            capture_output=True,
            timeout=1800,
            check=True,
        )
    return int(re.findall(r"Collected : (\d+)", done.stderr)[-1])


if __name__ == "__main__":
    said = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    said.add_argument("--fits", type=int, default=1000)
    said.add_argument("--anew", type=int, default=6, help="how often the processes are started")
    said.add_argument("--instructions", action="store_true", help="count instructions in the place of milliseconds")
    said.add_argument("--serve", choices=KINDS, help=argparse.SUPPRESS)
    options = said.parse_args()
    if options.serve:
        serve(options.serve)
    elif options.instructions:
        compare_instructions()
    else:
        compare(options.fits, options.anew)
