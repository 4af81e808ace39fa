"""``make bench``: every case of everybody, each in a process of its own, as the tables of docs/performance.md.

``run.py chat stream`` measures those cases alone, ``--rounds 100`` is quicker and less sure.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

from peers import CLIENTS, PEERS, Peer
from startup import startup

HERE = Path(__file__).parent
CACHE = Path(os.environ.get("MLSPAN_BENCH", HERE.parent / ".bench"))
UV = HERE.parent / ".tools/bin/uv"
OWN = ("content", "not recorded", "threads", "memory", "startup")
Figures = dict[str, tuple[float, float]]  # by name: the median and the lowest decile


def python(key: str, peer: Peer) -> str:
    """The interpreter of a peer's environment, which is made, or made new, first."""
    if not peer.packages:
        return sys.executable
    place = CACHE / key
    if not (place / "bin/python").exists():
        subprocess.run([UV, "venv", "--quiet", "--python", sys.executable, place], check=True)
    install = [UV, "pip", "install", "--quiet", "--upgrade", "--python", place / "bin/python"]
    subprocess.run([*install, *CLIENTS, *peer.packages], check=True)
    return str(place / "bin/python")


def measure(interpreter: str, key: str, case: str, rounds: int) -> Figures | None:
    command = [interpreter, str(HERE / "worker.py"), key, case, str(rounds)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=300)
    if done.returncode:
        print(f"{key} {case}: {done.stderr.strip().splitlines()[-1]}", file=sys.stderr)
        return None
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


def of_the_floor(case: str, found: dict[str, Figures]) -> None:
    table(f"{case}", "bare call", "span by hand adds", "adds", "of the floor")
    for key, figures in found.items():
        row(
            PEERS[key].name,
            us(figures["bare"]),
            us(figures["floor"]),
            us(figures["added"]),
            ratio(figures["added"], figures["floor"]),
        )


def each_chunk(case: str, found: dict[str, Figures]) -> None:
    table(case, "adds for each chunk")
    for key, figures in found.items():
        row(PEERS[key].name, us(figures["chunk"]))


def each_span(case: str, found: dict[str, Figures]) -> None:
    table(case, "spans", "adds for each", "of a bare span of the SDK")
    for key, figures in found.items():
        row(
            PEERS[key].name, f"{figures['spans'][0]:.0f}", us(figures["span"]), ratio(figures["span"], figures["least"])
        )


SHOW = {"chat": of_the_floor, "async": of_the_floor, "stream": each_chunk}  # the others by each_span


def own(case: str, rounds: int) -> None:
    if case == "startup":
        found = startup()
        row(
            "import and autolog add",
            f"{found['milliseconds']:.0f} ms (best {found['best']:.0f}), {found['megabytes']:.1f} MB",
        )
        return
    figures = measure(sys.executable, "mlspan", case, rounds) or {}
    for name, pair in figures.items():
        if case == "threads":
            row("64 threads, of the bare client's throughput", f"{pair[0] / pair[1]:.3f}")
        elif case == "memory":
            row("left by 10,000 calls", f"{pair[0]:.0f} objects, {pair[1]:.2f} MB")
        else:
            row(f"{case}: {name}", f"{us(pair)} us")


def main() -> None:
    said = argparse.ArgumentParser(description=__doc__)
    said.add_argument("cases", nargs="*", help=", ".join([*PEERS["mlspan"].cases, *OWN]))
    said.add_argument("--rounds", type=int, default=400)
    said.add_argument("--peers", default=",".join(PEERS), help="who, with commas between")
    options = said.parse_args()
    peers = {key: PEERS[key] for key in options.peers.split(",")}
    pythons = {key: python(key, peer) for key, peer in peers.items()}
    wanted = options.cases or [*PEERS["mlspan"].cases, *OWN]
    print("Microseconds: the median, and in brackets the lowest decile.")
    for case in wanted:
        if case in OWN:
            continue
        found = {
            key: figures
            for key, peer in peers.items()
            if case in peer.cases and (figures := measure(pythons[key], key, case, options.rounds)) is not None
        }
        SHOW.get(case, each_span)(case, found)
    if "mlspan" in peers and any(case in OWN for case in wanted):
        table("mlspan alone", "")
        for case in wanted:
            if case in OWN:
                own(case, options.rounds)


if __name__ == "__main__":
    main()
