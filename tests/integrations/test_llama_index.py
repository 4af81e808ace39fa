"""LlamaIndex: one query is one tree, without twins, whatever asks and whatever answers."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("llama_index.core")
pytest.importorskip("llama_index.llms.openai")

from llama_index.core import Document, MockEmbedding, PromptTemplate, VectorStoreIndex
from llama_index.core.embeddings import BaseEmbedding
from llama_index.core.indices.query.schema import QueryBundle
from llama_index.core.ingestion import IngestionPipeline
from llama_index.core.instrumentation import get_dispatcher
from llama_index.core.llms import ChatMessage, CompletionResponse, CustomLLM, LLMMetadata, MockLLM
from llama_index.core.memory import ChatMemoryBuffer
from llama_index.core.node_parser import SentenceSplitter
from llama_index.core.postprocessor import LLMRerank, SimilarityPostprocessor
from llama_index.core.query_engine import RetrieverQueryEngine
from llama_index.core.retrievers import BaseRetriever, QueryFusionRetriever
from llama_index.core.schema import NodeWithScore, TextNode
from llama_index.core.tools import FunctionTool, QueryEngineTool
from opentelemetry import context as otel_context
from pydantic import BaseModel

from mlspan import integrations, tracing
from mlspan.hooks.requests import read_provider_usage
from mlspan.testing import Spans, content
from mlspan.tracing.operations.records import Chat

MODES = pytest.mark.parametrize("llama_on", ["alone", "with openai"], indirect=True)
pytestmark = pytest.mark.usefixtures("llama_on")
QUERY = """\
RetrieverQueryEngine
  retrieval VectorIndexRetriever
    embeddings
  text_completion"""


@pytest.fixture
def index() -> VectorStoreIndex:
    shelf = [Document(text=text, id_=name) for name, text in (("cats", "Cats purr."), ("dogs", "Dogs bark."))]
    return VectorStoreIndex.from_documents(shelf, embed_model=MockEmbedding(embed_dim=8))


@pytest.fixture
def mock() -> MockLLM:
    return MockLLM(max_tokens=3)


async def test_a_query_is_one_tree(index: VectorStoreIndex, mock: MockLLM, spans: Spans) -> None:
    """Sync and async alike: question and answer, documents with ids and scores, the embedding's dimension."""
    before = otel_context.get_current()
    spans.clear()
    engine = index.as_query_engine(llm=mock)
    answer = str(engine.query("cats?"))
    assert str(await engine.aquery("cats?")) == answer
    assert otel_context.get_current() is before
    assert spans.tree() == f"{QUERY}\n{QUERY}"
    query, retrieval, embedding, completion = spans.all[:4]
    assert (content(query, "mlspan.input"), content(query, "mlspan.output")) == ("cats?", answer)
    assert content(retrieval, "gen_ai.retrieval.query.text") == "cats?"
    first = content(retrieval, "gen_ai.retrieval.documents")[0]
    assert first["content"] in {"Cats purr.", "Dogs bark."}
    assert first["id"]
    assert isinstance(first["score"], float)
    assert (retrieval.attributes or {})["gen_ai.retrieval.top_k"] == 2
    assert (retrieval.attributes or {})["mlspan.llama_index.vector_store"] == "SimpleVectorStore"
    assert (embedding.attributes or {})["gen_ai.embeddings.dimension.count"] == 8
    assert content(embedding, "mlspan.input") == "cats?"
    assert "Cats purr." in content(completion, "gen_ai.input.messages")[0]["parts"][0]["content"]
    assert content(completion, "gen_ai.output.messages")[0]["parts"][0]["content"] == answer


