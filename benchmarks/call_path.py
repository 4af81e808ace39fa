"""Where the time of a traced chat call goes: a profile by py-spy, which is installed into an environment of its own.

Samples are taken 1,000 times a second while calls are made in a loop. A sample belongs to the innermost function on its
stack that is not of the standard library: what a function of ours has orjson or ``json`` do is its own time.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from time import monotonic

from peers import PEERS, Peer
from run import HERE, python, row, table

SPY = Peer("py-spy", ("py-spy",), lambda _: None, (), ())
FRAME = re.compile(r"(?P<function>.+) \((?P<file>.+?)(:\d+)?\)")
OWNERS = {"mlspan": "mlspan", "opentelemetry": "the SDK", "openai": "the client"}


def loop(seconds: float) -> None:
    """The call of the case ``chat``, traced."""
    from cases import call, client
    from harness import provider

    PEERS["mlspan"].turn_on(provider()[0])
    traced, until = client(), monotonic() + seconds
    while monotonic() < until:
        call(traced)


def stacks(seconds: float) -> Counter[tuple[str, ...]]:
    """How often each stack was seen below ``call``, outermost first."""
    spy = Path(python("py-spy", SPY)).with_name("py-spy")
    with tempfile.TemporaryDirectory() as place:
        out = Path(place) / "stacks"
        record = [spy, "record", "--rate", "1000", "--format", "raw", "--full-filenames", "--output", out, "--"]
        command = [*record, sys.executable, __file__, "--loop", str(seconds)]
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=600)
        if done.returncode:
            sys.exit(done.stderr)  # where a container forbids looking at other processes
        found: Counter[tuple[str, ...]] = Counter()
        for line in out.read_text().splitlines():
            stack, _, count = line.rpartition(" ")
            frames = stack.split(";")
            inner = [at for at, frame in enumerate(frames) if frame.startswith("call (") and "cases.py" in frame]
            if inner:
                found[tuple(frames[inner[0] :])] += int(count)
    return found


def place(frame: str) -> tuple[str, str] | None:
    """The package that a function is of, and its file with its name; nothing for the standard library."""
    match = FRAME.fullmatch(frame)
    path = Path(match["file"]) if match else Path()
    if "site-packages" in path.parts:
        inside = path.parts[path.parts.index("site-packages") + 1 :]
    elif path.is_relative_to(HERE.parent):
        inside = path.relative_to(HERE.parent).parts
    else:
        return None
    return OWNERS.get(inside[0], inside[0].removesuffix(".py")), f"{'/'.join(inside)} {match['function']}"


def main(seconds: float) -> None:
    whole: Counter[str] = Counter()  # samples of each package's own functions
    # Of these, what we have caused: below a function of ours, and not back in the client.
    ours: Counter[str] = Counter()
    functions: Counter[str] = Counter()  # and by function
    for stack, count in stacks(seconds).items():
        known = [at for at in map(place, stack) if at]
        packages = [package for package, _ in known]
        whole[packages[-1]] += count
        if "mlspan" in packages and "the client" not in packages[packages.index("mlspan") :]:
            ours[packages[-1]] += count
            functions[known[-1][1]] += count

    def share(part: int, of: Counter[str]) -> str:
        return f"{100 * part / of.total():.1f} %"

    print(f"{whole.total()} samples, {share(ours.total(), whole)} of them in what we cause.")
    table("whose functions", "of the call", "of what we cause")
    for name, count in whole.most_common(8):
        row(name, share(count, whole), share(ours[name], ours))
    table("function", "of what we cause")
    for name, count in functions.most_common(25):
        row(f"`{name}`", share(count, ours))


if __name__ == "__main__":
    said = argparse.ArgumentParser(description=__doc__)
    said.add_argument("--seconds", type=float, default=20)
    said.add_argument("--loop", type=float, help=argparse.SUPPRESS)
    options = said.parse_args()
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    if options.loop:
        loop(options.loop)
    else:
        main(options.seconds)
