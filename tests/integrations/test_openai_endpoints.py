"""What of the client is no chat: embeddings, completions, pictures, sounds, moderations, files, stores, runs."""

from __future__ import annotations

import base64
import warnings
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import openai
import pytest

from mlspan import integrations
from mlspan.testing import Spans, content

pytestmark = pytest.mark.usefixtures("openai_on")


def parts(spans: Spans, name: str = "gen_ai.output.messages") -> Any:
    return [part for message in content(spans.one(), name) for part in message["parts"]]


def test_embeddings_have_counts_and_no_vectors(scripted_client: openai.OpenAI, scripted: Any, spans: Spans) -> None:
    """Texts, dimensions and tokens; the vectors are nowhere."""
    vector = base64.b64encode(bytes(4 * 256)).decode()
    data = [{"object": "embedding", "index": n, "embedding": vector} for n in range(2)]
    usage = {"prompt_tokens": 6, "total_tokens": 6}
    scripted.reply({"object": "list", "model": "text-embedding-3-small", "data": data, "usage": usage})
    got = scripted_client.embeddings.create(model="text-embedding-3-small", input=["a cat", "a dog"], dimensions=256)
    assert len(got.data[0].embedding) == 256
    span = spans.one()
    assert spans.tree() == "embeddings text-embedding-3-small [6 in, 0 out]"
    assert (span.attributes or {})["gen_ai.embeddings.dimension.count"] == 256
    assert content(span, "mlspan.input") == ["a cat", "a dog"]
    assert vector not in str(span.attributes)


@pytest.mark.parametrize("stream", [False, True])
def test_legacy_completions(scripted_client: openai.OpenAI, scripted: Any, spans: Spans, stream: bool) -> None:
    """Text in, text out, whole or streamed."""
    head = {"id": "cmpl-1", "object": "text_completion", "created": 1, "model": "gpt-3.5-turbo-instruct"}
    usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}

    def piece(text: str, reason: str | None) -> dict[str, Any]:
        return {"index": 0, "text": text, "finish_reason": reason, "logprobs": None}

    if stream:
        scripted.stream(
            {**head, "choices": [piece("Once ", None)]},
            {**head, "choices": [piece("more.", "stop")], "usage": usage},
            "[DONE]",
        )
    else:
        scripted.reply({**head, "choices": [piece("Once more.", "stop")], "usage": usage})
    got = scripted_client.completions.create(model="gpt-3.5-turbo-instruct", prompt="Say it.", stream=stream)
    if stream:
        list(got)
    assert spans.tree() == "text_completion gpt-3.5-turbo-instruct [3 in, 2 out]"
    assert parts(spans) == [{"type": "text", "content": "Once more."}]
    assert parts(spans, "gen_ai.input.messages") == [{"type": "text", "content": "Say it."}]


def test_pictures_are_told_by_their_size(client: openai.OpenAI, spans: Spans) -> None:
    """A generated picture is recorded by reference: its address, or how large it is."""
    got = client.images.generate(model="gpt-image-1", prompt="a cat", n=2, size="1024x1024")
    assert spans.tree("mlspan.image.size") == "generate_content gpt-image-1 [mlspan.image.size=1024x1024]"
    assert got.data[0].b64_json not in str(spans.one().attributes)
    assert (spans.one().attributes or {})["gen_ai.output.type"] == "image"
    assert (spans.one().attributes or {})["gen_ai.request.choice.count"] == 2
    assert parts(spans) == [
        {"type": "text", "content": "A small cat."},
        {"type": "image", "content": {"mime_type": "image/png", "bytes": 8}},
        {"type": "uri", "modality": "image", "uri": "https://pictures.test/cat.png"},
    ]


def test_pictures_are_recorded_if_asked_for(client: openai.OpenAI, spans: Spans) -> None:
    """``log_images=True`` keeps the picture itself."""
    integrations.openai.autolog(log_images=True)
    got = client.images.generate(model="gpt-image-1", prompt="a cat")
    blob = {"type": "blob", "modality": "image", "mime_type": "image/png", "content": got.data[0].b64_json}
    assert blob in parts(spans)