def test_building_an_index_is_one_trace(spans: Spans) -> None:
    """From documents, from nodes, by inserting, by a pipeline: each with its embeddings, batched, below it."""
    embed = MockEmbedding(embed_dim=8, embed_batch_size=2)
    made = VectorStoreIndex.from_documents(
        [Document(text=f"Text {n}.", id_=f"d{n}") for n in range(5)], embed_model=embed
    )
    VectorStoreIndex([TextNode(text="One.")], embed_model=embed)
    made.insert(Document(text="More.", id_="d5"))
    IngestionPipeline(transformations=[SentenceSplitter(), embed]).run(documents=[Document(text="Some.", id_="d6")])
    assert spans.tree("mlspan.kind") == (
        "build VectorStoreIndex [mlspan.kind=index]\n  embeddings\n"
        "build VectorStoreIndex [mlspan.kind=index]\n  embeddings\n"
        "insert into VectorStoreIndex [mlspan.kind=index]\n  embeddings\n"
        "IngestionPipeline [mlspan.kind=index]\n  embeddings"
    )
    assert content(spans.all[0], "mlspan.input") == {"documents": [f"d{n}" for n in range(5)]}
    assert content(spans.all[0], "mlspan.output") == {"nodes": 5}
    assert content(spans.all[1], "mlspan.input") == [f"Text {n}." for n in range(5)]
    assert content(spans.named("IngestionPipeline")[0], "mlspan.output") == {"nodes": 1}


@MODES
async def test_every_call_of_a_model(aimock: str, spans: Spans, llama_openai: Callable[..., Any], both: bool) -> None:
    """Chat and complete, streamed and not, sync and async: one span each, with its text, whoever else is watching."""
    llm = llama_openai(aimock)
    messages = [ChatMessage(role="system", content="Be brief."), ChatMessage(role="user", content="hello")]
    before = otel_context.get_current()
    assert llm.chat(messages).message.content == "Hi there!"
    assert (await llm.achat(messages)).message.content == "Hi there!"
    assert llm.complete("hello").text == "Hi there!"
    assert (await llm.acomplete("hello")).text == "Hi there!"
    assert list(llm.stream_chat(messages))[-1].message.content == "Hi there!"
    assert [one async for one in await llm.astream_chat(messages)][-1].message.content == "Hi there!"
    assert list(llm.stream_complete("hello"))[-1].text == "Hi there!"
    assert [one async for one in await llm.astream_complete("hello")][-1].text == "Hi there!"
    assert otel_context.get_current() is before
    assert [span.name for span in spans.all] == ["chat gpt-4o-mini"] * 8
    for number, span in enumerate(spans.all):
        attributes = span.attributes or {}
        assert span.parent is None
        said = content(span, "gen_ai.output.messages")
        assert said == [
            {"role": "assistant", "parts": [{"type": "text", "content": "Hi there!"}], "finish_reason": "stop"}
        ]
        assert attributes["gen_ai.provider.name"] == "openai"
        assert attributes["gen_ai.response.id"]
        assert attributes["gen_ai.request.temperature"] == 0.1
        assert attributes["server.address"] == "127.0.0.1"
        assert ("openai.api.type" in attributes) == both
        if both or number < 4:  # the hook of the client asks for the tokens of a stream
            assert (attributes["gen_ai.usage.input_tokens"], attributes["gen_ai.usage.output_tokens"]) == (12, 5)
        assert ("gen_ai.response.time_to_first_chunk" in attributes) == (number >= 4)
        assert attributes.get("gen_ai.request.stream") == (True if number >= 4 else None)


@MODES
def test_an_error_of_the_server(aimock: str, spans: Spans, llama_openai: Callable[..., Any]) -> None:
    """It reaches the caller as it is, and every span on its way says what it was: of a stream, too."""
    llm, embed = llama_openai(aimock), MockEmbedding(embed_dim=8)
    index = VectorStoreIndex([TextNode(text="One.")], embed_model=embed)
    spans.clear()
    with pytest.raises(Exception, match="404"):
        index.as_query_engine(llm=llm).query("there is no such fixture")
    with pytest.raises(Exception, match="404"):
        list(llm.stream_chat([ChatMessage(role="user", content="no such fixture")]))
    error = "[ERROR openai.NotFoundError]"
    assert spans.tree() == (
        f"RetrieverQueryEngine {error}\n  retrieval VectorIndexRetriever\n    embeddings\n"
        f"  chat gpt-4o-mini {error}\nchat gpt-4o-mini {error}"
    )


