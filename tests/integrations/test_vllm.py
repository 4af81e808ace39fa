"""vLLM: its real engine on this machine's CPU, in this process, with a tiny model that the test makes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any, ClassVar, Final

import pytest

pytest.importorskip("vllm", reason="in the nox session vllm, with the build for CPUs")
import tiny_models
from vllm import LLM, SamplingParams
from vllm.entrypoints.llm import LLM as LLM_CLASS
from vllm.exceptions import VLLMValidationError
from vllm.sampling_params import RequestOutputKind
from vllm.v1.engine.async_llm import AsyncLLM

from mlspan import integrations
from mlspan.testing import Spans, contracts

GREEDY: Final = SamplingParams(temperature=0.0, max_tokens=3, ignore_eos=True)
CHAT: Any = [{"role": "system", "content": "brief"}, {"role": "user", "content": "hello world"}]
# One process, no compiler, little memory: a model is ready in seconds.
ENGINE: Final[Any] = {"dtype": "float32", "max_model_len": 64, "enforce_eager": True, "max_num_seqs": 4}


@pytest.fixture(scope="module", autouse=True)
def _environment() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {
            "OMP_NUM_THREADS": "1",  # more would spin for a model as small as this
            "VLLM_CPU_KVCACHE_SPACE": "1",
            "VLLM_CPU_OMP_THREADS_BIND": "nobind",
            "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
            "VLLM_NO_USAGE_STATS": "1",
            "VLLM_LOGGING_LEVEL": "ERROR",
        }.items():
            patch.setenv(name, value)
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return tiny_models.save_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def engine(folder: str) -> Any:
    """The engine, which takes a minute to start."""
    return LLM(model=folder, disable_log_stats=True, **ENGINE)


@pytest.fixture
def traced(spans: Spans, engine: Any) -> Iterator[Spans]:
    integrations.vllm.autolog()
    yield spans
    integrations.vllm.autolog(disable=True)


def read(span: Any, *names: str) -> list[Any]:
    """Return attributes of *span*; their names are given without ``gen_ai.``."""
    return [span.attributes.get(f"gen_ai.{name}") for name in names]


def read_texts(span: Any, which: str = "output") -> list[str]:
    messages = json.loads(span.attributes[f"gen_ai.{which}.messages"])
    return ["".join(part["content"] for part in message["parts"]) for message in messages]


class TestCalls(contracts.CallContract):
    tokens: ClassVar[Any] = (2, 3)
    texts: ClassVar[Any] = ("hello world",)
    fails = VLLMValidationError

    @pytest.fixture(autouse=True)
    def _engine(self, engine: Any, folder: str) -> None:
        self.engine = engine
        type(self).span = f"text_completion {folder}"

    def autolog(self, **options: Any) -> None:
        integrations.vllm.autolog(**options)

    def list_targets(self) -> list[tuple[object, str]]:
        return [(LLM_CLASS, "generate"), (LLM_CLASS, "chat"), (AsyncLLM, "generate")]

    def make_call(self) -> object:
        return self.engine.generate("hello world", GREEDY, use_tqdm=False)

    def read_answer(self, answer: Any) -> object:
        return [[(one.text, one.finish_reason) for one in request.outputs] for request in answer]

    def make_failing_call(self) -> object:
        return self.engine.generate("hello " * 99, GREEDY, use_tqdm=False)


def test_a_batch_is_one_span_with_the_counts_of_all(traced: Spans, engine: Any) -> None:
    """Each answer has its text and its end; a prompt counts once, however many answers it has."""
    asked = SamplingParams(n=2, temperature=0.5, top_p=0.9, top_k=5, max_tokens=4, seed=7, stop=["three"])
    results = engine.generate(["hello world how", "one"], asked, use_tqdm=False)
    span = traced.one()
    answers = [one for result in results for one in result.outputs]
    assert read(span, "usage.input_tokens", "usage.output_tokens") == [4, sum(len(one.token_ids) for one in answers)]
    assert read_texts(span) == [one.text for one in answers]
    assert read(span, "response.finish_reasons")[0] == tuple(one.finish_reason for one in answers)
    names = ("temperature", "top_p", "top_k", "max_tokens", "seed", "stop_sequences", "choice.count")
    assert read(span, *(f"request.{name}" for name in names)) == [0.5, 0.9, 5, 4, 7, ("three",), 2]
    assert read_texts(span, "input") == ["hello world how", "one"]


def test_a_chat(traced: Spans, engine: Any, folder: str) -> None:
    """One list of messages is a chat; several are a batch."""
    engine.chat(CHAT, GREEDY, use_tqdm=False)
    engine.chat([CHAT, CHAT[1:]], GREEDY, use_tqdm=False)
    tokens = ("[6 in, 3 out]", "[10 in, 6 out]")
    assert traced.tree().splitlines() == [f"chat {folder} {one}" for one in tokens]
    assert read_texts(traced.all[0], "input") == ["brief", "hello world"]
    assert read(traced.all[1], "response.finish_reasons") == [("length", "length")]
    assert len(read_texts(traced.all[1])) == 2


def test_other_prompts(traced: Spans, engine: Any) -> None:
    """Ids are counted, and are no text; options that no call has named are not recorded."""
    engine.generate({"prompt_token_ids": [4, 5]}, GREEDY, use_tqdm=False)
    engine.generate([{"prompt": "hello world"}], use_tqdm=False)
    engine.generate(["hello", "one"], [GREEDY, SamplingParams(max_tokens=2)], use_tqdm=False)
    assert [read(span, "usage.input_tokens")[0] for span in traced.all] == [2, 2, 2]
    assert read_texts(traced.all[0], "input") == ["[2 tokens]"]
    assert [read(span, "request.max_tokens")[0] for span in traced.all] == [3, None, None]


@pytest.fixture(scope="module")
def embedder(folder: str) -> Any:
    made = LLM(model=folder, runner="pooling", convert="embed", disable_log_stats=True, **ENGINE)
    made.embed("one", use_tqdm=False)  # starts its threads
    return made


def test_embeddings(embedder: Any, traced: Spans, folder: str) -> None:
    """The tokens of all texts count; of the vectors only the length is recorded."""
    found = embedder.embed(["hello world", "one"], use_tqdm=False)
    span = traced.one()
    # the model's tokenizer may begin each text with a token of its own
    assert read(span, "usage.input_tokens") == [sum(len(one.prompt_token_ids) for one in found)]
    assert read(span, "embeddings.dimension.count") == [64]
    assert span.name == f"embeddings {folder}"


@asynccontextmanager
async def start_engine(folder: str) -> AsyncIterator[Any]:
    from vllm.engine.arg_utils import AsyncEngineArgs

    made = AsyncLLM.from_engine_args(AsyncEngineArgs(model=folder, disable_log_stats=True, **ENGINE))
    try:
        yield made
    finally:
        made.shutdown()


# The engine leaves its sockets to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")
def test_streams_of_the_asynchronous_engine(spans: Spans, folder: str) -> None:
    """A stream that tells all of it each time, one that tells what is new, one that is left, and one that fails."""
    found: list[Any] = []

    async def run() -> None:
        async with start_engine(folder) as made:
            for kind in (RequestOutputKind.CUMULATIVE, RequestOutputKind.DELTA, RequestOutputKind.FINAL_ONLY):
                asked = SamplingParams(temperature=0.0, max_tokens=3, ignore_eos=True, output_kind=kind)
                found.append([one async for one in made.generate("hello world", asked, f"r-{kind.name}")])
            many = SamplingParams(temperature=0.0, max_tokens=50, ignore_eos=True)
            stream = made.generate("hello world", many, "r-left")
            async for _ in stream:
                break
            await stream.aclose()
            with pytest.raises(Exception, match="length"):
                async for _ in made.generate("hello " * 99, GREEDY, "r-long"):
                    pass

    integrations.vllm.autolog()
    try:
        asyncio.run(run())
    finally:
        integrations.vllm.autolog(disable=True)
    # its start has spans of vLLM's own
    *whole, left, failed = [span for span in spans.all if span.name.startswith("text_completion")]
    assert len(whole) == 3
    text = found[0][-1].outputs[0].text
    for span in whole:
        assert read(span, "usage.input_tokens", "usage.output_tokens") == [2, 3]
        assert read(span, "response.finish_reasons", "request.stream") == [("length",), True]
        assert read_texts(span) == [text]
        assert read(span, "response.time_to_first_chunk")[0] > 0
    assert left.attributes["mlspan.stream.end"] == "closed"
    assert 1 <= read(left, "usage.output_tokens")[0] < 50
    assert failed.attributes["error.type"]
