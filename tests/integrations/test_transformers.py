"""transformers: pipelines and ``generate`` of tiny models with random weights, which the tests make themselves."""

from __future__ import annotations

import json
import threading
import warnings
from collections.abc import Iterator
from typing import Any, ClassVar

import pytest

pytest.importorskip("torch", reason="in the nox session transformers")
pytest.importorskip("transformers", reason="in the nox session transformers")
import tiny_models
import torch
from transformers import StoppingCriteria, TextIteratorStreamer, TextStreamer, pipeline
from transformers.generation.streamers import BaseStreamer
from transformers.generation.utils import GenerationMixin
from transformers.pipelines.base import Pipeline
from transformers.pipelines.pt_utils import KeyDataset

from mlspan import integrations, tracing
from mlspan.testing import Spans, contracts

FREE: Any = {"do_sample": False, "suppress_tokens": [2]}  # the model cannot end an answer, which a test does
GREEDY: Any = {**FREE, "max_new_tokens": 3}
CHAT: Any = [{"role": "system", "content": "brief"}, {"role": "user", "content": "hello world"}]


@pytest.fixture
def traced(spans: Spans) -> Iterator[Spans]:
    integrations.transformers.autolog()
    yield spans
    integrations.transformers.autolog(disable=True)


def make_pipe(task: str = "text-generation", model: Any = None, **more: Any) -> Any:
    return pipeline(task, model=model or tiny_models.make_model(), tokenizer=tiny_models.make_tokenizer(), **more)


def encode(*texts: str) -> dict[str, Any]:
    """Return the ids of *texts*, those of the shorter ones with padding before them."""
    found = tiny_models.make_tokenizer()(list(texts), return_tensors="pt", padding=True)
    return {name: found[name] for name in ("input_ids", "attention_mask")}


def read(span: Any, *names: str) -> list[Any]:
    """Return attributes of *span*; their names are given without ``gen_ai.``."""
    return [span.attributes.get(f"gen_ai.{name}") for name in names]


def read_texts(span: Any, which: str = "output") -> list[str]:
    messages = json.loads(span.attributes[f"gen_ai.{which}.messages"])
    return ["".join(part["content"] for part in message["parts"]) for message in messages]


class _Contract(contracts.CallContract):
    def autolog(self, **options: Any) -> None:
        integrations.transformers.autolog(**options)

    def list_targets(self) -> list[tuple[object, str]]:
        generating: list[tuple[object, str]] = [(GenerationMixin, "generate"), (TextStreamer, "put")]
        return [*generating, (Pipeline, "__call__"), (Pipeline, "forward")]


class TestPipelineCalls(_Contract):
    span = "text_completion tiny"
    tokens: ClassVar[Any] = (2, 3)
    texts: ClassVar[Any] = ("hello world",)
    fails = ValueError

    def make_call(self) -> object:
        return make_pipe()("hello world", **GREEDY)

    def make_failing_call(self) -> object:
        return make_pipe()("hello world", max_new_tokens=-1)


class TestGenerateCalls(_Contract):
    span = "text_completion tiny"
    tokens: ClassVar[Any] = (2, 3)
    fails = ValueError

    def make_call(self) -> object:
        return tiny_models.make_model().generate(**encode("hello world"), **GREEDY).tolist()

    def make_failing_call(self) -> object:
        return tiny_models.make_model().generate(**encode("hello world"), max_new_tokens=-1)


class TestEmbeddingCalls(_Contract):
    span = "embeddings tiny-bert"
    tokens: ClassVar[Any] = (3, None)
    texts: ClassVar[Any] = ("hello world",)
    fails = ValueError

    def make_call(self) -> object:
        return make_pipe("feature-extraction", tiny_models.make_reader("BertModel"))(["hello world", "one"])

    def make_failing_call(self) -> object:
        return make_pipe("feature-extraction", tiny_models.make_reader("BertModel"))([1])


