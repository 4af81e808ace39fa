"""LlamaIndex's streams: however one ends, its spans end once; and many at once stay apart."""

from __future__ import annotations

import asyncio
import gc
import re
import threading
import time
import tracemalloc
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

pytest.importorskip("llama_index.core")
pytest.importorskip("llama_index.llms.openai")

from llama_index.core import MockEmbedding, VectorStoreIndex
from llama_index.core.chat_engine import SimpleChatEngine
from llama_index.core.llms import ChatMessage, CompletionResponse, CustomLLM, LLMMetadata
from llama_index.core.memory import ChatMemoryBuffer
from llama_index.core.query_engine import CustomQueryEngine
from llama_index.core.schema import TextNode
from opentelemetry import context as otel_context
from opentelemetry import trace

from mlspan import integrations, tracing
from mlspan.integrations.llama_index.workflows import ledger
from mlspan.testing import Spans, content

MODES = pytest.mark.parametrize("llama_on", ["alone", "with openai"], indirect=True)
pytestmark = pytest.mark.usefixtures("llama_on")
HELLO = [ChatMessage(role="user", content="hello")]


class Slow(CustomLLM):
    """Says five words, and fails after as many as it is told."""

    fails_after: int = 9
    pause: float = 0.0

    @property
    def metadata(self) -> LLMMetadata:
        return LLMMetadata(model_name="slow")

    def complete(self, prompt: str, formatted: bool = False, **_: Any) -> CompletionResponse:
        return CompletionResponse(text=prompt)

    def stream_complete(self, prompt: str, formatted: bool = False, **_: Any) -> Any:
        def pieces() -> Iterator[CompletionResponse]:
            said = ""
            for number in range(5):
                if number == self.fails_after:
                    raise ValueError("enough")
                said += f"{number} "
                yield CompletionResponse(text=said, delta=f"{number} ")

        return pieces()

    async def astream_complete(self, prompt: str, formatted: bool = False, **_: Any) -> Any:
        async def pieces() -> AsyncIterator[CompletionResponse]:
            for chunk in self.stream_complete(prompt):
                await asyncio.sleep(self.pause)
                yield chunk

        return pieces()


def engine(llm: Any) -> Any:
    index = VectorStoreIndex([TextNode(text="One.")], embed_model=MockEmbedding(embed_dim=8))
    return index.as_query_engine(llm=llm, streaming=True)


def _break(stream: Any) -> None:
    next(stream)


def _close(stream: Any) -> None:
    next(stream)
    stream.close()


def _keep_in_a_cycle(stream: Any) -> None:
    next(stream)
    box = [stream]
    box.append(box)


def _never_read(stream: Any) -> None:
    del stream


def _fail(stream: Any) -> None:
    with pytest.raises(KeyError):
        for _ in stream:
            raise KeyError


LEFT = [
    (_break, "abandoned"),
    (_close, "closed"),
    (_keep_in_a_cycle, "abandoned"),
    (_never_read, "abandoned"),
    (_fail, "abandoned"),
]


@pytest.mark.parametrize(("leave", "end"), LEFT)
def test_a_models_stream_left_early(spans: Spans, leave: Any, end: str) -> None:
    """One span, which says how it was left, with what was said until then."""
    before = otel_context.get_current()
    leave(Slow().stream_complete("hello"))
    gc.collect()
    assert otel_context.get_current() is before
    assert spans.tree() == f"text_completion slow [stream {end}]"
    said = content(spans.one(), "gen_ai.output.messages")
    if leave is not _never_read:
        assert said[0] == {"role": "assistant", "parts": [{"type": "text", "content": "0 "}], "finish_reason": "error"}


@pytest.mark.parametrize(("leave", "end"), LEFT)
def test_a_querys_stream_left_early(spans: Spans, leave: Any, end: str) -> None:
    """The query's span ends as its stream does, and so does the model's below it."""
    asked = engine(Slow())
    spans.clear()
    leave(asked.query("hello").response_gen)
    gc.collect()
    tree = f"RetrieverQueryEngine [stream {end}]\n  retrieval VectorIndexRetriever\n    embeddings"
    if leave is not _never_read or len(spans.all) > 3:  # the newest ask the model when the first piece is read
        tree += "\n  text_completion slow [stream abandoned]"
    if leave is not _never_read:
        assert content(spans.all[0], "mlspan.output") == "0 " or content(spans.all[0], "mlspan.output") == 0
    assert spans.tree().replace("slow [stream closed]", "slow [stream abandoned]") == tree


async def _abreak(stream: Any) -> None:
    await anext(stream)


async def _aclose(stream: Any) -> None:
    await anext(stream)
    await stream.aclose()