@pytest.mark.parametrize("what", ["edit", "create_variation"])
def test_pictures_that_are_sent_are_told_by_name_and_size(
    scripted_client: openai.OpenAI, scripted: Any, spans: Spans, what: str
) -> None:
    """Edits and variations say which file went in, and the tokens that the model counts for it."""
    usage = {"input_tokens": 60, "output_tokens": 100, "total_tokens": 160}
    usage |= {"input_tokens_details": {"text_tokens": 10, "image_tokens": 50}}
    scripted.reply({"created": 1, "data": [{"url": "https://pictures.test/b.png"}], "usage": usage})
    more = {"prompt": "a cat", "model": "gpt-image-1"} if what == "edit" else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        getattr(scripted_client.images, what)(image=("a.png", b"1234"), **more)
    attributes = spans.one().attributes or {}
    sent = [part for part in parts(spans, "gen_ai.input.messages") if part["type"] == "image"]
    assert sent == [{"type": "image", "content": {"name": "a.png", "bytes": 4}}]
    assert attributes["gen_ai.usage.image.input_tokens"] == 50
    assert spans.tree().endswith("[60 in, 100 out]")


@pytest.mark.parametrize("unread", [False, True])
def test_speech(client: openai.OpenAI, spans: Spans, unread: bool) -> None:
    """Text in, sound out: the sound is scripted_client by its size, read at once or piece by piece."""
    ask: Any = {"model": "tts-1", "voice": "alloy", "input": "say hello"}
    if unread:
        with client.audio.speech.with_streaming_response.create(**ask) as response:
            size = len(b"".join(response.iter_bytes()))
    else:
        size = len(client.audio.speech.create(**ask).content)
    assert spans.tree("mlspan.audio.voice") == "generate_content tts-1 [mlspan.audio.voice=alloy]"
    assert parts(spans) == [{"type": "audio", "content": {"bytes": size}}]
    assert (spans.one().attributes or {})["gen_ai.output.type"] == "speech"