def test_a_chat(traced: Spans) -> None:
    """A list of messages is a chat: they are its input, and the answer alone its output."""
    make_pipe()(CHAT, **GREEDY, temperature=None)
    span = traced.one()
    assert traced.tree() == "chat tiny [6 in, 3 out]"
    assert read_texts(span, "input") == ["brief", "hello world"]
    assert len(read_texts(span)) == 1
    assert not read_texts(span)[0].startswith("brief")
    assert read(span, "request.max_tokens", "response.finish_reasons") == [3, ("length",)]


def test_a_batch_is_one_span_with_the_counts_of_all(traced: Spans) -> None:
    """However the pipeline cuts it into calls of ``generate``; padding counts nothing, and each answer has an end."""
    torch.manual_seed(1)
    more = {"do_sample": True, "max_new_tokens": 3, "num_return_sequences": 2, "temperature": 0.5, "top_p": 0.9}
    for size in (1, 2):
        results = make_pipe()(["hello world how", "one"], batch_size=size, **more)
        span = traced.all[-1]
        assert len(traced.all) == size, traced.tree()
        assert read(span, "usage.input_tokens", "request.choice.count", "request.temperature", "request.top_p") == [
            *(4, 2, 0.5, 0.9)
        ]
        said = [one["generated_text"] for result in results for one in result]
        shown = [prompt + text for prompt, text in zip(_twice("hello world how", "one"), read_texts(span), strict=True)]
        assert shown == said
        assert len(read(span, "response.finish_reasons")[0]) == 4
        assert {"length", "stop"} >= set(read(span, "response.finish_reasons")[0])
        assert read_texts(span, "input") == ["hello world how", "one"]


def _twice(*texts: str) -> list[str]:
    return [text for text in texts for _ in range(2)]


@pytest.mark.parametrize("how", ["asked", "made"])
def test_an_answer_that_repeats_its_prompt(traced: Spans, how: str) -> None:
    """Where the pipeline returns the new text alone, nothing is cut off it."""
    more: Any = {"return_full_text": False}
    answer = make_pipe()("hello", **more, **GREEDY) if how == "asked" else make_pipe(**more)("hello", **GREEDY)
    assert read_texts(traced.one()) == [answer[0]["generated_text"]]


def test_an_iterator_works_when_it_is_read(traced: Spans) -> None:
    """What is given a generator or a data set returns an iterator: each call of ``generate`` is a span."""
    results = make_pipe()((text for text in ("hello", "one two")), **GREEDY)
    assert traced.tree() == ""
    assert len(list(results)) == 2
    rows: Any = [{"text": "hello"}, {"text": "one two"}]
    list(make_pipe("feature-extraction", tiny_models.make_reader("BertModel"))(KeyDataset(rows, "text")))
    assert [span.name for span in traced.all] == ["text_completion tiny"] * 2 + ["embeddings tiny-bert"] * 2
    assert [read(span, "usage.input_tokens") for span in traced.all] == [[1], [2], [1], [2]]


def test_generate_counts_what_is_no_padding(traced: Spans) -> None:
    """Of prompts by their mask, else by the id of padding; of answers up to the end of each."""
    model, given = tiny_models.make_model(), encode("hello world how", "one")
    rows = model.generate(**given, max_new_tokens=9, **FREE)[:, 3:].tolist()
    stop = next(id for id in rows[0] + rows[1] if _find_length(rows[0], id) != _find_length(rows[1], id))
    more = {"max_new_tokens": 9, "eos_token_id": stop, **FREE}
    model.generate(**given, **more)
    model.generate(given["input_ids"], **more)
    model.generate(**given, **more, return_dict_in_generate=True)
    lengths = [_find_length(row, stop) for row in rows]
    for span in traced.all[1:]:
        reasons = tuple("stop" if stop in row else "length" for row in rows)
        expected = [4, sum(lengths), reasons]
        assert read(span, "usage.input_tokens", "usage.output_tokens", "response.finish_reasons") == expected
        assert "gen_ai.output.messages" not in span.attributes, "ids are no text"
    assert len(traced.all) == 4