class City(BaseModel):
    """A city."""

    city: str
    degrees: int


ANSWER_FIELDS = {"id": "c-1", "object": "chat.completion", "created": 1, "model": "gpt-4o-mini-2024"}
CALL = {
    "id": "call_9",
    "type": "function",
    "function": {"name": "City", "arguments": '{"city": "Paris", "degrees": 21}'},
}


def asking(call: dict[str, Any]) -> dict[str, Any]:
    message = {"role": "assistant", "content": None, "tool_calls": [call]}
    usage = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
    return {
        **ANSWER_FIELDS,
        "choices": [{"index": 0, "finish_reason": "tool_calls", "message": message}],
        "usage": usage,
    }


@MODES
async def test_structured_prediction(scripted: Any, spans: Spans, llama_openai: Callable[..., Any]) -> None:
    """What is wanted, and the one call that gives it, its schema among the tools; as a structured model, too."""
    scripted.reply(asking(CALL))
    llm = llama_openai(scripted.base_url, model="gpt-4")  # an older one, which is asked by way of a tool
    prompt = PromptTemplate("The weather in {where}?")
    assert llm.structured_predict(City, prompt, where="Paris") == City(city="Paris", degrees=21)
    assert await llm.astructured_predict(City, prompt, where="Paris") == City(city="Paris", degrees=21)
    llm.as_structured_llm(City).chat([ChatMessage(role="user", content="Paris?")])
    tree = "structured_predict City\n  chat gpt-4 [7 in, 3 out]"
    assert spans.tree() == "\n".join([tree] * 3)
    outer, chat = spans.all[:2]
    assert (content(outer, "mlspan.input"), content(outer, "mlspan.output")) == (
        {"where": "Paris"},
        {"city": "Paris", "degrees": 21},
    )
    assert content(chat, "gen_ai.tool.definitions")[0]["name"] == "City"
    (part,) = content(chat, "gen_ai.output.messages")[0]["parts"]
    assert part == {"type": "tool_call", "name": "City", "id": "call_9", "arguments": {"city": "Paris", "degrees": 21}}


def weather(city: str) -> str:
    """The weather in a city."""
    with tracing.span("inside"):
        return f"sunny in {city}"


@MODES
async def test_function_calling(scripted: Any, spans: Spans, llama_openai: Callable[..., Any]) -> None:
    """The model asks for a tool, and the tool's span is beside it, with arguments, result and description."""
    scripted.reply(asking({**CALL, "function": {"name": "weather", "arguments": '{"city": "Rome"}'}}))
    llm, tool = llama_openai(scripted.base_url), FunctionTool.from_defaults(weather)
    assert str(llm.predict_and_call([tool], "Rome?")) == "sunny in Rome"
    await llm.achat_with_tools([tool], "Rome?")
    chat = "chat gpt-4o-mini [7 in, 3 out]"
    assert spans.tree() == f"{chat}\nexecute_tool weather\n  inside\n{chat}"
    span = spans.named("execute_tool weather")[0]
    assert content(span, "gen_ai.tool.call.arguments") in ({"city": "Rome"}, ["Rome"])  # by name, or before by place
    assert content(span, "gen_ai.tool.call.result") == "sunny in Rome"
    assert "The weather in a city." in str((span.attributes or {})["gen_ai.tool.description"])


async def test_tools(spans: Spans) -> None:
    """Called, sync or async, once each; an error is the tool's own, and reaches the caller."""

    async def fails(city: str) -> str:
        raise LookupError(city)

    tool = FunctionTool.from_defaults(weather)
    tool("Rome")
    tool.call(city="Rome")
    await tool.acall(city="Rome")
    with pytest.raises(LookupError):
        await FunctionTool.from_defaults(async_fn=fails).acall(city="Oslo")
    one = "execute_tool weather\n  inside"
    assert spans.tree() == f"{one}\n{one}\n{one}\nexecute_tool fails [ERROR LookupError]"


