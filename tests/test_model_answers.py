"""Model answers are recorded once, and replayed by a local server: as they came, without secrets, without a network."""

from __future__ import annotations

import json
import os
import shutil
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import requests
from opentelemetry import context
from pytest_sessions import ROOT, Session
from servers.scripted import Scripted

from mlspan import testing
from mlspan.testing.answer_services import SERVICES
from mlspan.testing.recorded_secrets import SecretRemover
from mlspan.tracing.otel.compat import SUPPRESSION_KEY

pytestmark = pytest.mark.timeout(500)  # sessions in processes of their own, with workers of pytest-xdist

KEY = "sk-9f8e7d6c5b4a39281706"


def reply(text: str = "Hi", *calls: str, **more: Any) -> dict[str, Any]:
    """An answer of OpenAI's, which asks for tools if they are named."""
    asked = [
        {"id": f"call_{name}", "type": "function", "function": {"name": name, "arguments": '{"order": 7}'}}
        for name in calls
    ]
    message = {"role": "assistant", "content": text, **({"tool_calls": asked} if asked else {})}
    usage = {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4}
    choice = {"index": 0, "finish_reason": "tool_calls" if asked else "stop", "message": message}
    body = {"id": "c-1", "object": "chat.completion", "created": 0, "model": "gpt-4o-mini", "choices": [choice]}
    return {**body, "usage": usage, **more}


@pytest.fixture
def upstream(scripted: Scripted, monkeypatch: pytest.MonkeyPatch) -> Scripted:
    """The provider, which the variables of the environment name, as they do at a user's who has a gateway."""
    monkeypatch.setenv("OPENAI_BASE_URL", scripted.base_url)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    return scripted


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "answers.json"


def ask(body: Any, path: str = "/chat/completions", **options: Any) -> requests.Response:
    """Ask as a client does that reads its variables."""
    headers = {"Authorization": f"Bearer {os.environ['OPENAI_API_KEY']}", **options.pop("headers", {})}
    url = os.environ["OPENAI_BASE_URL"] + path
    return requests.post(url, json=body, headers=headers, timeout=30, **options)


def read_pieces(body: Any) -> list[str]:
    """Return the pieces of a stream, and whether it was cut off."""
    pieces = []
    with ask(body, stream=True) as response:
        try:
            pieces += [piece.decode() for piece in response.iter_content(chunk_size=None)]
        except requests.RequestException:
            pieces.append("(cut off)")
    return pieces


