"""Every method of the installed client has a span, or stands here with the reason why not; a later version's too."""

from __future__ import annotations

import inspect
import json
import warnings
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from openai._resource import AsyncAPIResource, SyncAPIResource

from mlspan.testing import Spans, content

pytestmark = [pytest.mark.usefixtures("openai_on"), pytest.mark.any_span]  # the answers fit no method in particular

# The start of a method's name -> why a call of it has no span.
NOT_RECORDED = {
    "admin.": "what an administrator does, with answers that hold keys",
    "beta.agents.environments.files.prepare": "makes no request",
    "beta.agents.sessions.artifacts.for_result": "makes no request until it is read",
    "beta.agents.vaults.": "keeps secrets",
    "beta.realtime.sessions.": "hands out a secret",
    "beta.realtime.transcription_sessions.": "hands out a secret",
    "models.": "a list that belongs to no trace",
    "realtime.client_secrets.": "hands out a secret",
    "realtime.sessions.": "hands out a secret",
    "realtime.transcription_sessions.": "hands out a secret",
    "realtime.translations.client_secrets.": "hands out a secret",
    "webhooks.": "keeps secrets, or makes no request",
}
# Websockets. Those that are recorded have tests of their own, with a server.
WEBSOCKETS = {
    "beta.realtime.connect": "test_openai_realtime.py",
    "beta.responses.connect": "test_openai_websocket.py",
    "live.connect": "not recorded: a call by sound, whose usage is that of the session",
    "live.forks.connect": "not recorded: likewise",
    "live.sideband.connect": "not recorded: likewise",
    "realtime.connect": "test_openai_realtime.py",
    "realtime.translations.connect": "not recorded: sound to sound, without a response or a usage",
    "responses.connect": "test_openai_websocket.py",
}
FILE = ("a.txt", b"x")
ARGUMENTS: dict[str, dict[str, Any]] = {  # of methods that look at what they are given
    "audio.voices.create": {"name": "x", "prompt": "x", "type": "prompt"},
    "beta.agents.automations.create": {"run_at": 1, "name": "x", "target": {}, "type": "once"},
    "beta.agents.environments.files.create": {"file_id": "file-1", "path": "x", "type": "file_id"},
    "beta.agents.environments.files.upload": {"file": ("a.txt", b"x"), "path": "/workspace/a.txt"},
    "beta.agents.sessions.stream": {"input": "hello"},
    "videos.edit": {"video": ("a.mp4", b"x")},
    "videos.extend": {"video": ("a.mp4", b"x")},
    "uploads.upload_file_chunked": {"file": b"xy", "filename": "a.txt", "bytes": 2, "mime_type": "text/plain"},
    "vector_stores.file_batches.create_and_poll": {"file_ids": ["file-1"]},
    "vector_stores.file_batches.upload_and_poll": {"files": [FILE]},
    "responses.parse": {"input": "hello", "model": "m"},
    "responses.stream": {"input": "hello", "model": "m"},
    "responses.create": {"input": "hello", "model": "m"},
    "beta.responses.create": {"input": "hello", "model": "m"},
}
FILES = {"file", "recording", "video", "image", "data"}
WHOLE = {"id": "x-1", "object": "x", "created": 1, "created_at": 1, "model": "m", "data": [], "choices": []}
WHOLE |= {"output": [], "answers": [], "results": [], "text": "", "parts": [], "upload_id": "x-1"}