USAGES: list[tuple[Any, tuple[int | None, ...]]] = [  # -> input, output, cached, written, reasoning
    ({"prompt_tokens": 9, "completion_tokens": 4}, (9, 4, None, None, None)),
    (
        SimpleNamespace(
            prompt_tokens=9,
            completion_tokens=4,
            prompt_tokens_details=SimpleNamespace(cached_tokens=5),
            completion_tokens_details={"reasoning_tokens": 2},
        ),
        (9, 4, 5, None, 2),
    ),
    (
        {
            "input_tokens": 9,
            "output_tokens": 4,
            "input_tokens_details": {"cached_tokens": 5},
            "output_tokens_details": {"reasoning_tokens": 2},
        },
        (9, 4, 5, None, 2),
    ),
    (
        {"input_tokens": 9, "output_tokens": 4, "cache_read_input_tokens": 5, "cache_creation_input_tokens": 3},
        (17, 4, 5, 3, None),
    ),
    ({"inputTokens": 9, "outputTokens": 4, "cacheReadInputTokens": 5}, (14, 4, 5, None, None)),
    ({"prompt_token_count": 9, "candidates_token_count": 4, "thoughts_token_count": 2}, (9, 6, None, None, 2)),
    ({"prompt_tokens": "9", "completion_tokens": None}, (None,) * 5),
]


@pytest.mark.parametrize(("usage", "counts"), USAGES)
def test_every_shape_of_usage(usage: Any, counts: tuple[int | None, ...]) -> None:
    """OpenAI's chats and responses, Anthropic, Bedrock, Gemini, objects and dicts: input includes what was cached."""
    record = Chat()
    read_provider_usage(record, usage)
    tokens = (record.input_tokens, record.output_tokens, record.cache_read_tokens, record.cache_write_tokens)
    assert (*tokens, record.reasoning_tokens) == counts


def test_usage_that_comes_in_pieces() -> None:
    """What an event of a stream leaves at zero does not undo what another has reported."""
    record = Chat()
    read_provider_usage(record, {"input_tokens": 9, "output_tokens": 1})
    read_provider_usage(record, {"input_tokens": 0, "output_tokens": 4})
    assert (record.input_tokens, record.output_tokens) == (9, 4)


class Answers(CustomLLM):
    """A model that answers with whatever raw answer it is given, and whose chat goes through its completion."""

    raw: Any = None
    more: Any = None

    @property
    def metadata(self) -> LLMMetadata:
        return LLMMetadata(model_name="answers-1")

    def complete(self, prompt: str, formatted: bool = False, **_: Any) -> CompletionResponse:
        return CompletionResponse(text="Yes.", raw=self.raw, additional_kwargs=self.more or {})

    def stream_complete(self, prompt: str, formatted: bool = False, **_: Any) -> Any:
        def pieces() -> Any:
            with tracing.span("its own"):
                yield CompletionResponse(text="Yes", delta="Yes")
            yield CompletionResponse(text="Yes.", delta=".", raw=self.raw)

        return pieces()


def test_a_model_of_ones_own(spans: Spans) -> None:
    """Its chat goes through its completion: one span. Its own spans are below it, in a stream, too."""
    raw = {
        "id": "r-1",
        "model": "answers-1b",
        "usage": {"input_tokens": 9, "output_tokens": 4},
        "stop_reason": "max_tokens",
    }
    llm = Answers(raw=raw)
    llm.chat([ChatMessage(role="user", content="Really?")])
    assert list(llm.stream_chat([ChatMessage(role="user", content="Really?")]))[-1].message.content == "Yes."
    Answers(more={"prompt_tokens": 2, "completion_tokens": 1}).complete("Really?")
    assert spans.tree() == (
        "chat answers-1 [9 in, 4 out]\nchat answers-1 [9 in, 4 out]\n  its own\ntext_completion answers-1 [2 in, 1 out]"
    )
    for span in spans.named("chat answers-1"):
        attributes = span.attributes or {}
        assert (attributes["gen_ai.provider.name"], attributes["gen_ai.response.model"]) == ("answers", "answers-1b")
        assert attributes["gen_ai.response.id"] == "r-1"
        assert attributes["gen_ai.response.finish_reasons"] == ("length",)


