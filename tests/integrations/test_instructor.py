"""Instructor's answers: one step each, with its attempts, with the hook of the client below it or without."""

from __future__ import annotations

import asyncio
import importlib
import inspect
from collections.abc import Iterator
from typing import Any, ClassVar

import pytest

pytest.importorskip("instructor", reason="in the nox session instructor")
openai: Any = pytest.importorskip("openai")

import instructor
from instructor.core.exceptions import InstructorRetryException
from instructor.core.hooks import Hooks
from openai_answers import answer, count_tokens, stream
from openai_chunks import REFUSAL
from opentelemetry import trace
from pydantic import BaseModel, Field
from scripted_client import ScriptedAsyncCalls, ScriptedCalls, ScriptedClient

from mlspan import integrations, tracing
from mlspan.testing import Spans, content, contracts


class City(BaseModel):
    """A city."""

    name: str
    degrees: int = Field(ge=0)


def tell(name: str = "Paris", degrees: Any = 21) -> dict[str, Any]:
    return answer(None, ("call_1", "City", {"name": name, "degrees": degrees}))


ASKED: Any = [{"role": "user", "content": "a greeting"}]
ONE = "create City\n  chat m [12 in, 5 out]"


@pytest.fixture(params=["alone", "with openai"])
def _on(request: pytest.FixtureRequest, spans: Spans) -> Iterator[None]:
    integrations.instructor.autolog()
    if request.param == "with openai":
        integrations.openai.autolog()
    yield
    integrations.instructor.autolog(disable=True)
    integrations.openai.autolog(disable=True)


@pytest.fixture
def client(scripted: Any) -> Iterator[Any]:
    with openai.OpenAI(base_url=scripted.base_url, api_key="test", max_retries=0) as own:
        yield instructor.from_openai(own)


on = pytest.mark.usefixtures("_on")


class Structured(ScriptedClient):
    """A structured answer, its hook and a server."""

    span: ClassVar[str] = "create City"
    tokens = None
    texts: ClassVar[tuple[str, ...]] = ("a greeting", "Paris")
    answer, refusal, events = tell(), REFUSAL, stream("One two.")
    fails = InstructorRetryException

    def find_span(self) -> Any:
        (root,) = self.spans.named(self.span)  # type: ignore[attr-defined]
        return root

    def autolog(self, **options: Any) -> None:
        integrations.instructor.autolog(**options)

    def list_targets(self) -> list[tuple[Any, str]]:
        return _find_targets()

    def read_answer(self, answer: Any) -> Any:
        return answer.model_dump()

    def test_the_caller_gets_the_same_answer(self) -> None:
        """Instructor before 1.16 makes a class for each answer, a subclass of what was asked for."""
        bare, traced = self.run_bare(self.call), self.call()  # type: ignore[attr-defined]
        assert [cls.__name__ for cls in type(traced).__mro__] == [cls.__name__ for cls in type(bare).__mro__]
        assert self.read_answer(traced) == self.read_answer(bare)

    def ask(self, client: Any, **more: Any) -> Any:
        return client.chat.completions.create(model="m", messages=ASKED, response_model=City)


def _find_targets() -> list[tuple[Any, str]]:
    try:
        module = importlib.import_module("instructor.v2.core.patch")
    except ImportError:
        return [(importlib.import_module("instructor.core.patch"), name) for name in ("retry_sync", "retry_async")]
    return [(module, "retry_sync_v2"), (module, "retry_async_v2")]


class TestCalls(Structured, ScriptedCalls, contracts.CallContract):
    def make_client(self) -> Any:
        self.own = openai.OpenAI(base_url=self.server.base_url, api_key="test", max_retries=0)
        return instructor.from_openai(self.own)

    def release_client(self) -> None:
        self.own.close()