def list_methods(resource: Any, kind: type, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    """Yield the name and the method of each call that *resource* and those below it offer."""
    for name in sorted({*dir(type(resource)), *vars(resource)}):  # clients of version 1 have resources as attributes
        if name.startswith(("_", "with_")):
            continue
        member = inspect.getattr_static(type(resource), name, None)
        if inspect.isfunction(member):
            if path:
                yield ".".join([*path, name]), getattr(resource, name)
        elif isinstance(below := getattr(resource, name, None), kind):
            yield from list_methods(below, kind, (*path, name))


def make_arguments(name: str, method: Any) -> dict[str, Any]:
    """Return arguments for the parameters that have no default."""
    given = dict(ARGUMENTS.get(name, {}))
    for parameter in inspect.signature(method).parameters.values():
        if parameter.default is parameter.empty and parameter.name not in given:
            kind = str(parameter.annotation)
            if parameter.name in FILES and "FileTypes" in kind:
                given[parameter.name] = FILE
            elif parameter.name == "model":
                given[parameter.name] = "m"
            elif parameter.name == "messages":
                given[parameter.name] = [{"role": "user", "content": "hello"}]
            else:
                given[parameter.name] = make_value(kind)
    return given


def make_value(kind: str) -> Any:
    if kind == "int":
        return 1
    if kind.startswith(("Iterable", "List", "Sequence")):
        return []
    return "id_1" if "str" in kind or "Literal" in kind else {}


def answer(request: Any) -> dict[str, Any]:
    return {**WHOLE, "status": "processed" if "/v1/files/" in str(request.url) else "completed"}


def make_client(cls: Any, httpx_cls: str) -> Any:
    httpx: Any = __import__("httpx2" if openai.__version__ >= "3" else "httpx")
    transport = httpx.MockTransport(lambda request: httpx.Response(200, json=answer(request)))
    known: dict[str, Any] = {"base_url": "http://openai.test/v1", "api_key": "x", "max_retries": 0}
    if "admin_api_key" in inspect.signature(cls.__init__).parameters:
        known["admin_api_key"] = "y"
    return cls(http_client=getattr(httpx, httpx_cls)(transport=transport), **known)


def find_problems(spans: Spans, name: str, failure: Exception | None) -> list[str]:
    reason = next((why for start, why in NOT_RECORDED.items() if name.startswith(start)), None)
    if reason is None and not spans.all:
        return [f"{name} has no span{f', but {failure!r}' if failure else ''}"]
    if reason is not None and spans.all:
        return [f"{name} has a span, and a reason to have none: {reason}"]
    return [
        f"{name}: an id is in the name {span.name}"
        for span in spans.all
        if "id_1" in span.name and span.name != "retrieval id_1"
    ]


async def call_method(method: Any, arguments: dict[str, Any]) -> None:
    """Call *method* and open what it returns: a coroutine, a manager of a stream, or an answer."""
    got = method(**arguments)
    if inspect.isawaitable(got):
        got = await got
    if hasattr(got, "__aenter__"):
        async with got:
            pass
    elif hasattr(got, "__enter__"):
        with got:
            pass


@pytest.mark.parametrize(
    ("cls", "kind", "http"),
    [(openai.OpenAI, SyncAPIResource, "Client"), (openai.AsyncOpenAI, AsyncAPIResource, "AsyncClient")],
)
async def test_every_method_has_a_span_or_a_reason(spans: Spans, cls: Any, kind: type, http: str) -> None:
    client, found, seen = make_client(cls, http), [], 0
    warnings.simplefilter("ignore")
    for name, method in list_methods(client, kind):
        if name in WEBSOCKETS or name.startswith("admin."):  # two hundred methods, none of which is recorded
            continue
        spans.clear()
        failure = None
        try:
            await call_method(method, make_arguments(name, method))
        except Exception as error:  # what the method makes of such an answer is not what is tested
            failure = error
        found += find_problems(spans, name, failure)
        seen += 1
    await client.close() if http == "AsyncClient" else client.close()
    assert found == [], "\n".join(found)
    assert seen > 80


def test_every_websocket_has_a_test_or_a_reason() -> None:
    client = make_client(openai.OpenAI, "Client")
    connects = {name for name, _ in list_methods(client, SyncAPIResource) if name.endswith(".connect")}
    client.close()
    assert connects <= WEBSOCKETS.keys()


CHAT: Any = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "hello"}]}
USAGE = {"prompt_tokens": 12, "completion_tokens": 5, "total_tokens": 17}