@MODES
async def test_the_responses_api(aimock: str, spans: Spans, llama_openai: Callable[..., Any]) -> None:
    """Its usage and text are recorded as those of a chat, whole and streamed; each chunk holds only new text."""
    from llama_index.llms.openai import OpenAIResponses

    llm = llama_openai(aimock, OpenAIResponses)
    messages = [ChatMessage(role="user", content="hello")]
    llm.chat(messages)
    list(llm.stream_chat(messages))
    assert [one async for one in await llm.astream_chat(messages)]
    assert [span.name for span in spans.all] == ["chat gpt-4o-mini"] * 3
    for span in spans.all:
        attributes = span.attributes or {}
        assert (attributes["gen_ai.usage.input_tokens"], attributes["gen_ai.usage.output_tokens"]) == (12, 5)
        assert content(span, "gen_ai.output.messages")[0]["parts"] == [{"type": "text", "content": "Hi there!"}]
        assert attributes["gen_ai.provider.name"] == "openai"


async def test_a_model_of_anthropic(aimock: str, spans: Spans) -> None:
    """Another provider's package: its usage comes in two events of a stream, its reasons in words of its own."""
    anthropic = pytest.importorskip("llama_index.llms.anthropic")
    llm = anthropic.Anthropic(model="claude-3-5-haiku-latest", base_url=aimock.removesuffix("/v1"), api_key="x")
    messages = [ChatMessage(role="user", content="hello")]
    llm.chat(messages)
    list(llm.stream_chat(messages))
    assert [one async for one in await llm.astream_chat(messages)]
    assert spans.tree() == "\n".join(["chat claude-3-5-haiku-latest [12 in, 5 out]"] * 3)
    for span in spans.all:
        assert (span.attributes or {})["gen_ai.provider.name"] == "anthropic"
        assert (span.attributes or {})["gen_ai.response.finish_reasons"] == ("stop",)
        assert content(span, "gen_ai.output.messages")[0]["parts"] == [{"type": "text", "content": "Hi there!"}]
    llm._client.close()
    await llm._aclient.close()


@MODES
async def test_embeddings(aimock: str, spans: Spans, both: bool) -> None:
    """Batched, sync and async, one span a call of LlamaIndex's; the tokens are the client's to report."""
    import openai
    from llama_index.embeddings.openai import OpenAIEmbedding

    class Mine(BaseEmbedding):
        def _get_query_embedding(self, query: str) -> list[float]:
            return [0.0] * 3

        def _get_text_embedding(self, text: str) -> list[float]:
            return [0.0] * 3

        async def _aget_query_embedding(self, query: str) -> list[float]:
            return [0.0] * 3

    mine = Mine(model_name="mine-1")
    mine.get_query_embedding("a")
    await mine.aget_query_embedding("a")
    mine.get_text_embedding("a")
    mine.get_agg_embedding_from_queries(["a", "b"])
    assert spans.tree("gen_ai.embeddings.dimension.count") == "\n".join(
        ["embeddings mine-1 [gen_ai.embeddings.dimension.count=3]"] * 5
    )
    spans.clear()
    with openai.DefaultHttpxClient() as client:
        async with openai.DefaultAsyncHttpxClient() as async_client:
            ask: Any = {"api_base": aimock, "api_key": "x", "http_client": client, "async_http_client": async_client}
            embed = OpenAIEmbedding(model="text-embedding-3-small", embed_batch_size=2, **ask)
            embed.get_text_embedding_batch(["a", "b", "c"])
            await embed.aget_text_embedding_batch(["a", "b", "c"])
    assert [span.name for span in spans.all] == ["embeddings text-embedding-3-small"] * 2
    for span in spans.all:
        attributes = span.attributes or {}
        assert attributes["gen_ai.embeddings.dimension.count"] == 1536
        assert attributes["gen_ai.provider.name"] == "openai"
        assert content(span, "mlspan.input") == ["a", "b", "c"]
        assert ("gen_ai.usage.input_tokens" in attributes) == both


