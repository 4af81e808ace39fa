"""What an author of an integration imports: calls by the names of their arguments, and readers of requests."""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from mlspan import hooks
from mlspan.hooks import Call, Chat, Hook, Step, trace_methods, trace_subclasses
from mlspan.testing import Spans


def passed_through(fn: Any) -> Any:
    @functools.wraps(fn)
    def call(*args: Any, **kwargs: Any) -> Any:
        return fn(*args, **kwargs)

    return call


class Client:
    def ask(self, question: Any, /, tone: Any = "calm", *rest: Any, model: Any = None, **more: Any) -> Any:
        return question

    async def ask_async(self, question: Any, tone: Any = None) -> Any:
        return question

    @passed_through
    def ask_wrapped(self, question: Any, tone: Any = None) -> Any:
        return question


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch, spans: Spans) -> Iterator[list[Call]]:
    """The calls of a traced ``Client``, in order."""
    library: Any = ModuleType("pretend")
    library.Client = type("Client", (Client,), dict(vars(Client)))
    library.greet = lambda name, greeting=None: name
    monkeypatch.setitem(sys.modules, "pretend", library)
    monkeypatch.setattr("importlib.metadata.version", lambda name: {"pretend": "2.5.1"}[name])
    calls: list[Call] = []

    def begin(call: Call) -> tuple[Step, None]:
        calls.append(call)
        return Step(name="ask"), None

    targets = [f"pretend:Client.{name}" for name in ("ask", "ask_async", "ask_wrapped")]
    hook = Hook("pretend>=2,<3", "pretend", trace_methods(dict.fromkeys([*targets, "pretend:greet"], begin)))
    hook.autolog()
    yield calls
    hook.autolog(disable=True)


def test_an_argument_by_its_name(seen: list[Call]) -> None:
    """However it was passed; what was not passed is the default that is asked for, not that of the signature."""
    client = sys.modules["pretend"].Client()
    client.ask("a", "loud", 1, 2, model="m", depth=3)
    client.ask("b", tone="soft")
    client.ask("c")
    assert [call.argument("tone") for call in seen] == ["loud", "soft", None]
    assert [call.argument("question") for call in seen] == ["a", "b", "c"]
    assert [call.argument("model", "none") for call in seen] == ["m", "none", "none"]
    assert (seen[0].argument("depth"), seen[0].argument("rest"), seen[0].argument("self")) == (3, None, client)


async def test_an_argument_of_each_kind_of_function(seen: list[Call]) -> None:
    """A coroutine function, one that a decorator wraps, and a function of a module."""
    library = sys.modules["pretend"]
    await library.Client().ask_async("a", "loud")
    library.Client().ask_wrapped("a", "loud")
    library.greet("a", "loud")
    assert [call.argument("tone") for call in seen[:2]] == ["loud", "loud"]
    assert seen[2].argument("greeting") == "loud"


def test_an_argument_of_a_type() -> None:
    """One of another type counts as not passed; a bool is no integer, as in an attribute."""
    call = Call((), {"n": 3, "flag": True, "text": "x"}, capture_content=True, options={})
    assert (call.argument("n", want=int), call.argument("flag", want=int), call.argument("flag", want=bool)) == (
        3,
        None,
        True,
    )
    assert call.argument("text", [], want=list) == []


@pytest.mark.parametrize("function", [None, dict.update, print, object()])
def test_an_argument_without_a_signature(function: Any) -> None:
    """Only what was passed by its name is found, and nothing fails."""
    call = Call((1, 2), {"known": 3}, capture_content=True, options={}, function=function)
    assert (call.argument("known"), call.argument("unknown")) == (3, None)


def test_an_argument_of_an_override(monkeypatch: pytest.MonkeyPatch, spans: Spans) -> None:
    """A subclass may name its parameters otherwise; callers pass them as the base class has them."""

    class Base:
        def run(self, task: Any, context: Any = None) -> Any:
            raise NotImplementedError

    class Renamed(Base):
        def run(self, work: Any, *rest: Any) -> Any:
            return work

    monkeypatch.setitem(sys.modules, "pretend", SimpleNamespace(Base=Base))
    seen: list[Any] = []

    def begin(call: Call) -> tuple[Step, None]:
        seen.append((call.argument("task"), call.argument("context")))
        return Step(name="run"), None

    hook = Hook("pretend>=2,<3", "pretend", lambda _: lambda: None)
    undo = trace_subclasses("pretend:Base", {"run": hook.make_starter(begin)})
    assert Renamed().run("sort", "here") == "sort"
    undo()
    assert seen == [("sort", "here")]


@dataclass
class Address:
    host: Any
    port: Any
    scheme: Any


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("https://api.example.com/v1", ("api.example.com", 443)),
        ("http://127.0.0.1:8080", ("127.0.0.1", 8080)),
        ("wss://[::1]/live", ("::1", 443)),
        ("http://a:port/", ("a", None)),
        ("http://[broken", (None, None)),
        ("no address", (None, None)),
        ("", (None, None)),
        (None, (None, None)),
        (42, (None, None)),
        (Address("a", None, "http"), ("a", 80)),
        (Address("a", 99, "http"), ("a", 99)),
        (Address("", 99, "http"), (None, None)),
        (Address("a", "x", None), ("a", None)),
    ],
)
def test_host_and_port(url: Any, found: Any) -> None:
    """Of a text or of a client's object; what is no address has neither."""
    assert hooks.read_host_and_port(url) == found
    assert hooks.read_server_fields(url) == ({"server_address": found[0], "server_port": found[1]} if found[0] else {})


@dataclass(slots=True)
class Slotted:
    prompt_tokens: Any
    completion_tokens: Any
    prompt_tokens_details: Any = None


@pytest.mark.parametrize("make", [dict, SimpleNamespace, Slotted])
def test_tokens_are_counted_in_any_object(make: Any) -> None:
    """A dict, an object, one with slots; a count that is no integer is left out."""
    usage = make(
        prompt_tokens=7, completion_tokens="2", prompt_tokens_details=make(prompt_tokens=0, completion_tokens=0)
    )
    assert hooks.count_tokens(usage, *hooks.CHAT_USAGE) == {"input_tokens": 7}
    chat = Chat()
    hooks.read_usage(chat, usage, *hooks.CHAT_USAGE)
    hooks.read_usage(chat, None, *hooks.CHAT_USAGE)
    assert (chat.input_tokens, chat.output_tokens) == (7, None)


def test_parameters_of_another_type_are_left_out() -> None:
    """Integers are floats where a float is wanted, bools are no integers, and unknown names are passed over."""
    chat = Chat()
    hooks.set_parameters(chat, {"temperature": 1, "max_tokens": True, "seed": "7", "top_k": 2**70, "other": 1})
    assert (chat.temperature, chat.max_tokens, chat.seed, chat.top_k) == (1.0, None, None, None)


def test_all_that_is_named_is_there() -> None:
    """``__all__`` is what the package has."""
    assert [name for name in hooks.__all__ if not hasattr(hooks, name)] == []
    assert hooks.Hook is Hook