@pytest.mark.parametrize(
    "url",
    [
        *("/chat/completions", "chat/completions", "/chat/completions?x=1", "{root}/v1/chat/completions"),
        *("{base}/chat/completions", "{base}/chat/completions?x=1"),
        "{root}/openai/deployments/gpt/chat/completions?api-version=1",
    ],
)
def test_however_the_url_is_written(scripted_client: openai.OpenAI, scripted: Any, spans: Spans, url: str) -> None:
    """A path without its slash, a query, an absolute URL, and that of Azure's deployment are the same endpoint."""
    said = {"role": "assistant", "content": "Hi."}
    whole = {"id": "c-1", "object": "chat.completion", "created": 1, "model": "gpt-4o-mini", "usage": USAGE}
    scripted.reply(whole | {"choices": [{"index": 0, "message": said, "finish_reason": "stop"}]})
    root = scripted.base_url.removesuffix("/v1")
    got = scripted_client.post(url.format(base=scripted.base_url, root=root), body=CHAT, cast_to=object)
    assert got["id"] == "c-1"  # type: ignore[index]
    assert spans.tree() == "chat gpt-4o-mini [12 in, 5 out]"
    assert (spans.one().attributes or {})["server.port"] == int(root.rpartition(":")[2])


def test_an_absolute_url_names_its_own_server(scripted: Any, spans: Spans) -> None:
    """The client belongs to one host, the request goes to another."""
    scripted.reply({"object": "list", "model": "e", "data": [], "usage": {"prompt_tokens": 3, "total_tokens": 3}})
    with openai.OpenAI(base_url="https://api.groq.com/openai/v1", api_key="x", max_retries=0) as client:
        client.post(f"{scripted.base_url}/embeddings", body={"model": "e", "input": "x"}, cast_to=object)
    attributes = spans.one().attributes or {}
    assert (attributes["server.address"], attributes["gen_ai.provider.name"]) == ("127.0.0.1", "openai")
    assert spans.tree() == "embeddings e [3 in, 0 out]"


def test_a_compaction_counts_its_tokens(scripted_client: openai.OpenAI, scripted: Any, spans: Spans) -> None:
    """It is a call of the model: its input, and that a compaction came out."""
    if not hasattr(scripted_client.responses, "compact"):
        pytest.skip("this version of the client has no compaction")
    item = {"id": "cmp_1", "type": "compaction", "encrypted_content": "x"}
    usage = {"input_tokens": 5000, "output_tokens": 300, "total_tokens": 5300}
    scripted.reply({"id": "resp_1", "object": "response.compaction", "created_at": 1, "output": [item], "usage": usage})
    scripted_client.responses.compact(model="gpt-5-mini", input="a long talk")
    assert spans.tree() == "chat gpt-5-mini [5000 in, 300 out]"
    attributes = spans.one().attributes or {}
    assert attributes["gen_ai.conversation.compacted"] is True
    assert attributes["gen_ai.response.finish_reasons"] == ("compaction",)
    assert content(spans.one(), "gen_ai.input.messages")[0]["parts"] == [{"type": "text", "content": "a long talk"}]


def test_a_decision_counts_its_tokens(scripted_client: openai.OpenAI, scripted: Any, spans: Spans) -> None:
    if not hasattr(scripted_client, "decisions"):
        pytest.skip("this version of the client has no decisions")
    usage = {"input_tokens": 50, "output_tokens": 3, "total_tokens": 53}
    usage |= {"input_tokens_details": {"cached_tokens": 20, "cache_write_tokens": 0}}  # type: ignore[dict-item]
    answers = [{"type": "predicate", "name": "rude", "probability": 0.1}]
    scripted.reply({"answers": answers, "model": "gpt-decide", "usage": usage})
    ask: Any = [{"type": "predicate", "name": "rude", "prompt": "Is it rude?"}]
    scripted_client.decisions.create(model="gpt-decide", input="hello", questions=ask)
    assert spans.tree() == "generate_content gpt-decide [50 in, 3 out]"
    assert (spans.one().attributes or {})["gen_ai.usage.cache_read.input_tokens"] == 20
    (said,) = content(spans.one(), "gen_ai.output.messages")
    assert said["parts"] == [{"type": "answer", "content": answers[0]}], json.dumps(said)