class Shelf(BaseRetriever):
    """Two documents."""

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        with tracing.span("inside the shelf"):
            first = TextNode(text="Cats purr.", id_="n1", metadata={"page": 3})
            return [NodeWithScore(node=first, score=0.9), NodeWithScore(node=TextNode(text="Dogs bark.", id_="n2"))]


async def test_retrievers(mock: MockLLM, spans: Spans) -> None:
    """One span a call, with the caller's own spans below; one retriever in another is a span of its own."""
    Shelf().retrieve("cats?")
    await Shelf().aretrieve(QueryBundle("cats?"))
    QueryFusionRetriever([Shelf()], llm=mock, num_queries=1, use_async=False).retrieve("cats?")
    shelf = "retrieval Shelf\n  inside the shelf"
    assert spans.tree() == f"{shelf}\n{shelf}\nretrieval QueryFusionRetriever\n  retrieval Shelf\n    inside the shelf"
    first, second = content(spans.all[0], "gen_ai.retrieval.documents")
    assert first == {"id": "n1", "score": 0.9, "content": "Cats purr.", "metadata": {"page": 3}}
    assert second["id"] == "n2"


class Ranks(CustomLLM):
    """Says which documents it likes."""

    @property
    def metadata(self) -> LLMMetadata:
        return LLMMetadata(model_name="ranks")

    def complete(self, prompt: str, formatted: bool = False, **_: Any) -> CompletionResponse:
        return CompletionResponse(text="Doc: 1, Relevance: 9")

    def stream_complete(self, prompt: str, formatted: bool = False, **_: Any) -> Any:
        raise NotImplementedError


def test_postprocessors_and_rerankers(mock: MockLLM, spans: Spans) -> None:
    """Each in its place between retrieval and answer, with what went in and what is left."""
    engine = RetrieverQueryEngine.from_args(
        Shelf(),
        llm=mock,
        node_postprocessors=[SimilarityPostprocessor(similarity_cutoff=0.5), LLMRerank(llm=Ranks(), top_n=1)],
    )
    engine.query("cats?")
    assert spans.tree("mlspan.kind") == (
        "RetrieverQueryEngine [mlspan.kind=chain]\n  retrieval Shelf\n    inside the shelf [mlspan.kind=step]\n"
        "  SimilarityPostprocessor [mlspan.kind=postprocessor]\n"
        "  LLMRerank [mlspan.kind=reranker]\n    text_completion ranks\n"
        "  text_completion"
    )
    (rerank,) = spans.named("LLMRerank")
    assert content(rerank, "mlspan.input")["query"] == "cats?"
    assert [one["id"] for one in content(rerank, "mlspan.output")] == ["n1"]


def test_a_query_of_queries(index: VectorStoreIndex, spans: Spans) -> None:
    """A tool that queries, and an engine over such tools: each query is a tree below what asks for it."""
    engine = index.as_query_engine(llm=MockLLM(max_tokens=2))
    tool = QueryEngineTool.from_defaults(engine, name="pets", description="Knows pets.")
    spans.clear()
    tool("cats?")
    query = QUERY.replace("\n", "\n  ")
    assert spans.tree() == f"execute_tool pets\n  {query}"
    assert content(spans.all[0], "gen_ai.tool.call.result")


