"""Instructions of the processor for a call: a figure that neither the load of the machine nor its clock changes.

    python benchmarks/instructions.py [CLIENT ...] [--peers mlspan,mlflow] [--against FOLDER] [--here] [--check]

Needs valgrind with its header files, a C compiler and Linux; without them it says what is missing, and ends. Callgrind
counts what the process executes outside of the kernel, between two marks around so many calls of a client whose network
answers at once: bare, then with the floor around it (see ``clients.py``), then traced. Each peer has its own process.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from client_worker import COUNTED, SIZES
from clients import CLIENTS, WORKER, find_python, list_peers, record
from run import Failed, row, table

MARKS = """
#include <valgrind/callgrind.h>
void start_counting(void) { CALLGRIND_START_INSTRUMENTATION; CALLGRIND_ZERO_STATS; }
void stop_counting(const char *name) { CALLGRIND_DUMP_STATS_AT(name); CALLGRIND_STOP_INSTRUMENTATION; }
"""
Counts = dict[str, float]  # instructions of one call: of the bare one, of the floor, of the traced one
MOST_OF_THE_FLOOR = 1.3  # that a chat of ours may take
# Instructions: 1.5 µs of the machine of docs/performance.md are 12 thousand. The same code differs by 2.5 thousand from
# one environment to another, as Python's allocator goes through its lists of pools in another order.
MOST_OF_A_CHUNK = 12_000 + 2_500
# Clients that are well below the floor's share, which no more may creep up to it unseen.
SHARES = dict.fromkeys(CLIENTS, 1.1) | {"openai": 0.9, "anthropic": 1.0, "bedrock": 1.0, "ollama": 1.0}


def find_missing(folder: Path) -> str | None:
    """Build the marks in *folder*; return what is missing here for counting, None where nothing is."""
    if not shutil.which("valgrind"):
        return "valgrind is not installed"
    compiler = shutil.which("cc") or shutil.which("gcc")
    if not compiler:
        return "there is no C compiler"
    source = folder / "marks.c"
    source.write_text(MARKS)
    built = [compiler, "-shared", "-fPIC", "-o", str(folder / "marks.so"), str(source)]
    done = subprocess.run(built, check=False, capture_output=True, text=True, timeout=60)
    return f"the marks do not compile: {done.stderr.strip()[-200:]}" if done.returncode else None


def count(name: str, key: str, recorded: Path, against: str | None = None, interpreter: str | None = None) -> Counts:
    """Count what each kind of call takes in a process of a client and a peer; Failed says why it cannot be counted."""
    interpreter = interpreter or find_python(name, key)
    with tempfile.TemporaryDirectory() as out:
        options = ["--tool=callgrind", "--instr-atstart=no", f"--callgrind-out-file={out}/counts"]
        worker = [interpreter, WORKER, "count", name, str(recorded), key, str(recorded.parent / "marks.so")]
        env = {**os.environ, "PYTHONHASHSEED": "0", **({"PYTHONPATH": against} if against else {})}
        command = ["valgrind", *options, *worker]
        try:
            done = subprocess.run(command, env=env, check=False, capture_output=True, text=True, timeout=1800)
        except subprocess.TimeoutExpired:
            raise Failed("no end after half an hour") from None
        if done.returncode:
            lines = [line for line in done.stderr.strip().splitlines() if not line.startswith("==")]
            raise Failed((lines or [f"ended with {done.returncode}"])[-1])
        return dict(found for file in Path(out).iterdir() if (found := read_counts(file.read_text())))


def read_counts(text: str) -> tuple[str, float] | None:
    """Return what was called and the instructions of one call; None of what was counted at the end of the process."""
    name = re.search(r"^desc: Trigger: Client Request: (\w+)$", text, re.MULTILINE)
    total = re.search(r"^totals: (\d+)$", text, re.MULTILINE)
    return (name[1], int(total[1]) / COUNTED[name[1].rpartition("_")[2]]) if name and total else None


def find_share(counts: Counts) -> float:
    """Return what a traced chat adds, as a part of what the floor adds."""
    return (counts["traced_chat"] - counts["bare_chat"]) / (counts["hand_chat"] - counts["bare_chat"])


def find_chunk(counts: Counts) -> float | None:
    """Return what a chunk costs: the difference between a long stream and a short one; None if there is no stream."""
    if "bare_many" not in counts:
        return None
    many, few = (counts[f"traced_{size}"] - counts[f"bare_{size}"] for size in ("many", "few"))
    return (many - few) / (SIZES["many"] - SIZES["few"])


def list_cells(counts: Counts) -> list[str]:
    """The cells of a row."""
    floor, added = (counts[f"{variant}_chat"] - counts["bare_chat"] for variant in ("hand", "traced"))
    cells = [f"{number / 1000:.0f}" for number in (counts["bare_chat"], floor, added)]
    chunk = find_chunk(counts)
    return [*cells, f"{find_share(counts):.2f}", "no stream" if chunk is None else f"{chunk / 1000:.1f}"]


def is_within_bounds(counts: Counts, most: float = MOST_OF_A_CHUNK, share: float = MOST_OF_THE_FLOOR) -> bool:
    """Return whether a chat and a chunk cost no more than what is held."""
    return find_share(counts) <= share and (find_chunk(counts) or 0) <= most


def show(name: str, key: str, folder: Path, against: str | None, interpreter: str | None) -> bool:
    """Show the row of a client and a peer, or why there is none; return whether it is within bounds."""
    peer = list_peers(name)[key]
    try:
        counts = count(name, key, record(name, folder, interpreter=interpreter), against, interpreter)
    except Failed as why:
        row(name, peer.name, why, *[""] * 4)
        return False
    row(name, peer.name, *list_cells(counts))
    return is_within_bounds(counts, MOST_OF_A_CHUNK, SHARES.get(name, MOST_OF_THE_FLOOR))


def main() -> None:
    said = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    said.add_argument("clients", nargs="*", default=[*CLIENTS], help=", ".join(CLIENTS))
    said.add_argument("--peers", default="mlspan", help="who, with commas between: mlspan,openinference,...")
    said.add_argument("--against", help="the folder of another version of mlspan's source, to count that one")
    said.add_argument("--here", action="store_true", help="use this environment, and not one for each client and peer")
    said.add_argument("--check", action="store_true", help="fail if a row is above its bound, or is missing")
    options = said.parse_args()
    interpreter, within = sys.executable if options.here else None, True
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # or each process compiles all that it imports
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if missing := find_missing(folder):
            print(f"Instructions are not counted: {missing}.")
            return
        print(f"Thousands of instructions, Python {sys.version_info[0]}.{sys.version_info[1]}.")
        table("client", "", "bare call", "span by hand adds", "adds", "of the floor", "adds for each chunk")
        for client in options.clients:
            for key in options.peers.split(","):
                within = show(client, key, folder, options.against, interpreter) and within
    if options.check and not within:
        sys.exit("A row is above its bound, or is missing.")


if __name__ == "__main__":
    main()