async def _anever_read(stream: Any) -> None:
    del stream


@pytest.mark.parametrize(("leave", "end"), [(_abreak, "abandoned"), (_aclose, "closed"), (_anever_read, "abandoned")])
async def test_async_streams_left_early(spans: Spans, leave: Any, end: str) -> None:
    """A model's and a query's, left as asynchronous ones are left."""
    asked = engine(Slow())
    before = otel_context.get_current()
    spans.clear()
    await leave(await Slow().astream_complete("hello"))
    gc.collect()
    await asyncio.sleep(0)
    assert spans.tree() == f"text_completion slow [stream {end}]"
    spans.clear()
    await leave((await asked.aquery("hello")).response_gen)
    gc.collect()
    for _ in range(3):
        await asyncio.sleep(0)
    assert spans.tree().startswith(f"RetrieverQueryEngine [stream {end}]\n  retrieval")
    assert otel_context.get_current() is before


async def test_a_stream_that_fails(spans: Spans) -> None:
    """Its error is every span's that it goes through, and the caller's."""
    asked = engine(Slow(fails_after=2))
    spans.clear()
    with pytest.raises(ValueError, match="enough"):
        list(asked.query("hello").response_gen)
    with pytest.raises(ValueError, match="enough"):
        [piece async for piece in (await asked.aquery("hello")).response_gen]
    tree = (
        "RetrieverQueryEngine [ERROR ValueError]\n  retrieval VectorIndexRetriever\n    embeddings\n"
        "  text_completion slow [ERROR ValueError]"
    )
    assert spans.tree() == f"{tree}\n{tree}"
    for span in spans.named("text_completion slow"):
        assert content(span, "gen_ai.output.messages")[0]["parts"] == [{"type": "text", "content": "0 1 "}]


async def test_a_cancelled_stream(spans: Spans) -> None:
    """A task that is cancelled while it reads ends its spans as cancelled."""
    asked = engine(Slow(pause=0.05))
    spans.clear()
    reading = asyncio.Event()

    async def read() -> None:
        async for _ in (await asked.aquery("hello")).response_gen:
            reading.set()

    task = asyncio.create_task(read())
    await asyncio.wait_for(reading.wait(), 30)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    cancelled = "[ERROR asyncio.exceptions.CancelledError]"
    assert spans.tree() == (
        f"RetrieverQueryEngine {cancelled}\n  retrieval VectorIndexRetriever\n    embeddings\n"
        f"  text_completion slow {cancelled}"
    )


def test_read_to_the_end_its_text_is_there(spans: Spans) -> None:
    """The answer stands on the query's span, whichever way it is read; reading twice reads once."""
    asked = engine(Slow())
    spans.clear()
    answer = asked.query("hello")
    assert str(answer) == "0 1 2 3 4 "
    assert str(answer) == "0 1 2 3 4 "
    assert "".join(asked.query("hello").response_gen) == "0 1 2 3 4 "
    for span in spans.named("RetrieverQueryEngine"):
        assert content(span, "mlspan.output") == "0 1 2 3 4 "
    assert len(spans.all) == 8


def test_chunks_leave_the_callers_context_alone(spans: Spans) -> None:
    """While the caller handles a chunk, the current span is the caller's own; a stream may outlive it."""
    with tracing.span("outer"):
        outer = trace.get_current_span()
        stream = Slow().stream_complete("hello")
        for _ in range(2):
            next(stream)
            assert trace.get_current_span() is outer
    list(stream)
    assert spans.tree() == "outer\n  text_completion slow"


def test_a_stream_read_in_another_thread(spans: Spans) -> None:
    """It ends its span from there, and leaves nothing there."""
    stream = Slow().stream_complete("hello")
    left: list[Any] = []

    def read() -> None:
        list(stream)
        left.append(otel_context.get_current())

    thread = threading.Thread(target=read)
    thread.start()
    thread.join(30)
    assert left == [{}]
    assert spans.tree() == "text_completion slow"


def _wait(done: Callable[[], bool]) -> bool:
    for _ in range(500):
        if done():
            return True
        time.sleep(0.01)
    return False