@MODES
async def test_a_chat_engine(aimock: str, spans: Spans, llama_openai: Callable[..., Any]) -> None:
    """Question, answer and the id of the conversation, chatted and streamed, sync and async."""
    llm, memory = llama_openai(aimock), ChatMemoryBuffer.from_defaults(chat_store_key="chat-42")
    index = VectorStoreIndex([TextNode(text="One.")], embed_model=MockEmbedding(embed_dim=8))
    engine = index.as_chat_engine(chat_mode="context", llm=llm, memory=memory)
    before = otel_context.get_current()
    spans.clear()
    engine.chat("hello")
    await engine.achat("hello")
    assert "".join(engine.stream_chat("hello").response_gen) == "Hi there!"
    streamed = await engine.astream_chat("hello")
    assert "".join([piece async for piece in streamed.async_response_gen()]) == "Hi there!"
    assert otel_context.get_current() is before
    roots = [span for span in spans.all if span.parent is None]
    assert [span.name for span in roots] == ["ContextChatEngine"] * 4
    assert [span.name for span in spans.all].count("chat gpt-4o-mini") == 4
    assert len(spans.all) == 4 * 4  # engine, retrieval, embedding, chat
    for root in roots:
        assert content(root, "mlspan.input") == {"messages": [{"role": "user", "content": "hello"}]}
        assert content(root, "mlspan.output") == "Hi there!"
        assert (root.attributes or {})["gen_ai.conversation.id"] == "chat-42"


async def test_a_decorated_function_of_ones_own(spans: Spans) -> None:
    """Who puts LlamaIndex's decorator on functions of his own has spans of them, with what is called below."""
    dispatcher = get_dispatcher(__name__)

    @dispatcher.span
    async def mine(n: int) -> int:
        await Shelf().aretrieve("cats?")
        return n + 1

    class Thing:
        @dispatcher.span
        def act(self, n: int) -> int:
            return n

    assert await mine(1) == 2
    Thing().act(3)
    assert spans.tree() == "mine\n  retrieval Shelf\n    inside the shelf\nThing.act"
    assert (content(spans.all[0], "mlspan.input"), content(spans.all[0], "mlspan.output")) == ({"n": 1}, 2)


def test_users_spans_nest_both_ways(index: VectorStoreIndex, mock: MockLLM, spans: Spans) -> None:
    """A query inside a span of the user's is below it."""
    spans.clear()
    with tracing.span("outer"):
        index.as_query_engine(llm=mock).query("cats?")
    assert spans.tree() == "outer\n  " + QUERY.replace("\n", "\n  ")


def test_content_may_be_kept_out(index: VectorStoreIndex, mock: MockLLM, spans: Spans, tracing_off: None) -> None:
    """With ``capture_content=False`` not a word of what was said is in any span."""
    tracing.configure(capture_content=False)
    spans.clear()
    index.as_query_engine(llm=mock).query("a secret?")
    assert len(spans.all) == 4
    texts = " ".join(str(value) for span in spans.all for value in (span.attributes or {}).values())
    assert "secret" not in texts
    assert "Cats" not in texts


def test_disable_leaves_nothing(index: VectorStoreIndex, mock: MockLLM, spans: Spans) -> None:
    """Off, nothing is recorded, and LlamaIndex's handlers and methods are the originals again."""
    from llama_index.core.base.llms.base import BaseLLM
    from llama_index.core.indices.base import BaseIndex

    integrations.llama_index.autolog(disable=True)
    spans.clear()
    index.as_query_engine(llm=mock).query("cats?")
    VectorStoreIndex.from_documents([Document(text="x")], embed_model=MockEmbedding(embed_dim=2))
    list(mock.stream_complete("a"))
    assert spans.all == []
    handlers = [*get_dispatcher().span_handlers, *get_dispatcher().event_handlers]
    assert not any("mlspan" in type(one).__module__.lower() or "Mlspan" in type(one).__name__ for one in handlers)
    assert "__init_subclass__" not in vars(BaseLLM)
    original = vars(BaseIndex)["from_documents"].__func__
    assert sys.modules[BaseIndex.__module__].__file__ == original.__code__.co_filename
    assert not hasattr(MockLLM.stream_complete, "_mlspan_on")


async def test_exclusive_and_suppressed(index: VectorStoreIndex, mock: MockLLM, spans: Spans) -> None:
    """Inside ``suppress_instrumentation`` nothing is recorded."""
    from opentelemetry.instrumentation.utils import suppress_instrumentation

    spans.clear()
    with suppress_instrumentation():
        index.as_query_engine(llm=mock).query("cats?")
        list(mock.stream_complete("a"))
        await asyncio.sleep(0)
    assert spans.all == []