class TestAsyncCalls(Structured, ScriptedAsyncCalls, contracts.AsyncCallContract):
    def make_client(self) -> Any:
        return None

    def release_client(self) -> None:
        pass

    def make_async_client(self) -> Any:
        own = openai.AsyncOpenAI(base_url=self.server.base_url, api_key="test", max_retries=0)
        self.async_clients.append(own)
        return instructor.from_openai(own)

    def test_calls_at_once(self) -> None:
        async def call_thrice() -> None:
            await asyncio.gather(*(self.make_call() for _ in range(3)))

        self._run(call_thrice)
        assert self.spans.tree() == "\n".join([ONE] * 3)


@on
def test_an_answer(client: Any, scripted: Any, spans: Spans) -> None:
    """The step has the question and the object; the call below it has model, messages and tokens."""
    scripted.reply(tell())
    made, completion = client.chat.completions.create_with_completion(
        model="m", messages=ASKED, response_model=City, temperature=0.5
    )
    assert (made.model_dump(), completion.id) == ({"name": "Paris", "degrees": 21}, "c-1")
    assert spans.tree("mlspan.instructor.attempts") == (
        "create City [mlspan.instructor.attempts=1]\n  chat m [12 in, 5 out]"
    )
    step, asked = spans.all
    assert (content(step, "mlspan.input"), content(step, "mlspan.output")) == (ASKED, {"name": "Paris", "degrees": 21})
    assert content(asked, "gen_ai.output.messages")[0]["parts"][0]["arguments"] == {"name": "Paris", "degrees": 21}
    assert content(asked, "gen_ai.tool.definitions")[0]["name"] == "City"
    known = dict(asked.attributes or {})
    assert (known["gen_ai.provider.name"], known["server.address"]) == ("openai", "127.0.0.1")
    assert known["gen_ai.request.temperature"] == 0.5


@on
def test_answers_that_do_not_fit(client: Any, scripted: Any, spans: Spans) -> None:
    """Each attempt is a call; what its answer has failed at stands between them, and the step is no error."""
    scripted.reply(tell(degrees=-5))
    scripted.reply(tell())
    assert client.chat.completions.create(model="m", messages=ASKED, response_model=City, max_retries=2).degrees == 21
    failed = next(line for line in spans.tree().splitlines() if "parse City" in line)
    assert failed.startswith("  parse City [ERROR pydantic")
    assert spans.tree().splitlines() == ["create City", "  chat m [12 in, 5 out]", failed, "  chat m [12 in, 5 out]"]
    assert (spans.named("create City")[0].attributes or {})["mlspan.instructor.attempts"] == 2
    assert count_tokens(spans) == (24, 10)


@on
def test_no_answer_that_fits(client: Any, scripted: Any, spans: Spans) -> None:
    """The step fails with what reaches the caller, whose message is that of the last failure."""
    scripted.reply(tell(degrees="many"))
    with pytest.raises(InstructorRetryException):
        client.chat.completions.create(model="m", messages=ASKED, response_model=City, max_retries=1)
    root = spans.named("create City")[0]
    assert str((root.attributes or {})["error.type"]).endswith("InstructorRetryException")
    assert "degrees" in str(root.status.description)


@on
def test_a_call_that_fails(client: Any, scripted: Any, spans: Spans) -> None:
    """The call says what the client has raised."""
    scripted.reply(REFUSAL, status=400)
    with pytest.raises(InstructorRetryException):
        client.chat.completions.create(model="m", messages=ASKED, response_model=City)
    assert spans.tree().splitlines()[-1] == "  chat m [ERROR openai.BadRequestError]"


def stream_city() -> list[Any]:
    return stream(None, ("call_1", "City", {"name": "Paris", "degrees": 21}))


@on
def test_parts_of_an_answer(client: Any, scripted: Any, spans: Spans) -> None:
    """A stream of partial objects is one step with one call, and nothing of it is current between two parts."""
    scripted.stream(*stream_city())
    options = {"stream_options": {"include_usage": True}}
    last = None
    for part in client.chat.completions.create_partial(model="m", messages=ASKED, response_model=City, **options):
        assert not trace.get_current_span().get_span_context().is_valid
        last = part
    assert last is not None
    assert last.degrees == 21
    assert spans.tree() == "create PartialCity\n  chat m [12 in, 5 out]"
    said = content(spans.named("create PartialCity")[0], "mlspan.output")
    assert (said[-1] if isinstance(said, list) else said) == {"name": "Paris", "degrees": 21}


