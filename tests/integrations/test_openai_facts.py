"""What requests and answers say beside the messages: templates, verbosity, citations, servers of tools, models."""

from __future__ import annotations

from enum import Enum
from typing import Any

import openai
import pytest

from mlspan import integrations, tracing
from mlspan.testing import Spans, content

pytestmark = pytest.mark.usefixtures("openai_on")

USAGE = {"input_tokens": 20, "output_tokens": 9, "total_tokens": 29}
CITATION = {"type": "url_citation", "url": "https://x.test/a", "title": "A", "start_index": 0, "end_index": 3}


def response(*output: Any) -> dict[str, Any]:
    head = {"id": "resp_1", "object": "response", "created_at": 1, "model": "gpt-5-mini", "status": "completed"}
    return {**head, "output": list(output), "tools": [], "usage": USAGE}


def message(text: str, *annotations: Any) -> dict[str, Any]:
    part = {"type": "output_text", "text": text, "annotations": list(annotations)}
    return {"id": "msg_1", "type": "message", "role": "assistant", "status": "completed", "content": [part]}


def completion(**said: Any) -> dict[str, Any]:
    choice = {"index": 0, "message": {"role": "assistant", **said}, "finish_reason": "stop"}
    return {"id": "c-1", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]}


PROMPT: Any = {
    "id": "pmpt_1",
    "version": "3",
    "variables": {"city": "Paris", "picture": {"type": "input_image", "image_url": "https://x.test/a.png"}},
}


@pytest.mark.parametrize("capture", [True, False])
def test_a_prompt_template(
    scripted_client: openai.OpenAI, scripted: Any, spans: Spans, needs: Any, tracing_off: None, capture: bool
) -> None:
    """Its id and version, and its variables where content is recorded."""
    needs(scripted_client.responses.create, "prompt")
    tracing.configure(capture_content=capture)
    integrations.openai.autolog()
    scripted.reply(response(message("Hi.")))
    scripted_client.responses.create(model="gpt-5-mini", prompt=PROMPT)
    attributes = {k: v for k, v in (spans.one().attributes or {}).items() if k.startswith("gen_ai.prompt.")}
    assert attributes.pop("gen_ai.prompt.name") == "pmpt_1"
    assert attributes.pop("gen_ai.prompt.version") == "3"
    assert attributes.pop("gen_ai.prompt.variable.city", None) == ("Paris" if capture else None)
    assert ("a.png" in str(attributes.pop("gen_ai.prompt.variable.picture", ""))) is capture
    assert attributes == {}


@pytest.mark.parametrize("api", ["chat", "responses"])
def test_the_verbosity(scripted_client: openai.OpenAI, scripted: Any, spans: Spans, needs: Any, api: str) -> None:
    scripted.reply(completion(content="Hi.") if api == "chat" else response(message("Hi.")))
    if api == "chat":
        needs(scripted_client.chat.completions.create, "verbosity")
        scripted_client.chat.completions.create(
            model="m", messages=[{"role": "user", "content": "hello"}], verbosity="low"
        )
    else:
        scripted_client.responses.create(model="m", input="hello", text={"verbosity": "low"})  # type: ignore[typeddict-unknown-key,unused-ignore]  # of old versions
    assert (spans.one().attributes or {})["mlspan.request.verbosity"] == "low"


@pytest.mark.parametrize("predicted", [False, True])
def test_predicted_tokens(scripted_client: openai.OpenAI, scripted: Any, spans: Spans, predicted: bool) -> None:
    """How much of a prediction was right; a request without one has none, whatever the answer's zeros."""
    details = {"accepted_prediction_tokens": 3 * predicted, "rejected_prediction_tokens": 1 * predicted}
    usage = {"prompt_tokens": 12, "completion_tokens": 5, "total_tokens": 17, "completion_tokens_details": details}
    scripted.reply({**completion(content="Hi."), "usage": usage})
    asked: Any = {"prediction": {"type": "content", "content": "Hi, you."}} if predicted else {}
    scripted_client.chat.completions.create(model="m", messages=[{"role": "user", "content": "hello"}], **asked)
    attributes = spans.one().attributes or {}
    found = [attributes.get(f"mlspan.usage.prediction.{kind}_tokens") for kind in ("accepted", "rejected")]
    assert found == ([3, 1] if predicted else [None, None])
    assert attributes["gen_ai.usage.output_tokens"] == 5


