"""Mem0's memories over a real vector database in memory and a scripted model; its platform's client likewise."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

os.environ["MEM0_TELEMETRY"] = "False"  # it is read at the import: nothing leaves the machine
os.environ["MEM0_DIR"] = f"{os.environ['XDG_STATE_HOME']}/mem0"  # likewise, in the place of the home directory
pytest.importorskip("mem0")

import mem0
from mem0 import AsyncMemory, AsyncMemoryClient, Memory, MemoryClient
from qdrant_client import QdrantClient

from mlspan import integrations, tracing
from mlspan.testing import Spans, content

pytestmark = [  # Mem0 leaves the clients of its models to the collector
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
FACT = "Likes tea"
USER = {"user_id": "u1"}
USAGE = {"prompt_tokens": 12, "completion_tokens": 5, "total_tokens": 17}


def answer_models(server: Any) -> None:
    """Have the server remember one fact, and measure every text alike."""
    facts = json.dumps({"memory": [{"id": "0", "text": FACT, "attributed_to": "user"}]})
    message = {"role": "assistant", "content": facts}
    server.reply(
        {
            "id": "c-1",
            "object": "chat.completion",
            "created": 1,
            "model": "m",
            "usage": USAGE,
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        }
    )
    chat = server._answers.pop()
    usage = {"prompt_tokens": 3, "total_tokens": 3}

    def answer(handler: Any) -> None:
        if not handler.path.endswith("/embeddings"):
            return chat(handler)
        texts = server.requests[-1][1]["input"]
        vectors = [{"object": "embedding", "index": i, "embedding": [0.1, 0.2, 0.3]} for i in range(len(texts))]
        server.reply({"object": "list", "model": "e", "data": vectors, "usage": usage})
        return server._answers.pop()(handler)

    server._answers.append(answer)


def make_config(server: Any, folder: Path) -> dict[str, Any]:
    model = {"api_key": "test", "openai_base_url": server.base_url}
    store = {"client": QdrantClient(":memory:"), "collection_name": "facts", "embedding_model_dims": 3}
    return {
        "llm": {"provider": "openai", "config": {"model": "m", **model}},
        "embedder": {"provider": "openai", "config": {"model": "e", "embedding_dims": 3, **model}},
        "vector_store": {"provider": "qdrant", "config": store},
        "history_db_path": str(folder / "history.db"),
    }


@pytest.fixture(autouse=True)
def _on(spans: Spans) -> Iterator[None]:
    integrations.mem0.autolog(log_traces=True)
    yield
    integrations.mem0.autolog(disable=True)


@pytest.fixture
def memory(scripted: Any, tmp_path: Path) -> Iterator[Memory]:
    answer_models(scripted)
    made = Memory.from_config(make_config(scripted, tmp_path))
    yield made
    made.close()


def read_span(spans: Spans, name: str) -> dict[str, Any]:
    """Return the attributes of the one span of this name, of content what its JSON says."""
    (span,) = [span for span in spans.all if span.name == name]
    seen = dict(span.attributes or {})
    names = ("gen_ai.memory.query.text", "gen_ai.memory.records", "mlspan.input")
    return {**seen, **{each: content(span, each) for each in names if each in seen}}


def test_a_memory_is_added_with_the_calls_below(spans: Spans, memory: Memory) -> None:
    """The model's call and the embedding are in the memory's span, each counted once."""
    integrations.openai.autolog(log_traces=True)
    try:
        added = memory.add("I like tea", user_id="u1")
    finally:
        integrations.openai.autolog(disable=True)
    tree = spans.tree().splitlines()
    assert tree[0] == "create_memory"
    assert "  chat m [12 in, 5 out]" in tree
    assert all(line.startswith("  ") for line in tree[1:])
    seen = read_span(spans, "create_memory")
    assert seen["gen_ai.memory.store.id"] == "facts"
    assert seen["gen_ai.provider.name"] == "mem0"
    assert seen["mlspan.input"] == "I like tea"
    (record,) = seen["gen_ai.memory.records"]
    assert (record["memory"], record["event"]) == (FACT, "ADD")
    assert seen["gen_ai.memory.record.id"] == record["id"] == added["results"][0]["id"]


def test_memories_are_found_changed_and_deleted(spans: Spans, memory: Memory) -> None:
    (record,) = memory.add("I like tea", user_id="u1", infer=False)["results"]
    spans.clear()
    found = memory.search("tea", filters=USER)["results"]
    seen = read_span(spans, "search_memory")
    assert seen["gen_ai.memory.query.text"] == "tea"
    assert [each["score"] for each in seen["gen_ai.memory.records"]] == [each["score"] for each in found]
    assert seen["gen_ai.memory.record.count"] == 1
    spans.clear()
    memory.get(record["id"])
    assert read_span(spans, "search_memory")["gen_ai.memory.records"][0]["memory"] == "I like tea"
    spans.clear()
    memory.get_all(filters=USER)
    assert read_span(spans, "search_memory")["gen_ai.memory.record.count"] == 1
    memory.update(record["id"], "I like coffee")  # whose name is not the same in each version
    seen = read_span(spans, "update_memory")
    assert (seen["gen_ai.memory.record.id"], seen["mlspan.input"]) == (record["id"], "I like coffee")
    memory.delete(record["id"])
    assert read_span(spans, "delete_memory")["gen_ai.memory.record.id"] == record["id"]
    spans.clear()
    memory.delete_all(user_id="u1")
    assert spans.tree() == "delete_memory"


@pytest.mark.parametrize("capture", [True, False])
def test_whose_memories_they_are(capture: bool, spans: Spans, memory: Memory) -> None:
    """Ids of users, agents and runs are there of each way to name them, and are no content."""
    tracing.configure(capture_content=capture)
    try:
        memory.add("I like tea", user_id="u1", agent_id="a1", infer=False)
        memory.search("tea", filters={"user_id": "u1", "topic": "drinks"})
        memory.search("tea", filters={"user_id": "u1", "AND": [{"agent_id": "a1"}, {"topic": "drinks"}]})
        memory.get_all(filters={"run_id": "r1"})
        memory.delete_all(agent_id="a1")
    finally:
        tracing.configure(capture_content=True)
    owners = [
        {name: value for name, value in (span.attributes or {}).items() if name.startswith("mlspan.mem0.")}
        for span in spans.all
    ]
    user, agent, run = ({f"mlspan.mem0.{name}_id": f"{name[0]}1"} for name in ("user", "agent", "run"))
    assert [one for one in owners if one] == [user | agent, user, user | agent, run, agent]


async def test_an_async_memory(spans: Spans, scripted: Any, tmp_path: Path) -> None:
    answer_models(scripted)
    memory = AsyncMemory.from_config(make_config(scripted, tmp_path))
    await memory.add("I like tea", user_id="u1", infer=False)
    await memory.search("tea", filters=USER)
    memory.close()
    assert spans.tree().splitlines() == ["create_memory", "search_memory"]


def test_without_content(spans: Spans, memory: Memory, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is remembered and looked for is left out; the number of records is not."""
    from mlspan.tracing import runtime

    now = runtime.get_runtime()
    assert now is not None
    monkeypatch.setattr(now.policy, "capture", False)
    monkeypatch.setattr(now.policy, "on_spans", False)
    memory.add("I like tea", user_id="u1")
    memory.search("tea", filters=USER)
    for span in spans.all:
        assert "tea" not in str(dict(span.attributes or {}))
    assert read_span(spans, "search_memory")["gen_ai.memory.record.count"] == 1