@on
async def test_asynchronous_parts(scripted: Any, spans: Spans) -> None:
    """They come one by one."""
    scripted.stream(*stream_city())
    async with openai.AsyncOpenAI(base_url=scripted.base_url, api_key="test", max_retries=0) as own:
        made = instructor.from_openai(own).chat.completions.create_partial(
            model="m", messages=ASKED, response_model=City, stream_options={"include_usage": True}
        )
        async for part in await made if inspect.isawaitable(made) else made:
            assert not trace.get_current_span().get_span_context().is_valid
            last = part
    assert last.degrees == 21
    assert spans.tree() == "create PartialCity\n  chat m [12 in, 5 out]"


@on
def test_without_a_response_model(client: Any, scripted: Any, spans: Spans) -> None:
    """Without a model to fit, the answer is the client's, and its call has no step around it."""
    scripted.reply(answer("One two."))
    client.chat.completions.create(model="m", messages=ASKED, response_model=None)
    assert spans.tree() == "chat m [12 in, 5 out]"


@on
def test_hooks_of_the_application(client: Any, scripted: Any, spans: Spans) -> None:
    """Handlers of the client and of a call hear what they hear without mlspan, and are what they were."""
    scripted.reply(tell(degrees=-5))
    scripted.reply(tell())
    heard: list[str] = []
    client.on("completion:response", lambda _: heard.append("client"))
    own = Hooks()
    own.on("parse:error", lambda *_, **__: heard.append("call"))
    with tracing.session("s-1"):
        client.chat.completions.create(model="m", messages=ASKED, response_model=City, max_retries=2, hooks=own)
    assert heard == ["client", "call", "client"]
    assert [len(handlers) for handlers in own._handlers.values()] == [1]
    assert {(span.attributes or {})["session.id"] for span in spans.all} == {"s-1"}


@on
def test_a_patched_client(scripted: Any, spans: Spans) -> None:
    """``instructor.patch`` changes a client in place, which has no hooks."""
    scripted.reply(tell())
    with openai.OpenAI(base_url=scripted.base_url, api_key="test", max_retries=0) as own:
        instructor.patch(own).chat.completions.create(model="m", messages=ASKED, response_model=City)
    assert spans.tree() == ONE


@pytest.mark.any_span  # the client's own, where its hook is off
@pytest.mark.parametrize("both", [False, True])
def test_another_provider(both: bool, scripted: Any, spans: Spans) -> None:
    """A client of Anthropic's: its messages, tools and tokens are read too."""
    anthropic: Any = pytest.importorskip("anthropic")
    integrations.instructor.autolog()
    if both:
        integrations.anthropic.autolog()
    block = {"type": "tool_use", "id": "t-1", "name": "City", "input": {"name": "Paris", "degrees": 21}}
    head = {"id": "msg_1", "type": "message", "role": "assistant", "model": "claude-x", "stop_reason": "tool_use"}
    usage = {"input_tokens": 5, "output_tokens": 2, "cache_read_input_tokens": 4, "cache_creation_input_tokens": 0}
    scripted.reply({**head, "content": [block], "stop_sequence": None, "usage": usage})
    try:
        with anthropic.Anthropic(base_url=scripted.base_url, api_key="test", max_retries=0) as own:
            instructor.from_anthropic(own).messages.create(
                model="claude-x", max_tokens=99, messages=ASKED, response_model=City
            )
    finally:
        integrations.instructor.autolog(disable=True)
        integrations.anthropic.autolog(disable=True)
    assert spans.tree().startswith(
        "create City\n  chat claude-x [9 in, 2 out]"
    )  # below it may be the client's own span
    part = content(spans.named("chat claude-x")[0], "gen_ai.output.messages")[0]["parts"][0]
    assert (part["name"], part["arguments"]) == ("City", {"name": "Paris", "degrees": 21})
