"""The table of the clients: what a chat and a chunk cost us and what else traces that client, each at its newest.

    python benchmarks/clients.py [CLIENT ...] [--rounds 100] [--peers mlspan,mlflow] [--steps]

Microseconds are the processor's time. The bare call, the floor and the traced one take turns in one process, in which
tracing is turned on and off: processes of the same code differ by more than what is to be measured. A busy machine
changes even the ratios. The last column is what the bare call adds to itself, and a difference that is not well above
it says nothing. ``--steps`` counts bytecodes in the place of microseconds: seconds a client, whatever else the machine
does.

A chunk is measured twice: as what a stream of a hundred more chunks takes more, so that the client decodes between two
of ours, and with chunks that are at hand, as ``run.py`` does.

The floor is a span written by hand around the same call, with the name, the kind and the attributes that ours has
recorded; ``json.dumps`` writes its content from objects that are at hand. Each row is a process of its own, and each
peer has an environment of its own for each client, as in ``run.py``.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from peers import (
    OURSELVES,
    Peer,
    instrumentors,
    switch_flavor,
    switch_hook,
    switch_instrumentor,
    trace_with_hook,
    trace_with_mlflow,
    trace_with_mlspan,
)
from run import HERE, Failed, Figures, python, ratio, row, run_worker, table, us

WORKER = str(HERE / "client_worker.py")
NONE = "has nothing for this client"
ALL_OF_US = "mlspan-all"  # with the integrations of the clients below as well, such as OpenAI's below LiteLLM


@dataclass(frozen=True)
class Client:
    """How a client is installed, and what each peer has for it: None is nothing.

    Attributes:
        packages: of the client, at the versions that we support.
        openinference: the end of the module's name, and the class, of its instrumentor.
        openllmetry: likewise.
        mlflow: the flavor with an ``autolog``.
    """

    packages: tuple[str, ...]
    openinference: str | None = None
    openllmetry: str | None = None
    mlflow: str | None = None


CLIENTS = {
    "openai": Client(("openai>=3,<4",), "openai:OpenAIInstrumentor", "openai:OpenAIInstrumentor", "openai"),
    "anthropic": Client(
        ("anthropic>=2,<3",), "anthropic:AnthropicInstrumentor", "anthropic:AnthropicInstrumentor", "anthropic"
    ),
    "google_genai": Client(
        ("google-genai>=3,<4",),
        "google_genai:GoogleGenAIInstrumentor",
        "google_generativeai:GoogleGenerativeAiInstrumentor",
        "gemini",
    ),
    "bedrock": Client(("boto3>=1.43,<2",), "bedrock:BedrockInstrumentor", "bedrock:BedrockInstrumentor", "bedrock"),
    "litellm": Client(("litellm>=1.110,<2",), "litellm:LiteLLMInstrumentor", None, "litellm"),
    "mistralai": Client(
        ("mistralai>=3.7,<4",), "mistralai:MistralAIInstrumentor", "mistralai:MistralAiInstrumentor", "mistral"
    ),
    "groq": Client(("groq>=1.7,<2",), "groq:GroqInstrumentor", "groq:GroqInstrumentor", "groq"),
    "cohere": Client(("cohere>=7.3,<8",), None, "cohere:CohereInstrumentor", None),
    "ollama": Client(("ollama>=0.6.3,<1",), None, "ollama:OllamaInstrumentor", None),
    "mcp": Client(("mcp>=2.3,<3",), "mcp:MCPInstrumentor", "mcp:McpInstrumentor", None),
    "qdrant_client": Client(("qdrant-client>=1.20,<2",), None, "qdrant:QdrantInstrumentor", None),
}


def list_peers(name: str) -> dict[str, Peer]:
    """Who is measured with a client, by key; a peer without packages has nothing for it."""
    client = CLIENTS[name]
    beside = ("opentelemetry-sdk", *client.packages)
    found = {
        "mlspan": Peer("mlspan", OURSELVES, trace_with_hook(name), beside=beside, switch=switch_hook(name)),
        ALL_OF_US: Peer(
            "mlspan, all integrations", OURSELVES, trace_with_mlspan, beside=beside, switch=switch_hook("")
        ),
    }
    prefixes = {"OpenInference": "openinference", "OpenLLMetry": "opentelemetry"}
    for shown, path in {"OpenInference": client.openinference, "OpenLLMetry": client.openllmetry}.items():
        package = f"{prefixes[shown]}-instrumentation-{path.partition(':')[0].replace('_', '-')}" if path else ""
        whole = f"{prefixes[shown]}.instrumentation.{path}"
        found[shown.lower()] = Peer(
            shown, (package,) if path else (), instrumentors(whole), beside=beside, switch=switch_instrumentor(whole)
        )
    flavors = [client.mlflow] if client.mlflow else []
    found["mlflow"] = Peer(
        "MLflow autolog",
        ("mlflow",) if flavors else (),
        trace_with_mlflow(*flavors),
        beside=beside,
        switch=switch_flavor(client.mlflow or ""),
    )
    return found


def find_python(name: str, key: str) -> str:
    """The interpreter of the environment of a client and a peer; it is made first. Failed says why there is none."""
    peer = list_peers(name)[key]
    if not peer.packages:
        raise Failed(NONE)
    return python(f"{'mlspan' if key == ALL_OF_US else key}-{name}", peer)


def record(name: str, folder: Path, key: str = "mlspan", interpreter: str | None = None) -> Path:
    """The spans of ours of one chat, in a file: what the floor writes by hand. Of all integrations, by their key."""
    key = ALL_OF_US if key == ALL_OF_US else "mlspan"
    path = folder / f"{key}-{name}.json"
    run_worker([interpreter or find_python(name, key), WORKER, "record", name, str(path), key])
    return path


def measure(name: str, key: str, recorded: Path, rounds: int) -> Figures:
    how = ["time", name, str(recorded), key, str(rounds)] if rounds else ["steps", name, str(recorded), key]
    return run_worker([find_python(name, key), WORKER, *how], minutes=10)


def show(name: str, wanted: Iterable[str], rounds: int, folder: Path) -> None:
    """The rows of a client: who was measured, or why not. No rounds count bytecodes."""
    peers = list_peers(name)
    for key in wanted:
        try:
            found = measure(name, key, record(name, folder, key), rounds)
        except Failed as why:
            row(name, peers[key].name, why, *[""] * (6 if rounds else 4))
            continue
        write = us if rounds else write_steps
        cells = [write(found[part]) for part in ("bare", "floor", "added")]
        chunk = write(found["chunk"]) if "chunk" in found else "no stream"
        decoded = write(found["decoded"]) if "decoded" in found else ""
        timed = [decoded, write(found["again"])] if rounds else []
        row(name, peers[key].name, *cells, ratio(found["added"], found["floor"]), chunk, *timed)


def write_steps(pair: tuple[float, float]) -> str:
    return f"{pair[0]:.0f}"


def main() -> None:
    said = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    said.add_argument("clients", nargs="*", default=[*CLIENTS], help=", ".join(CLIENTS))
    said.add_argument("--rounds", type=int, default=100, help="blocks of calls of each variant")
    said.add_argument("--peers", default="mlspan,openinference,openllmetry,mlflow", help="who, with commas between")
    said.add_argument("--steps", action="store_true", help="bytecodes in the place of microseconds")
    options = said.parse_args()
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # or each process compiles all that it imports
    timed = [] if options.steps else ["of chunks that are decoded", "the bare call adds to itself"]
    table("client", "", "bare call", "span by hand adds", "adds", "of the floor", "adds for each chunk", *timed)
    with tempfile.TemporaryDirectory() as folder:
        for name in options.clients:
            show(name, options.peers.split(","), 0 if options.steps else options.rounds, Path(folder))


if __name__ == "__main__":
    main()