def test_citations_of_a_response(scripted_client: openai.OpenAI, scripted: Any, spans: Spans) -> None:
    """They stand beside the text that they belong to, as the provider gives them."""
    scripted.reply(response(message("See A.", CITATION), message("No more.")))
    scripted_client.responses.create(model="m", input="hello")
    (said,) = content(spans.one(), "gen_ai.output.messages")
    assert said["parts"] == [
        {"type": "text", "content": "See A.", "annotations": [CITATION]},
        {"type": "text", "content": "No more."},
    ]


@pytest.mark.parametrize("stream", [False, True])
def test_citations_of_a_chat(scripted_client: openai.OpenAI, scripted: Any, spans: Spans, stream: bool) -> None:
    cited = {"type": "url_citation", "url_citation": {name: CITATION[name] for name in ("url", "title")}}
    if stream:
        head = {"id": "c-1", "object": "chat.completion.chunk", "created": 1, "model": "m"}
        deltas: list[dict[str, Any]] = [{"content": "See "}, {"content": "A."}, {"annotations": [cited]}]
        chunks = [{**head, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in deltas]
        scripted.stream(*chunks, "[DONE]")
    else:
        scripted.reply(completion(content="See A.", annotations=[cited]))
    got: Any = scripted_client.chat.completions.create(
        model="m", messages=[{"role": "user", "content": "hello"}], stream=stream
    )
    if stream:
        list(got)
    (said,) = content(spans.one(), "gen_ai.output.messages")
    assert said["parts"] == [{"type": "text", "content": "See A.", "annotations": [cited]}]


def test_an_mcp_server_is_named_by_its_label(scripted_client: openai.OpenAI, scripted: Any, spans: Spans) -> None:
    """And what it is told to let us in is nowhere."""
    scripted.reply(response(message("Hi.")))
    servers: Any = [
        {"type": "mcp", "server_label": "dice", "server_url": "https://x.test/mcp", "require_approval": "never"},
        {"type": "mcp", "server_label": "mail", "server_url": "https://y.test", "headers": {"x-key": "sesame"}},
    ]
    scripted_client.responses.create(model="m", input="hello", tools=servers)
    assert [tool["name"] for tool in content(spans.one(), "gen_ai.tool.definitions")] == ["dice", "mail"]
    assert "sesame" not in str(spans.one().attributes)


class Model(str, Enum):
    MINI = "gpt-5-mini"


def ask_chat(client: openai.OpenAI) -> None:
    client.chat.completions.create(model=Model.MINI, messages=[{"role": "user", "content": "hello"}])


def ask_response(client: openai.OpenAI) -> None:
    client.responses.create(model=Model.MINI, input="hello")


def ask_embeddings(client: openai.OpenAI) -> None:
    client.embeddings.create(model=Model.MINI, input="hello")


def ask_images(client: openai.OpenAI) -> None:
    client.images.generate(model=Model.MINI, prompt="a cat")


def ask_moderation(client: openai.OpenAI) -> None:
    client.moderations.create(model=Model.MINI, input="hello")


@pytest.mark.any_span  # the answers are empty
@pytest.mark.parametrize("ask", [ask_chat, ask_response, ask_embeddings, ask_images, ask_moderation])
def test_a_model_that_is_a_member_of_an_enum(
    scripted_client: openai.OpenAI, scripted: Any, spans: Spans, ask: Any
) -> None:
    """It is its value that is sent, and that is recorded."""
    scripted.reply(
        {"data": [{"object": "embedding", "index": 0, "embedding": [0.5]}], "results": [], "choices": [], "output": []}
    )
    ask(scripted_client)
    model = (spans.one().attributes or {})["gen_ai.request.model"]
    assert type(model) is str
    assert model == "gpt-5-mini"
    assert "Model" not in spans.one().name