@pytest.mark.parametrize(("what", "said"), [("transcriptions", "Hello there."), ("translations", "Good day.")])
def test_sound_to_text(client: openai.OpenAI, spans: Spans, what: str, said: str) -> None:
    """The file by name and size, and the text that came of it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        got = getattr(client.audio, what).create(model="whisper-1", file=("a.wav", b"RIFF1234"))
    assert got.text == said
    assert spans.tree() == "generate_content whisper-1"
    assert parts(spans, "gen_ai.input.messages") == [{"type": "audio", "content": {"name": "a.wav", "bytes": 8}}]
    assert parts(spans) == [{"type": "text", "content": said}]


def test_a_streamed_transcription(scripted_client: openai.OpenAI, scripted: Any, spans: Spans, needs: Any) -> None:
    """Its text comes in pieces, its tokens at the end."""
    needs(scripted_client.audio.transcriptions.create, "stream")
    usage = {"type": "tokens", "input_tokens": 14, "output_tokens": 4, "total_tokens": 18}
    usage |= {"input_token_details": {"text_tokens": 0, "audio_tokens": 14}}
    pieces = [{"type": "transcript.text.delta", "delta": word} for word in ("Hello ", "there.")]
    scripted.stream(*pieces, {"type": "transcript.text.done", "text": "Hello there.", "usage": usage}, "[DONE]")
    list(scripted_client.audio.transcriptions.create(model="gpt-4o-transcribe", file=("a.wav", b"RIFF"), stream=True))
    assert spans.tree() == "generate_content gpt-4o-transcribe [14 in, 4 out]"
    assert parts(spans) == [{"type": "text", "content": "Hello there."}]
    assert (spans.one().attributes or {})["gen_ai.usage.audio.input_tokens"] == 14


def test_moderations(scripted_client: openai.OpenAI, scripted: Any, spans: Spans) -> None:
    """How many texts were flagged, and as what."""
    names = ("harassment", "hate", "illicit", "self-harm", "sexual", "violence")
    categories = {name: name == "violence" for name in names}
    scores = dict.fromkeys(names, 0.1)
    result = {"flagged": True, "categories": categories, "category_scores": scores, "category_applied_input_types": {}}
    scripted.reply({"id": "modr-1", "model": "omni-moderation-latest", "results": [result]})
    scripted_client.moderations.create(model="omni-moderation-latest", input="I will fight you.")
    assert spans.tree("mlspan.moderation.flagged") == "moderations.create [mlspan.moderation.flagged=1]"
    assert content(spans.one(), "mlspan.output") == [{"flagged": True, "categories": ["violence"]}]


def test_files_and_batches_are_operations_with_ids_and_counts(client: openai.OpenAI, spans: Spans) -> None:
    """Each request is a span that says what was done to what."""
    file = client.files.create(file=("a.jsonl", b"{}"), purpose="batch")
    batch = client.batches.create(input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h")
    client.batches.retrieve(batch.id)
    client.batches.cancel(batch.id)
    assert client.files.content(file.id).content == b"{}"
    list(client.files.list())
    client.files.delete(file.id)
    client.models.list()
    assert [span.name for span in spans.all] == [
        *("files.create", "batches.create", "batches.retrieve", "batches.cancel"),
        *("files.content", "files.list", "files.delete"),
    ]
    made, asked, read = spans.all[0], spans.all[2], spans.all[4]
    assert (made.attributes or {})["mlspan.response.id"] == file.id
    assert content(made, "mlspan.input") == {"purpose": "batch", "files": [{"name": "a.jsonl", "bytes": 2}]}
    assert (asked.attributes or {})["mlspan.request.id"] == batch.id
    assert (asked.attributes or {})["mlspan.request_counts.total"] == 1
    assert (read.attributes or {})["mlspan.response.bytes"] == 2


def test_a_search_in_a_vector_store_is_a_retrieval(scripted_client: openai.OpenAI, scripted: Any, spans: Spans) -> None:
    """Query, store and documents with ids and scores."""
    piece = {"type": "text", "text": "Cats purr."}
    found = {"file_id": "file-1", "filename": "cats.txt", "score": 0.87, "attributes": {}, "content": [piece]}
    scripted.reply({"object": "vector_store.search_results.page", "search_query": "cats", "data": [found]})
    if not hasattr(scripted_client.vector_stores, "search"):
        pytest.skip("this version of the client has no search in vector stores")
    list(scripted_client.vector_stores.search("vs_1", query="cats", max_num_results=3))
    assert spans.tree("gen_ai.retrieval.top_k") == "retrieval vs_1 [gen_ai.retrieval.top_k=3]"
    (document,) = content(spans.one(), "gen_ai.retrieval.documents")
    assert (document["id"], document["score"], document["content"]) == ("file-1", 0.87, "Cats purr.")


RUN: dict[str, Any] = {
    "id": "run_1",
    "object": "thread.run",
    "created_at": 1,
    "assistant_id": "asst_1",
    "model": "gpt-4o",
}
RUN |= {"thread_id": "thread_1", "status": "completed", "instructions": "", "tools": [], "metadata": {}}
RUN |= {"parallel_tool_calls": True, "usage": {"prompt_tokens": 30, "completion_tokens": 7, "total_tokens": 37}}


@pytest.mark.parametrize("stream", [False, True])
def test_a_run_of_an_assistant_is_an_agent_at_the_provider(
    scripted_client: openai.OpenAI, scripted: Any, spans: Spans, stream: bool
) -> None:
    """Assistant, thread, tokens and text of a run, whole or streamed."""
    if not hasattr(scripted_client.beta, "threads"):
        pytest.skip("this version of the client has no assistants")
    if stream:
        delta = {"id": "msg_1", "object": "thread.message.delta"}
        delta["delta"] = {"content": [{"index": 0, "type": "text", "text": {"value": "Hi."}}]}  # type: ignore[assignment]
        scripted.stream(("thread.message.delta", delta), ("thread.run.completed", RUN))
    else:
        scripted.reply(RUN)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        got: Any = scripted_client.beta.threads.runs.create("thread_1", assistant_id="asst_1", stream=stream)
        if stream:
            list(got)
    attributes = spans.one().attributes or {}
    assert spans.tree() == "invoke_agent [30 in, 7 out]"
    assert (attributes["gen_ai.agent.id"], attributes["gen_ai.conversation.id"]) == ("asst_1", "thread_1")
    if stream:
        assert parts(spans) == [{"type": "text", "content": "Hi."}]


HOSTS: list[tuple[str, str]] = [
    ("https://api.openai.com/v1", "openai"),
    ("https://api.groq.com/openai/v1", "groq"),
    ("https://api.deepseek.com", "deepseek"),
    ("https://mine.openai.azure.com/openai/v1", "azure.ai.openai"),
    ("https://openrouter.ai/api/v1", "openrouter"),
    ("https://api.together.xyz/v1", "together"),
    ("http://localhost:11434/v1", "openai"),
]


@pytest.mark.parametrize(("url", "name"), HOSTS)
def test_the_provider_is_known_by_its_host(spans: Spans, url: str, name: str) -> None:
    """Compatible servers are named where the conventions have a name, and always by their address."""
    httpx: Callable[..., Any] | Any = __import__("httpx2" if openai.__version__ >= "3" else "httpx")
    whole = {"id": "c-1", "object": "chat.completion", "created": 1, "model": "m", "choices": []}
    transport = httpx.MockTransport(lambda _: httpx.Response(200, json=whole))
    with openai.OpenAI(base_url=url, api_key="x", http_client=httpx.Client(transport=transport)) as client:
        client.chat.completions.create(model="m", messages=[{"role": "user", "content": "hello"}])
    attributes = spans.one().attributes or {}
    assert attributes["gen_ai.provider.name"] == name
    assert urlsplit(url).hostname == attributes["server.address"]
