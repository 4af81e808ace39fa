"""``make bench``: every case of everybody, each in a process of its own, as the tables of docs/performance.md.

``run.py chat stream`` measures those cases alone, ``--rounds 100`` is quicker and less sure.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import subprocess
import sys
from pathlib import Path

from peers import PEERS, Peer
from startup import startup

HERE = Path(__file__).parent
CACHE = Path(os.environ.get("MLSPAN_BENCH", HERE.parent / ".bench"))
UV = HERE.parent / ".tools/bin/uv"
OWN = ("content", "not recorded", "threads", "memory", "startup")


class Failed(Exception):  # noqa: N818  # what it says stands in the table
    """Why somebody could not be measured."""


Figures = dict[str, tuple[float, float]]  # by name: the median and the lowest decile


def who(key: str) -> str:
    """Whose a peer's key is, without the framework that has an environment of its own."""
    return key.partition("-")[0]


@functools.cache
def python(key: str, peer: Peer) -> str:
    """The interpreter of a peer's environment, which is made, or made new, first."""
    if not peer.packages:
        return sys.executable
    place = CACHE / key
    if not (place / "bin/python").exists():
        _uv("venv", "--python", sys.executable, place)
    _uv("pip", "install", "--upgrade", "--python", place / "bin/python", *peer.beside, *peer.packages)
    return str(place / "bin/python")


def _uv(*arguments: str | Path) -> None:
    done = subprocess.run([UV, *arguments, "--quiet"], check=False, capture_output=True, text=True, timeout=900)
    if done.returncode:
        raise Failed(f"cannot be installed: {' '.join(done.stderr.split())[-200:]}")


def measure(interpreter: str, key: str, case: str, rounds: int) -> Figures:
    return run_worker([interpreter, str(HERE / "worker.py"), key, case, str(rounds)])


def run_worker(command: list[str], minutes: int = 2) -> Figures:
    """What a worker prints as its last line; Failed says what it raised."""
    try:
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60 * minutes)
    except subprocess.TimeoutExpired:
        raise Failed(f"no end after {minutes} minutes") from None
    if done.returncode:
        raise Failed((done.stderr.strip().splitlines() or [f"ended with {done.returncode}"])[-1])
    return json.loads(done.stdout.strip().splitlines()[-1])


def row(*cells: object) -> None:
    print("|", " | ".join(str(cell) for cell in cells), "|", flush=True)


def table(*heads: str) -> None:
    print()
    row(*heads)
    row(*["---"] * len(heads))


def us(pair: tuple[float, float]) -> str:
    return f"{pair[0]:.1f} ({pair[1]:.1f})"


def ratio(part: tuple[float, float], whole: tuple[float, float]) -> str:
    return f"{part[0] / whole[0]:.2f} ({part[1] / whole[1]:.2f})"


def of_the_floor(found: Figures) -> list[str]:
    return [us(found["bare"]), us(found["floor"]), us(found["added"]), ratio(found["added"], found["floor"])]


def each_chunk(found: Figures) -> list[str]:
    return [us(found["chunk"])]


def each_span(found: Figures) -> list[str]:
    counted = f"{found['spans'][0]:.0f}"
    return [us(found["bare"]), us(found["adds"]), counted, us(found["each"]), ratio(found["each"], found["least"])]


FLOOR = (("bare call", "span by hand adds", "adds", "of the floor"), of_the_floor)
SPANS = (("bare run", "a run adds", "spans", "for each", "of a bare span of the SDK"), each_span)
TABLES = {"chat": FLOOR, "async": FLOOR, "stream": (("adds for each chunk",), each_chunk)}  # the others are SPANS


def compare(case: str, peers: dict[str, Peer], rounds: int) -> None:
    """The table of a case: who was measured, or why not."""
    heads, cells = TABLES.get(case, SPANS)
    table(case, *heads)
    for key, peer in peers.items():
        if case in peer.cases:
            try:
                row(peer.name, *cells(measure(python(key, peer), key, case, rounds)))
            except Failed as why:
                row(peer.name, why, *[""] * (len(heads) - 1))


def own(case: str, rounds: int) -> None:
    if case == "startup":
        found = startup()
        row(
            "import and autolog add",
            f"{found['milliseconds']:.0f} ms (best {found['best']:.0f}), {found['megabytes']:.1f} MB",
        )
        row("autolog of all integrations adds", f"{found['all']:.0f} ms")
        return
    for name, pair in measure(sys.executable, "mlspan", case, rounds).items():
        if case == "threads":
            row(f"64 threads: {name}", f"{pair[0]:.3f} ({pair[1]:.3f})")
        elif case == "memory":
            row("left by 10,000 calls", f"{pair[0]:.0f} objects, {pair[1]:.2f} MB")
        else:
            row(f"{case}: {name}", f"{us(pair)} µs")


def main() -> None:
    said = argparse.ArgumentParser(description=__doc__)
    cases = list(dict.fromkeys(case for peer in PEERS.values() for case in peer.cases))
    said.add_argument("cases", nargs="*", help=", ".join([*cases, *OWN]))
    said.add_argument("--rounds", type=int, default=600)
    said.add_argument("--peers", help="who, with commas between: " + ", ".join(dict.fromkeys(map(who, PEERS))))
    options = said.parse_args()
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # or each process compiles all that it imports
    peers = {key: peer for key, peer in PEERS.items() if not options.peers or who(key) in options.peers.split(",")}
    wanted = options.cases or [*cases, *OWN]
    print("Microseconds: the median, and in brackets the lowest decile.")
    for case in wanted:
        if case not in OWN:
            compare(case, peers, options.rounds)
    if alone := [case for case in wanted if case in OWN]:
        table("mlspan alone", "")
        for case in alone:
            own(case, options.rounds)


if __name__ == "__main__":
    main()