async def test_a_chat_engines_stream(spans: Spans) -> None:
    """LlamaIndex reads it itself, so that it ends though nobody else reads it; an error is told, and raised."""
    memory = ChatMemoryBuffer.from_defaults()
    asked = SimpleChatEngine.from_defaults(llm=Slow(), memory=memory)
    assert "".join(asked.stream_chat("hello").response_gen) == "0 1 2 3 4 "
    ignored = asked.stream_chat("hello")
    assert await asyncio.to_thread(_wait, lambda: ignored.is_done)
    streamed = await asked.astream_chat("hello")
    await streamed.awrite_response_to_history_task
    tree = "SimpleChatEngine\n  chat slow"
    assert spans.tree() == "\n".join([tree] * 3)
    assert {str(content(span, "mlspan.output")).strip() for span in spans.named("SimpleChatEngine")} == {"0 1 2 3 4"}
    spans.clear()
    failing = await SimpleChatEngine.from_defaults(llm=Slow(fails_after=1), memory=memory).astream_chat("hello")
    with pytest.raises(ValueError, match="enough"):
        [piece async for piece in failing.async_response_gen()]
    assert spans.tree() == "SimpleChatEngine [ERROR ValueError]\n  chat slow [ERROR ValueError]"


@MODES
async def test_a_dropped_connection(scripted: Any, spans: Spans, llama_openai: Callable[..., Any]) -> None:
    """A server that hangs up in the middle is an error, once, whoever is watching."""
    choice = {"index": 0, "delta": {"content": "One "}, "finish_reason": None}
    chunk = {"id": "c-1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}
    scripted.stream(chunk, drop=True)
    with pytest.raises(Exception, match="peer closed"):
        list(llama_openai(scripted.base_url).stream_chat(HELLO))
    (span,) = spans.all
    assert "RemoteProtocolError" in str((span.attributes or {})["error.type"])
    assert content(span, "gen_ai.output.messages")[0]["parts"] == [{"type": "text", "content": "One "}]


class Numbered(CustomQueryEngine):
    """A query engine of one's own that answers with a model, in the middle of spans of its own."""

    llm: Any

    def custom_query(self, query_str: str) -> str:
        with tracing.span(f"own {query_str}"):
            return str(self.llm.complete(query_str))

    async def acustom_query(self, query_str: str) -> str:
        number = int(query_str)
        with tracing.span(f"own {query_str}"):
            await asyncio.sleep(0.001 * (number % 7))
            stream = await self.llm.astream_complete(query_str)
            async for _ in stream:
                await asyncio.sleep(0)
        if number % 10 == 0:
            raise ValueError(number)
        return query_str


async def test_two_hundred_at_once_stay_apart(spans: Spans) -> None:
    """In one event loop and in a thread pool, failures among them: no span below another's parent."""
    asked = Numbered(llm=Slow())
    before = otel_context.get_current()
    await asyncio.gather(*(asked.aquery(str(n)) for n in range(200)), return_exceptions=True)
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda n: asked.query(str(n)), range(200, 400)))
    assert otel_context.get_current() is before
    trees = re.split(r"\n(?! )", spans.tree())
    assert len(trees) == 400
    shapes = Counter(re.sub(r"own \d+", "own", tree) for tree in trees)
    whole = "Numbered\n  own\n    text_completion slow"
    assert shapes == {whole: 380, whole.replace("Numbered", "Numbered [ERROR ValueError]"): 20}
    for root in [span for span in spans.all if span.parent is None]:
        below = [span for span in spans.all if span.context.trace_id == root.context.trace_id]
        asked_for = content(root, "mlspan.input")
        assert [span.name for span in below] == ["Numbered", f"own {asked_for}", "text_completion slow"]
    assert len(ledger) == 0


def test_memory_stays_flat(spans: Spans) -> None:
    """What thousands of queries, read, failed and left, have left behind is nothing."""
    asked, failing = Numbered(llm=Slow()), Slow(fails_after=1)

    def turn() -> None:
        for _ in range(100):
            asked.query("1")
            next(Slow().stream_complete("a"))
            with pytest.raises(ValueError, match="enough"):
                list(failing.stream_complete("a"))
            spans.clear()
        gc.collect()

    turn()
    tracemalloc.start()
    try:
        turn()
        first = tracemalloc.get_traced_memory()[0]
        turn()
        second = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert second - first < 50_000
    assert len(ledger) == 0


def test_turned_off_while_streaming(spans: Spans) -> None:
    """A stream that was begun before ends its span all the same; what begins after has none."""
    stream = Slow().stream_complete("a")
    next(stream)
    integrations.llama_index.autolog(disable=True)
    list(stream)
    list(Slow().stream_complete("a"))
    assert spans.tree() == "text_completion slow"


class TurnsOff(CustomQueryEngine):
    def custom_query(self, query_str: str) -> str:
        integrations.llama_index.autolog(disable=True)
        return str(Slow().complete(query_str))


def test_turned_off_in_the_middle_of_a_query(spans: Spans) -> None:
    """What is open is left as it was entered; what begins after has no span."""
    before = otel_context.get_current()
    TurnsOff().query("a")
    assert otel_context.get_current() is before
    assert spans.tree() == "TurnsOff"