@pytest.fixture
def no_upstream(upstream: Scripted, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What CI has: neither the variables nor the key. What asks the provider nevertheless is seen."""
    asked = len(upstream.requests)
    yield
    assert len(upstream.requests) == asked


def forget_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_BASE_URL")
    monkeypatch.delenv("OPENAI_API_KEY")


def test_answers_come_again(upstream: Scripted, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Errors, retries, umlauts and numbers; where the environment of the recording is gone, and without its key."""
    upstream.reply({"error": {"message": "slow down"}}, status=429, headers={"retry-after": "3"})
    upstream.reply(reply("für Łódź", score=0.1, large=2**60))
    upstream.reply(reply("other"))
    asked = [{"messages": ["ü", 1.5]}, {"messages": ["ü", 1.5]}, {"messages": []}]
    with testing.model_answers(file, record="all") as answers:
        recorded = [ask(body) for body in asked]
    assert answers.problems == []
    count = len(upstream.requests)
    forget_environment(monkeypatch)
    with testing.model_answers(file) as answers:
        assert len(answers.unused) == 3
        replayed = [ask(body) for body in asked]
    assert [one.status_code for one in replayed] == [429, 200, 200]
    assert [one.json() for one in replayed] == [one.json() for one in recorded]
    assert replayed[0].headers["retry-after"] == "3"
    assert (answers.problems, answers.unused, len(answers.requests)) == ([], [], 3)
    assert len(upstream.requests) == count
    assert {"OPENAI_BASE_URL", "OPENAI_API_KEY", "OLLAMA_HOST"}.isdisjoint(os.environ)


@pytest.mark.parametrize("drop", [False, True], ids=["whole", "cut off"])
def test_streams_come_as_they_came(drop: bool, upstream: Scripted, file: Path) -> None:
    """In the same pieces, one of which ends inside of a letter; a stream that was cut off is cut off."""
    letter = "ü".encode()
    pieces = [b"data: a\n\n", b"data: " + letter[:1], letter[1:] + b"\n\n", b"data: [DONE]\n\n"]
    upstream.stream_bytes(*pieces, content_type="text/event-stream", drop=drop)

    def read() -> list[bytes]:
        found = []
        with ask({"stream": True}, stream=True) as response, suppress(requests.RequestException):
            for piece in response.iter_content(chunk_size=None):
                found.append(piece)  # noqa: PERF402  # those before the stream breaks count
        return found

    with testing.model_answers(file, record="all"):
        first = read()
    assert first == pieces
    with testing.model_answers(file):
        assert read() == pieces
    stored = json.loads(file.read_text("utf-8"))["exchanges"][0]["answer"]
    assert stored["chunks"][0] == "data: a\n\n"
    assert stored.get("is_cut_off", False) is drop


def test_a_stream_that_is_left_is_recorded_whole(upstream: Scripted, file: Path) -> None:
    upstream.stream(*(f"{number}" for number in range(50)), "[DONE]", delay=0.01)
    with testing.model_answers(file, record="all"):
        with ask({"stream": True}, stream=True) as response:
            next(response.iter_content(chunk_size=None))
    with testing.model_answers(file):
        assert len(read_pieces({"stream": True})) == 51


def test_no_secret_is_written(upstream: Scripted, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever it stands: in headers, the path, requests, answers and streams; known, named, or by its look."""
    monkeypatch.setenv("INTERNAL_TOKEN", "tok3n-of-the-house")
    upstream.reply(reply(f"you are {KEY} at tok3n-of-the-house"), headers={"Set-Cookie": "id=c00kie-of-theirs"})
    upstream.stream({"text": "a"}, f"{KEY[:10]}", f"{KEY[10:]} ends")
    upstream.stream_bytes(b"data: " + KEY[:9].encode(), KEY[9:].encode() + b"\n\n", content_type="text/event-stream")
    upstream.reply(reply())
    tools = [{"type": "mcp", "headers": {"Authorization": "Bearer mcp-secret-1"}, "authorization": "mcp-secret-2"}]
    schema = {"properties": {"password": {"type": "string"}, "max_tokens": {"type": "integer"}}}
    hidden = {"tools": tools, "text": f"my key is {KEY}, and AIza{'x' * 35}", "schema": schema, "max_tokens": 5}
    with testing.model_answers(file, record="all", redact=lambda text: text.replace("Ada", "A.")) as answers:
        said = ask(hidden, "/models?key=gemini-key-1&alt=sse", headers={"X-Api-Key": "my-other-key-1"}).json()
        ask({"stream": 1}, stream=True).close()
        assert "".join(read_pieces({"stream": 2})) == f"data: {KEY}\n\n"
        ask({"text": "Ada says my-other-key-1"})
    assert said["choices"][0]["message"]["content"] == f"you are {KEY} at tok3n-of-the-house"  # the test gets it whole
    written = file.read_text("utf-8")
    leaks = [KEY, "tok3n-of", "c00kie", "mcp-secret", "AIza", "gemini-key", "my-other-key", "Ada", "127.0.0.1"]
    assert [leak for leak in leaks if leak in written] == []
    assert answers.requests[0].body["schema"] == schema
    assert answers.requests[0].body["max_tokens"] == 5
    assert answers.requests[0].path == "/models?key=[redacted]&alt=sse"
    with testing.model_answers(file, redact=lambda text: text.replace("Ada", "A.")) as answers:
        ask({"text": "Ada says my-other-key-1"}, headers={"X-Api-Key": "my-other-key-1"})
    assert answers.problems == []


@pytest.mark.parametrize("word", ["next_page_token", "max_tokens", "tokens", "keyboard", "secretary"])
def test_ordinary_fields_stay(word: str) -> None:
    assert SecretRemover().clean_value({word: "value"}) == {word: "value"}


@pytest.mark.parametrize("word", ["apiKey", "api_key", "x-api-key", "OPENAI_API_KEY", "client_secret", "accessToken"])
def test_fields_named_as_secrets_do_not(word: str) -> None:
    assert SecretRemover().clean_value({word: "value"}) == {word: "[redacted]"}


def record_one(upstream: Scripted, file: Path, body: Any) -> None:
    upstream.reply(reply())
    with testing.model_answers(file, record="all"):
        ask(body)
    assert file.exists()


def test_an_unknown_request(upstream: Scripted, file: Path, no_upstream: None) -> None:
    """It is refused in the form of an error, and told with the closest that is known."""
    upstream.reply(reply())
    with testing.model_answers(file, record="all"):
        ask({"model": "small", "messages": [{"content": "hello"}]})
        ask({"model": "other", "input": "quite different"})
    count = len(upstream.requests)
    with testing.model_answers(file) as answers:
        refused = ask({"model": "small", "messages": [{"content": "hello!"}]})
    assert refused.status_code == 400
    assert refused.headers["x-should-retry"] == "false"
    assert refused.json()["error"]["message"] == answers.problems[0]
    lines = answers.problems[0].splitlines()
    assert lines[0] == "no such request is recorded. The closest one differs (- recorded, + asked now):"
    assert [line for line in lines if line[0] in "+-"] == ['-      "content": "hello"', '+      "content": "hello!"']
    assert lines[-1].startswith("If this is meant to be so, record it: pytest --record-answers (")
    assert len(upstream.requests) == count
    upstream.requests.clear()


@pytest.mark.parametrize(
    ("again", "told"),
    [
        ([{"n": 1}, {"n": 1}], "asked more often than was recorded (1):\nPOST /chat/completions (openai)"),
        ([{"n": 2}], "no such request is recorded."),
    ],
)
def test_one_call_more(again: list[Any], told: str, upstream: Scripted, file: Path) -> None:
    record_one(upstream, file, {"n": 1})
    with testing.model_answers(file) as answers:
        for body in again:
            ask(body)
    assert [problem[: len(told)] for problem in answers.problems] == [told]


def test_nothing_is_recorded(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with testing.model_answers(file) as answers:
        assert ask({"n": 1}).status_code == 400
    assert answers.problems[0].startswith("nothing is recorded for this test, and it asks:\nPOST /chat/completions")
    assert not file.exists()


def test_what_changes_each_time(upstream: Scripted, file: Path) -> None:
    record_one(upstream, file, {"metadata": {"run": 1, "kind": "a"}, "messages": [{"id": 5, "content": "x"}]})
    ignored = ["metadata.run", "messages.*.id"]
    with testing.model_answers(file, ignore=ignored) as answers:
        ask({"metadata": {"run": 2, "kind": "a"}, "messages": [{"id": 6, "content": "x"}]})
        assert answers.problems == []
        ask({"metadata": {"run": 2, "kind": "b"}, "messages": [{"id": 6, "content": "x"}]})
        assert len(answers.problems) == 1


def test_only_what_is_missing_is_asked(upstream: Scripted, file: Path) -> None:
    record_one(upstream, file, {"n": 1})
    upstream.clear()
    upstream.reply(reply("new"))
    with testing.model_answers(file, record="missing"):
        assert ask({"n": 1}).json() == reply()
        assert ask({"n": 2}).json() == reply("new")
    assert len(upstream.requests) == 1
    with testing.model_answers(file) as answers:
        assert [ask({"n": number}).json() for number in (1, 2)] == [reply(), reply("new")]
    assert answers.problems == []


def test_a_provider_that_is_away(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    with testing.model_answers(file, record="all") as answers:
        assert ask({"n": 1}, headers={"Authorization": f"Bearer {KEY}"}).status_code == 400
    assert answers.problems[0].startswith("http://127.0.0.1:9/v1 cannot be asked: ")


def test_clients_side_by_side(upstream: Scripted, file: Path) -> None:
    """Twenty threads at once, of which some ask the same."""
    upstream.reply(reply())

    def ask_all() -> list[int]:
        found: list[int] = []
        threads = [threading.Thread(target=lambda n=n: found.append(ask({"n": n % 5}).status_code)) for n in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        return found

    with testing.model_answers(file, record="all") as answers:
        assert ask_all() == [200] * 20
    with testing.model_answers(file) as answers:
        assert ask_all() == [200] * 20
    assert (answers.problems, answers.unused) == ([], [])


def test_other_services(upstream: Scripted, file: Path) -> None:
    """One that no variable names is given by its address; bodies in chunks, forms with a boundary, bytes."""
    upstream.reply(reply())

    def ask_other(answers: testing.ModelAnswers, boundary: str) -> int:
        url = answers.url(f"{upstream.base_url}/sounds", name="sounds")
        form = f"--{boundary}\r\n\r\nx\r\n--{boundary}--".encode()
        kind = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
        sent = [
            requests.post(f"{url}/a", data=form, headers=kind, timeout=30),
            requests.post(f"{url}/b", data=iter([b"in ", b"chunks"]), timeout=30),
            requests.post(f"{url}/c", data=b"\xff\xfe" * 500, timeout=30),
            requests.get(f"{url}/d", timeout=30),
        ]
        return sum(one.json() == reply() for one in sent)

    with testing.model_answers(file, record="all") as answers:
        assert ask_other(answers, "one") == 4
    with testing.model_answers(file) as answers:
        assert ask_other(answers, "two") == 4
    assert answers.problems == []
    assert answers.requests[2].body["bytes"] == 1000


@pytest.mark.parametrize("host", ["api.openai.com", b"api.openai.com", "api.anthropic.com"])
def test_the_network_is_not_there(host: Any, file: Path) -> None:
    """A client that asks its provider itself does not reach it, and the test hears why; other hosts are as before."""
    before = socket.getaddrinfo
    with testing.model_answers(file) as answers:
        with pytest.raises(socket.gaierror, match=r"asks api.* itself, which nothing may while answers are replayed"):
            socket.getaddrinfo(host, 443)
        assert socket.getaddrinfo("127.0.0.1", 80)
    assert socket.getaddrinfo is before
    assert "give it base_url=model_answers.url('https://api." in answers.problems[0]


def test_a_file_that_is_none(file: Path) -> None:
    file.write_text("{}")
    with pytest.raises(ValueError, match="is no recording of version 1"), testing.model_answers(file):
        pass


def test_nothing_of_it_is_traced(upstream: Scripted, file: Path, spans: testing.Spans) -> None:
    """What the local server asks is no call of the test's: an instrumentation of requests is held off there."""
    upstream.reply(reply())
    seen: list[object] = []
    original = requests.Session.send

    def send(self: Any, request: Any, **options: Any) -> Any:
        if threading.current_thread() is not threading.main_thread():
            seen.append(context.get_value(SUPPRESSION_KEY))
        return original(self, request, **options)

    with pytest.MonkeyPatch.context() as patch, testing.model_answers(file, record="all"):
        patch.setattr(requests.Session, "send", send)
        ask({"n": 1})
    assert seen == [True]


def test_clients_read_the_variables() -> None:
    """The client that is installed here goes where its variable says."""
    openai = pytest.importorskip("openai")
    service = next(service for service in SERVICES if service.name == "openai")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(service.variable, "http://127.0.0.1:9/openai")
        patch.setenv(service.keys[0], "x")
        assert str(openai.OpenAI().base_url) == "http://127.0.0.1:9/openai/"
    anthropic = pytest.importorskip("anthropic")
    service = next(service for service in SERVICES if service.name == "anthropic")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(service.variable, "http://127.0.0.1:9/anthropic")
        patch.setenv(service.keys[0], "x")
        assert str(anthropic.Anthropic().base_url).rstrip("/") == "http://127.0.0.1:9/anthropic"


@pytest.fixture
def example(tmp_path: Path) -> Session:
    """A copy of the example to try, and break."""
    pytest.importorskip("openai")
    shutil.copytree(ROOT / "examples/testing", tmp_path / "testing", ignore=shutil.ignore_patterns("__pycache__"))
    return Session(tmp_path / "testing", {"OPENAI_API_KEY": ""})


def break_agent(example: Session) -> None:
    agent = example.folder / "support_agent.py"
    whole = agent.read_text("utf-8")
    assert "in said.tool_calls:" in whole
    agent.write_text(whole.replace("in said.tool_calls:", "in said.tool_calls[:1]:"), encoding="utf-8")


def test_the_example_finds_a_regression(example: Session) -> None:
    """The tests pass without a key; the agent that leaves out a tool fails, and the page shows what pytest says."""
    assert "2 passed" in example.run("-n", "2")
    break_agent(example)
    said = example.run("-q", status=1)
    page = (ROOT / "docs/traces_as_tests.md").read_text("utf-8")
    start = page.index("    no such request is recorded.")
    shown = [line[4:] for line in page[start : page.index("\n\n", start)].splitlines()]
    assert "\n".join(shown) in said
    assert "1 failed, 1 passed" in said


def test_recorded_anew_the_traces_still_tell(example: Session, scripted: Scripted) -> None:
    """A developer records what the broken agent asks; the tools and the golden tree show what it leaves out."""
    break_agent(example)
    for answer in (reply("", "find_order", "check_policy"), reply("", "refund"), reply("25 euros")):
        scripted.reply(answer)
    example.environment |= {"OPENAI_BASE_URL": scripted.base_url, "OPENAI_API_KEY": KEY}
    said = example.run("-q", "--record-answers-anew", "-k", "test_refund", status=1)
    assert "written: recordings/test_support_agent/test_refund.json" in said
    assert "At index 1 diff: 'refund' != 'check_policy'" in said
    tests = example.folder / "test_support_agent.py"
    lines = tests.read_text("utf-8").splitlines()
    tests.write_text("\n".join(line for line in lines if "spans.tools ==" not in line and "[call.arg" not in line))
    example.environment |= {"OPENAI_BASE_URL": "", "OPENAI_API_KEY": ""}
    said = example.run("-q", "-k", "test_refund", status=1)
    page = (ROOT / "docs/traces_as_tests.md").read_text("utf-8")
    start = page.index("    the spans are not the golden tree")
    for line in page[start : page.index("\n\n", start)].splitlines():
        assert line[4:] in said


SWALLOWS = """
import os
import requests

def test_swallows(model_answers):
    try:
        requests.post(os.environ["OPENAI_BASE_URL"] + "/chat", json={"n": 1}, timeout=30).raise_for_status()
    except Exception:
        pass

async def test_wrong(model_answers):
    assert requests.post(os.environ["OPENAI_BASE_URL"] + "/chat", json={"n": 1}, timeout=30).ok

def test_has_nothing_to_do_with_it():
    assert "OPENAI_BASE_URL" not in os.environ
"""


def test_a_problem_fails_the_test(tmp_path: Path) -> None:
    """Also if the agent swallows the client's exception; if the test fails by itself, the problem is shown beside."""
    session = Session(tmp_path)
    session.write(test_one=SWALLOWS)
    outcomes, said = session.find_outcomes("-o", "asyncio_mode=auto", status=1)
    assert outcomes == {"test_swallows": "FAILED", "test_wrong": "FAILED", "test_has_nothing_to_do_with_it": "PASSED"}
    assert said.count("nothing is recorded for this test, and it asks:\nPOST /chat (openai)") == 2