def _find_length(row: list[int], stop: int) -> int:
    """Return the length of an answer that *stop* ends, which is part of it."""
    return row.index(stop) + 1 if stop in row else len(row)


def test_other_prompts(traced: Spans) -> None:
    """Vectors in the place of ids, and none at all."""
    model = tiny_models.make_model()
    embeds = model.get_input_embeddings()(encode("hello world")["input_ids"])
    model.generate(inputs_embeds=embeds, **GREEDY)
    model.generate(**GREEDY)
    assert [read(span, "usage.input_tokens", "usage.output_tokens") for span in traced.all] == [[2, 3], [None, 3]]


def test_an_encoder_has_the_prompt(traced: Spans) -> None:
    """The decoder's first token is none of the answer."""
    rows = tiny_models.make_translator().generate(**encode("hello world", "one"), max_new_tokens=4, do_sample=False)
    assert rows.shape[1] == 5
    assert read(traced.one(), "usage.input_tokens", "usage.output_tokens")[0] == 3
    assert read(traced.one(), "usage.output_tokens")[0] <= 8


class _AfterTwo(StoppingCriteria):
    def __call__(self, input_ids: Any, scores: Any, **_: Any) -> Any:
        return torch.full((input_ids.shape[0],), input_ids.shape[1] >= 3)


def test_why_an_answer_has_ended(traced: Spans) -> None:
    """The limit, the whole length, what the caller has said, or the end of the text."""
    model, one = tiny_models.make_model(), encode("hello")
    row = model.generate(**one, **FREE, max_new_tokens=9)[0, 1:].tolist()
    model.generate(**one, **FREE, max_length=3)
    model.generate(**one, **FREE, max_new_tokens=9, stopping_criteria=[_AfterTwo()])
    model.generate(**one, **FREE, max_new_tokens=9, eos_token_id=[row[1], 2])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # newer versions warn of their default
        model.generate(**one, **FREE)
    found = [read(span, "usage.output_tokens", "response.finish_reasons") for span in traced.all]
    ended = [_find_length(row, row[1]), ("stop",)]
    assert found == [[9, ("length",)], [2, ("length",)], [2, ("stop",)], ended, [20, ("length",)]]


def test_a_drafting_model_is_part_of_the_call(traced: Spans) -> None:
    """It generates too, but what it drafts is not counted."""
    model = tiny_models.make_model()
    model.generate(**encode("hello"), do_sample=False, max_new_tokens=9, assistant_model=model)
    (out,) = read(traced.one(), "usage.output_tokens")
    assert traced.tree() == f"text_completion tiny [1 in, {out} out]"
    assert out <= 9


def test_a_streamer_in_a_thread(traced: Spans) -> None:
    """The texts of prompt and answer are known by the streamer, and so is when the first token came."""
    streamer = TextIteratorStreamer(tiny_models.make_tokenizer(), skip_prompt=True, skip_special_tokens=True)
    asked = {**encode("hello"), **GREEDY, "streamer": streamer}
    with tracing.span("request"):
        thread = threading.Thread(target=tracing.wrap(tiny_models.make_model().generate), kwargs=asked)
        thread.start()
        said = "".join(streamer)
        thread.join(60)
    assert traced.tree().splitlines() == ["request", "  text_completion tiny [1 in, 3 out]"]
    (span,) = traced.named("text_completion tiny")
    assert (read_texts(span, "input"), read_texts(span)) == (["hello"], [said])
    stream, first = read(span, "request.stream", "response.time_to_first_chunk")
    assert stream is True
    assert 0 < first < (span.end_time - span.start_time) / 1e9