def test_an_error_is_the_callers_own(spans: Spans, memory: Memory) -> None:
    with pytest.raises(ValueError, match="filters must contain"):
        memory.search("tea")
    (span,) = spans.all
    assert (span.attributes or {})["error.type"] == "ValueError"


def test_the_platform(spans: Spans, scripted: Any) -> None:
    scripted.reply({"org_id": "o", "project_id": "p", "user_email": "a@b.test"})
    scripted.reply({"results": [{"id": "r1", "memory": FACT, "event": "ADD"}]})
    scripted.reply({"results": [{"id": "r1", "memory": FACT, "score": 0.5}]})
    scripted.reply({"message": "done"})
    client = MemoryClient(api_key="test", host=scripted.base_url.removesuffix("/v1"))
    client.add([{"role": "user", "content": "I like tea"}], user_id="u1")
    client.search("tea", filters=USER)
    client.update("r1", text="I like coffee")
    client.client.close()
    assert spans.tree().splitlines() == ["create_memory", "search_memory", "update_memory"]
    seen = read_span(spans, "search_memory")
    assert (seen["server.address"], seen["gen_ai.memory.record.id"]) == ("127.0.0.1", "r1")
    assert read_span(spans, "update_memory")["mlspan.input"] == "I like coffee"


async def test_the_platform_async(spans: Spans, scripted: Any) -> None:
    scripted.reply({"org_id": "o", "project_id": "p", "user_email": "a@b.test"})
    scripted.reply({"results": [{"id": "r1", "memory": FACT, "score": 0.5}]})
    async with AsyncMemoryClient(api_key="test", host=scripted.base_url.removesuffix("/v1")) as client:
        await client.search("tea", filters=USER)
    assert spans.tree() == "search_memory"


def test_it_is_taken_back() -> None:
    integrations.mem0.autolog(disable=True)
    assert not hasattr(mem0.Memory.add, "__wrapped__")
