"""LangChain's models and LangGraph's graphs keep the contracts of streams, however their generators end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterator
from typing import Any, ClassVar

import pytest

pytest.importorskip("langchain_core")
pytest.importorskip("langgraph")

import langchain_core.runnables.config as runnable_config
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessageChunk
from langchain_core.outputs import ChatGenerationChunk
from langgraph.graph import END, START, StateGraph
from opentelemetry.sdk.trace import ReadableSpan
from typing_extensions import TypedDict

from mlspan import integrations
from mlspan.testing import Spans, contracts


class CutOffError(Exception):
    """What breaks a stream."""


USAGE: Any = {"input_tokens": 12, "output_tokens": 5, "total_tokens": 17}
CHUNKS = [
    AIMessageChunk(content="One "),
    AIMessageChunk(content="two."),
    AIMessageChunk(content="", usage_metadata=USAGE),
]


class Model(BaseChatModel):
    """A model that streams three chunks; *end* says what happens after the first."""

    end: str = "whole"

    @property
    def _llm_type(self) -> str:
        return "mine"

    def _get_ls_params(self, stop: Any = None, **kwargs: Any) -> Any:
        return {"ls_provider": "mine", "ls_model_name": "m", "ls_model_type": "chat"}

    def _generate(self, *_: Any, **__: Any) -> Any:
        raise NotImplementedError

    def _stream(self, *_: Any, **__: Any) -> Iterator[ChatGenerationChunk]:
        for number, chunk in enumerate(CHUNKS):
            if number and self.end == "cut":
                raise CutOffError("gone")
            yield ChatGenerationChunk(message=chunk)

    async def _astream(self, *_: Any, **__: Any) -> AsyncIterator[ChatGenerationChunk]:
        for number, chunk in enumerate(CHUNKS):
            if number == 1 and self.end == "slow":
                await asyncio.sleep(0.6)
            if number and self.end == "cut":
                raise CutOffError("gone")
            yield ChatGenerationChunk(message=chunk)


class LangChain:
    """A model of LangChain's, and its hook."""

    span: ClassVar[str] = "chat m"
    tokens: ClassVar[tuple[int, int] | None] = (12, 5)
    texts: ClassVar[tuple[str, ...]] = ("a greeting", "One two.")
    first_text: ClassVar[str] = "One "
    cut_off: ClassVar[type[BaseException]] = CutOffError
    has_with: ClassVar[bool] = False
    is_generator: ClassVar[bool] = True

    @pytest.fixture(autouse=True)
    def _conventions(self, spans: Spans) -> None:
        """*spans* holds each span against the conventions."""

    def autolog(self, **options: Any) -> None:
        integrations.langchain.autolog(**options)

    def list_targets(self) -> list[tuple[Any, str]]:
        return [(runnable_config, "_set_config_context")]

    def read_chunk(self, chunk: Any) -> Any:
        return chunk.content


class TestStreams(LangChain, contracts.StreamContract):
    stream_type = Generator

    def open_stream(self) -> Any:
        return Model().stream("a greeting")

    def open_cut_off_stream(self) -> Any:
        return Model(end="cut").stream("a greeting")


class TestAsyncStreams(LangChain, contracts.AsyncStreamContract):
    stream_type = AsyncGenerator

    async def open_stream(self) -> Any:
        return Model().astream("a greeting")

    async def open_cut_off_stream(self) -> Any:
        return Model(end="cut").astream("a greeting")

    async def open_slow_stream(self) -> Any:
        return Model(end="slow").astream("a greeting")


class State(TypedDict):
    said: str


class LangGraph(LangChain):
    """A graph of two nodes that streams the state after each; its run is the span of the stream."""

    span: ClassVar[str] = "invoke_workflow"
    tokens: ClassVar[tuple[int, int] | None] = None

    def autolog(self, **options: Any) -> None:
        integrations.langgraph.autolog(**options)

    def read_chunk(self, chunk: Any) -> Any:
        return chunk

    def find_span(self) -> ReadableSpan:
        (span,) = self.spans.named(self.span)
        assert len({one.context.span_id for one in self.spans.all if one.context}) == len(self.spans.all)
        return span

    def check_left(self, *, end: str | None = None, error: type[BaseException] | None = None) -> None:
        """Check the span of a run that was left after one step; LangGraph reports no output of such a run."""
        self.check_span(end=end, error=error)

    def make_graph(self, end: str = "whole") -> Any:
        def second(state: State) -> State:
            if end == "cut":
                raise CutOffError("gone")
            return {"said": state["said"] + "two."}

        async def wait(state: State) -> State:
            await asyncio.sleep(0.6)
            return second(state)

        graph = StateGraph(State).add_node("first", lambda _: {"said": "One "})
        graph.add_node("second", wait if end == "slow" else second)
        return graph.add_edge(START, "first").add_edge("first", "second").add_edge("second", END).compile()


class TestGraphStreams(LangGraph, contracts.StreamContract):
    stream_type = Generator

    def open_stream(self) -> Any:
        return self.make_graph().stream({"said": "a greeting"})

    def open_cut_off_stream(self) -> Any:
        return self.make_graph("cut").stream({"said": "a greeting"})


class TestAsyncGraphStreams(LangGraph, contracts.AsyncStreamContract):
    stream_type = AsyncGenerator

    async def open_stream(self) -> Any:
        return self.make_graph().astream({"said": "a greeting"})

    async def open_cut_off_stream(self) -> Any:
        return self.make_graph("cut").astream({"said": "a greeting"})

    async def open_slow_stream(self) -> Any:
        return self.make_graph("slow").astream({"said": "a greeting"})