def test_a_stream_that_fails(traced: Spans) -> None:
    """What was streamed before counts, and the error is the span's."""

    class Full(TextStreamer):
        def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
            if len(self.token_cache) > 1:
                raise BufferError("full")

    streamer = Full(tiny_models.make_tokenizer(), skip_prompt=True)
    with pytest.raises(BufferError):
        tiny_models.make_model().generate(**encode("hello"), **GREEDY, streamer=streamer)
    span = traced.one()
    assert read(span, "usage.input_tokens") == [1]
    assert read(span, "usage.output_tokens") == [1]
    assert span.attributes["error.type"] == "BufferError"


def test_a_streamer_of_ones_own(traced: Spans) -> None:
    """One without a tokenizer has no texts, and is given the same values."""

    class Ids(BaseStreamer):
        seen: ClassVar[list[Any]] = []

        def put(self, value: Any) -> None:
            self.seen.append(value.tolist())

        def end(self) -> None:
            self.seen.append("end")

    tiny_models.make_model().generate(**encode("hello"), **GREEDY, streamer=Ids())
    assert Ids.seen[0] == [[4]]
    assert Ids.seen[-1] == "end"
    assert traced.tree() == "text_completion tiny [1 in, 3 out]"
    assert "gen_ai.output.messages" not in traced.one().attributes


def test_pipelines_that_do_not_generate(traced: Spans) -> None:
    """They are steps, named by their task, with what went in and what came out."""
    sorted_into = make_pipe("text-classification", tiny_models.make_reader("BertForSequenceClassification"))
    result = sorted_into(["hello", "one"])
    make_pipe("token-classification", tiny_models.make_reader("BertForTokenClassification"))("hello world")
    zero = make_pipe("zero-shot-classification", tiny_models.make_reader("BertForSequenceClassification"))
    zero("hello", candidate_labels=["one", "two"])
    assert [span.name for span in traced.all] == [
        *("text-classification", "token-classification", "zero-shot-classification")
    ]
    first = traced.all[0].attributes
    assert first["gen_ai.request.model"] == "tiny-bert"
    assert json.loads(first["mlspan.output"]) == result


def test_vectors_have_a_length_and_are_not_recorded(traced: Spans) -> None:
    """The tokens of all texts count; the vectors are counted by what they hold."""
    make = make_pipe("feature-extraction", tiny_models.make_reader("BertModel"))
    make(["hello world", "one"], batch_size=2)
    span = traced.one()
    assert read(span, "usage.input_tokens", "embeddings.dimension.count") == [3, 64]
    assert "mlspan.output" not in span.attributes


def test_what_is_no_text_is_described(traced: Spans) -> None:
    """Of pictures, sounds and tensors the kind and the size are recorded, never what they hold."""
    numpy = pytest.importorskip("numpy")
    from mlspan.integrations.transformers.tensors import describe

    found = describe({"a": numpy.zeros((2, 3)), "b": [torch.ones(4), b"123"], "c": numpy.float32(0.5), "d": object()})
    assert found == {"a": "[ndarray 2 x 3]", "b": ["[Tensor 4]", "[3 bytes]"], "c": 0.5, "d": "[object]"}


def test_other_functions_of_a_pipeline(traced: Spans) -> None:
    """``predict`` and ``transform`` call the pipeline; ``generate`` by itself is no part of one."""
    pipe = make_pipe(**GREEDY)
    pipe.transform("hello")
    pipe.model.generate(**encode("hello"), **GREEDY)
    assert traced.tree().splitlines() == ["text_completion tiny [1 in, 3 out]"] * 2
    assert read(traced.all[0], "request.max_tokens") == [3]


def test_a_pipeline_inside_of_a_frameworks_call(traced: Spans) -> None:
    """LangChain's model over a pipeline is one span with the pipeline's tokens."""
    from mlspan.tracing.operations.operation import start_operation
    from mlspan.tracing.operations.records import Chat
    from mlspan.tracing.runtime import get_runtime

    now = get_runtime()
    assert now is not None
    with start_operation(now, Chat(provider="transformers", model="tiny", outer=True)):
        make_pipe()(CHAT, **GREEDY)
    assert [read(span, "usage.input_tokens", "usage.output_tokens") for span in traced.all] == [[6, 3]]
