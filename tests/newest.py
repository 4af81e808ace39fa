"""``make newest``: run the tests of each integration with the newest release of its library, and print what broke.

The bounds that an extra or a nox session sets on that library are lifted; all else stays as the session has it. Each
session gets a fresh environment. Give names of sessions to run only those: ``make newest K="cohere ollama"``. What a
session has printed is in ``.nox/newest/<session>/log.txt``.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

import tomllib

ROOT: Final = Path(__file__).parent.parent
WORK: Final = ROOT / ".nox" / "newest"
TIMEOUT: Final = 3600  # seconds that one session may take
# Sessions that are named unlike their integration, with the extras whose libraries they test.
EXTRAS: Final = {
    "bedrock_newest": ("bedrock",),
    "clients": ("cerebras", "fireworks", "groq", "perplexity", "together"),
    "openai_newest": ("openai",),
    "vectors(newest)": (
        *("chromadb", "elasticsearch", "lancedb", "opensearch", "pgvector", "pinecone", "pymilvus", "qdrant-client"),
        *("redis", "weaviate"),
    ),
}
# Libraries that train have no extra.
TRAININGS: Final = {
    "classic": ("scikit-learn", "xgboost-cpu", "lightgbm", "statsmodels"),
    "spark": ("pyspark",),
    "tensorflow": ("tensorflow-cpu", "keras"),
    "lightning": ("lightning", "pytorch-lightning"),
    "fastai": ("fastai",),
    "paddle": ("paddlepaddle",),
}
LEFT_OUT: Final = {"bedrock(newest)", "mlflow(newest)", "servers(newest)", "workers(newest)"}  # not of one library


class Session(NamedTuple):
    """A nox session and the distributions of the libraries that it tests, whose newest releases it gets."""

    name: str
    distributions: tuple[str, ...]


class Outcome(NamedTuple):
    """What a session has shown: the versions installed, and in a few words how it went."""

    session: Session
    versions: dict[str, str]
    result: str


def read_extras() -> dict[str, tuple[str, ...]]:
    """Return the requirements of each extra."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return {name: tuple(needs) for name, needs in project["optional-dependencies"].items()}


def read_name(requirement: str) -> str:
    return re.split(r"[\[<>=!~; ]", requirement, maxsplit=1)[0]


def list_sessions(nox: str, wanted: list[str]) -> Iterator[Session]:
    """Yield the sessions that test the newest version of a library, of those *wanted*; none wanted means all."""
    listed = subprocess.run(
        [nox, "--list", "--json"], cwd=ROOT, capture_output=True, text=True, check=True, timeout=120
    )
    extras = read_extras()
    for entry in json.loads(listed.stdout):
        name: str = entry["session"]
        stem, _, which = name.partition("(")
        if name in LEFT_OUT or (wanted and stem not in wanted and name not in wanted):
            continue
        if name in TRAININGS:
            yield Session(name, TRAININGS[name])
            continue
        own = which.rstrip(")") if stem == "frameworks" else stem
        names = EXTRAS.get(name) or (own.replace("_", "-"),)
        if name in EXTRAS or which == "newest)" or stem == "frameworks" or (not which and names[0] in extras):
            yield Session(name, tuple(read_name(need) for one in names for need in extras.get(one, (one,))))


def run_session(nox: str, session: Session) -> Outcome:
    """Run *session* in a fresh environment, with no bound on the version of its own libraries."""
    folder = WORK / re.sub(r"\W+", "-", session.name).strip("-")
    folder.mkdir(parents=True, exist_ok=True)
    overrides = folder / "overrides.txt"
    overrides.write_text("\n".join(session.distributions) + "\n", encoding="utf-8")
    env = {**os.environ, "UV_OVERRIDE": str(overrides), "MLSPAN_NEWEST": "1", "PYTEST_ADDOPTS": "-rf --tb=short"}
    command = [nox, "--no-reuse-existing-virtualenvs", "--envdir", str(folder), "-s", session.name]
    log = folder / "log.txt"
    with log.open("w", encoding="utf-8") as file:
        try:
            subprocess.run(command, cwd=ROOT, env=env, stdout=file, stderr=file, timeout=TIMEOUT, check=False)
        except subprocess.TimeoutExpired:
            file.write(f"\nstopped after {TIMEOUT} s\n")
    return Outcome(session, read_versions(folder, session), read_result(log.read_text(encoding="utf-8")))


def read_versions(folder: Path, session: Session) -> dict[str, str]:
    """Return the version of each of the session's distributions that is installed in its environment."""
    code = """
import importlib.metadata as metadata, json, sys
found = {}
for name in sys.argv[1:]:
    try:
        found[name] = metadata.version(name)
    except metadata.PackageNotFoundError:
        pass
print(json.dumps(found))"""
    for python in folder.glob("*/bin/python"):
        done = subprocess.run(
            [python, "-c", code, *session.distributions], capture_output=True, text=True, check=True, timeout=60
        )
        return dict(json.loads(done.stdout))
    return {}


def read_result(log: str) -> str:
    """Return how a session went, in a few words, from what nox and pytest have printed."""
    lines = re.findall(r"^(FAILED|ERROR) (\S+(?: \S+)*?)(?: - .*)?$", log, re.MULTILINE)
    failed = sorted({place.rpartition("::")[2] + " (error)" * (word == "ERROR") for word, place in lines})
    if failed:
        return f"{len(lines)} failed: {', '.join(failed[:3])}{', ...' if len(failed) > 3 else ''}"
    passed = sum(map(int, re.findall(r"\b(\d+) passed", log)))
    if "was successful" in log:
        return f"{passed} passed"
    last = [line for line in log.splitlines() if line.strip() and not line.startswith("nox >")]
    return f"not run: {last[-1].strip() if last else 'nothing was printed'}"


def print_table(outcomes: Iterator[Outcome]) -> bool:
    """Print a row for each session as it ends; return whether all of them passed."""
    print("| session | versions | result |\n| --- | --- | --- |")
    fine = True
    for outcome in outcomes:
        versions = ", ".join(f"{name} {version}" for name, version in outcome.versions.items())
        print(f"| {outcome.session.name} | {versions} | {outcome.result} |", flush=True)
        fine = fine and outcome.result.endswith(" passed")
    return fine


def main() -> int:
    """Run the sessions that are asked for; the exit code is 1 if one of them failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sessions", nargs="*", help="names of nox sessions; all by default")
    wanted = parser.parse_args().sessions
    nox = str(Path(sys.executable).with_name("nox"))
    sessions = list(list_sessions(nox, wanted))
    return 0 if print_table(run_session(nox, session) for session in sessions) else 1


if __name__ == "__main__":
    sys.exit(main())
