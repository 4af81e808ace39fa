"""Any value at all is recorded: at once, within its budget, as valid JSON, and without touching what it is made of."""

from __future__ import annotations

import enum
import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from unittest.mock import AsyncMock, MagicMock, Mock

import pytest

from mlspan.tracing.operations.content import ContentPolicy, to_json, to_plain_data
from mlspan.tracing.operations.plain_checks import are_text_messages

LIMIT = 1024 * 1024
POLICY = ContentPolicy(capture=True, redact=None, limit=LIMIT)


def family() -> dict[str, Any]:
    """A parent and two children that point back to it, and to each other."""
    parent: dict[str, Any] = {"name": "parent"}
    one, other = {"name": "one", "parent": parent}, {"name": "other", "parent": parent}
    one["sister"], other["sister"] = other, one  # type: ignore[assignment]  # on purpose
    parent["children"] = [one, other]
    return parent


def doubled() -> list[Any]:
    """Forty lists, each of which holds the next one twice: a million million leaves."""
    made: list[Any] = ["leaf"]
    for _ in range(40):
        made = [made, made]
    return made


def quoted() -> list[Any]:
    """One long text, a hundred thousand times."""
    return ["x" * 100_000] * 100_000


def fastest(work: Callable[[], object], rounds: int = 3) -> float:
    """Return the least CPU seconds of this thread that *work* takes: other threads and programs only add to it."""
    took = []
    for _ in range(rounds):
        started = time.thread_time()
        work()
        took.append(time.thread_time() - started)
    return min(took)


def dump_seconds() -> float:
    """Return what ``json.dumps`` takes for 40,000 small dicts: the measure of all that has to be quick."""
    value = records()
    return fastest(lambda: json.dumps(value))


@pytest.mark.timeout(60)
@pytest.mark.parametrize("make", [family, doubled, quoted])
@pytest.mark.parametrize("write", [to_json, POLICY.render_json, lambda value: to_json(to_plain_data(value))])
def test_what_never_ends_is_cut_at_once(make: Callable[[], Any], write: Callable[[Any], str]) -> None:
    """A value that contains itself, or one part again and again, is bounded work, whatever writes it."""
    value = make()
    written = write(value)
    assert fastest(lambda: write(value)) < 50 * dump_seconds()
    json.loads(written)
    assert len(written) < 4 * LIMIT


def holding_itself() -> list[Any]:
    """A short list that holds itself twice."""
    made: list[Any] = [1, "two"]
    made += [made, {"self": made}]
    return made


@pytest.mark.parametrize("make", [family, holding_itself])
@pytest.mark.parametrize("write", [to_json, POLICY.render_json, to_plain_data])
def test_a_small_value_that_contains_itself_is_small_work(make: Callable[[], Any], write: Callable[[Any], Any]) -> None:
    """Nobody counts what it unfolds to: that has no end, and would take the time of as many bytes as may be kept."""
    value = make()
    assert fastest(lambda: write(value)) < 0.7 * dump_seconds()


def test_a_value_that_contains_itself_says_so() -> None:
    """The mark stands where the value comes again below itself; what stands beside it is whole."""
    said = json.loads(to_json(family()))
    assert said["name"] == "parent"
    assert said["children"][0] == {
        "name": "one",
        "parent": "[contains itself]",
        "sister": {"name": "other", "parent": "[contains itself]", "sister": "[contains itself]"},
    }


def test_a_shared_value_is_no_cycle() -> None:
    """One dict in two places is written twice."""
    shared = {"a": [1]}
    assert json.loads(to_json([shared, shared])) == [shared, shared]
    assert to_plain_data([shared, shared, object]) == [shared, shared, "<object class>"]


class Odd(Exception):  # noqa: N818  # raised on purpose
    """What hostile objects raise."""


class NoText:
    def __str__(self) -> str:
        raise Odd

    __repr__ = __str__


class NoLength(list):  # type: ignore[type-arg]
    def __len__(self) -> int:
        raise Odd

    def __iter__(self) -> Any:
        raise Odd


class NoItems(dict):  # type: ignore[type-arg]
    def items(self) -> Any:
        raise Odd

    def values(self) -> Any:
        raise Odd

    __iter__ = __len__ = items


class Permissive:
    def __getattr__(self, name: str) -> Any:
        return lambda *_args, **_more: self


class Raising:
    def __getattribute__(self, name: str) -> Any:
        raise Odd


class Strange(str):
    __slots__ = ()

    def __str__(self) -> str:
        raise Odd

    def __len__(self) -> int:
        return -5  # noqa: PLE0303  # on purpose


class NotText:
    def __str__(self) -> Any:
        return 5  # noqa: PLE0307  # on purpose


class Color(enum.Enum):
    RED = 1


class Word(str, enum.Enum):
    HI = "hi"


class Number(enum.IntEnum):
    TWO = 2


@dataclass
class Locked:
    name: str = "locked"
    lock: Any = field(default_factory=threading.Lock)


@dataclass
class Inside:
    bad: Any


HOSTILE: list[Callable[[], Any]] = [
    *(NoText, NoLength, NoItems, Permissive, Raising, Strange, NotText, Locked, Mock, MagicMock, AsyncMock),
    *(lambda: NoText, lambda: Locked, lambda: Color, lambda: type, lambda: (item for item in "ab"), threading.Lock),
    *(lambda: Inside(NoText()), lambda: 2**70, lambda: float("inf"), lambda: "\ud800", lambda: "a\0b", lambda: b"\xff"),
    *(lambda: MagicMock(spec=dict), lambda: MagicMock(spec=list), lambda: {NoText(): 1}, lambda: {(1, 2): 3}),
    *(lambda: memoryview(b"ab"), lambda: Color.RED, lambda: Word.HI, lambda: Number.TWO, lambda: complex(1, 2)),
]


@pytest.mark.parametrize("make", HOSTILE)
@pytest.mark.parametrize("write", [to_json, POLICY.render_json, lambda value: to_json(to_plain_data(value))])
def test_one_bad_value_takes_no_other_along(make: Callable[[], Any], write: Callable[[Any], str]) -> None:
    """Whatever a value is, it becomes JSON, and what stands beside it stays."""
    said = json.loads(write({"question": "why?", "bad": make(), "list": [make(), 1]}))
    assert said["question"] == "why?"
    assert "bad" in said
    assert said["list"][1] == 1
    json.loads(write(make()))


def test_what_cannot_be_said_is_named() -> None:
    """The type's name stands for a value that has no text of its own; a class is told from an instance."""
    value = [NoText(), NoText, Raising(), Locked, Strange("kept"), Word.HI, Color.RED, Number.TWO]
    named = ["<NoText object>", "<NoText class>", "<Raising object>", "<Locked class>", "kept", "hi", 1, 2]
    assert json.loads(to_json(value)) == named


def test_a_dataclass_is_written_field_by_field() -> None:
    """A lock in a dataclass is text, and the other fields stay."""
    said = json.loads(to_json(Locked()))
    assert said["name"] == "locked"
    assert "lock" in said["lock"]


def test_a_model_of_other_types_than_it_declares_warns_nobody(recwarn: pytest.WarningsRecorder) -> None:
    """A compatible server answers with fields of other types; pydantic would warn of them when it is dumped."""
    model = pytest.importorskip("pydantic").create_model("Citation", start=(int, ...))
    found = [to_json(model.model_construct(start=start)) for start in ([], "one", {"a": 1})]
    assert (found, recwarn.list) == (['{"start":[]}', '{"start":"one"}', '{"start":{"a":1}}'], [])


def test_pydantic_is_dumped_and_its_classes_are_named() -> None:
    """A model is its dump, a class of one its name, and a model with a field that no JSON has keeps the other ones."""
    pydantic = pytest.importorskip("pydantic")

    class Person(pydantic.BaseModel):
        model_config = pydantic.ConfigDict(arbitrary_types_allowed=True)
        name: str
        secret: str = pydantic.Field(default="hidden", exclude=True)
        lock: Any = None

    assert json.loads(to_json(Person(name="Ada"))) == {"name": "Ada", "lock": None}
    assert json.loads(to_json([Person])) == ["<Person class>"]
    said = json.loads(to_json(Person(name="Ada", lock=threading.Lock())))
    assert said.keys() == {"name", "lock"}
    assert said["name"] == "Ada"


@pytest.mark.parametrize("make", [Mock, MagicMock, AsyncMock, lambda: MagicMock(spec=dict), lambda: Mock(spec=str)])
def test_a_mock_is_not_called(make: Callable[[], Any]) -> None:
    """A mock that is written records no call, of a magic method neither."""
    mock = make()
    to_json({"client": mock})
    POLICY.render_json(to_plain_data([mock]))
    assert mock.mock_calls == mock.method_calls == []


def test_numpy_arrays_are_written_whole_only_where_they_are_small() -> None:
    """A vector is its numbers, a large array its shape, in no time."""
    numpy = pytest.importorskip("numpy")
    assert json.loads(to_json({"v": numpy.arange(3), "n": numpy.float64(0.5)})) == {"v": [0, 1, 2], "n": 0.5}
    large = numpy.zeros((5000, 5000))

    def write() -> str:
        return POLICY.render_json({"q": "why?", "a": large, "s": to_plain_data(large)})

    assert fastest(write) < dump_seconds()
    said = json.loads(write())
    assert said["q"] == "why?"
    assert "(5000, 5000)" in said["a"]
    assert "float64" in said["a"]
    assert said["s"] == said["a"]


def test_frames_are_not_walked_whole() -> None:
    """A million rows are what pandas itself prints of them."""
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"a": range(1_000_000)})

    def write() -> str:
        return POLICY.render_json(to_plain_data({"frame": frame, "column": frame["a"]}))

    assert fastest(write) < 10 * dump_seconds()
    said = json.loads(write())
    assert "1000000" in said["frame"]
    assert len(said["column"]) < 10_000


def embeddings() -> list[list[float]]:
    return [[0.123456789 * (n + m) for n in range(1536)] for m in range(100)]


def records() -> list[dict[str, Any]]:
    return [{"id": number, "title": f"document {number}", "score": 0.5} for number in range(40_000)]


@pytest.mark.parametrize("make", [embeddings, records, lambda: "words " * 500_000, lambda: list(range(400_000))])
def test_the_short_question_beside_a_huge_argument_stays(make: Callable[[], Any]) -> None:
    """What is cut is the large argument, of which the head stays, and it costs at most twice what is kept does."""
    given = {"question": "why?", "huge": make(), "k": 3}
    written = POLICY.render_string(to_plain_data(given))
    kept = json.loads(written)
    ratios = []
    for _ in range(9):  # in turns, so that both see the same machine; the best of them, as load only adds
        took = fastest(lambda: POLICY.render_string(to_plain_data(given)), 1)
        ratios.append(took / fastest(lambda: json.dumps(kept), 1))
    assert LIMIT // 2 < len(written.encode()) <= LIMIT
    assert (kept["question"], kept["k"]) == ("why?", 3)
    if isinstance(kept["huge"], list):
        assert kept["huge"][:1] == given["huge"][:1] or kept["huge"][0][0] == given["huge"][0][0]
    else:
        assert kept["huge"].startswith("words words")
    assert min(ratios) < 2, ratios


def message(*parts: Any, **more: Any) -> dict[str, Any]:
    return {"role": "user", "parts": list(parts), **more}


TEXT = {"type": "text", "content": "why?"}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ([], True),
        ([message(TEXT, TEXT), message(TEXT, finish_reason="stop")], True),
        ([message({**TEXT, "content": None})], False),
        ([message({**TEXT, "content": {"a": 1}})], False),
        ([message("text")], False),
        ([message(TEXT, parts=5)], False),
        (["text"], False),
        ([message({**TEXT, "content": Strange("odd")})], False),
        ([message({**TEXT, "content": "x" * 2000})], False),
        ([message(*[{}] * 2000)], False),
        ([{}] * 2000, False),
        ([message(), *[message({**TEXT, "content": "x" * 100})] * 20], False),
    ],
)
def test_messages_of_text_alone_are_told_from_others(value: list[Any], expected: bool) -> None:
    """Of messages that are nothing but text, no deeper than parts and no larger than asked, it is known at once."""
    assert are_text_messages(value, 1000) is expected
    ContentPolicy(capture=True, redact=None, limit=1000).render_json(value)


def test_what_is_cut_says_so() -> None:
    """A list and a dict that are cut say how much there was."""
    policy = ContentPolicy(capture=True, redact=None, limit=2048)
    said = json.loads(policy.render_json({"list": list(range(5000)), "dict": {str(n): n for n in range(5000)}}))
    assert said["list"][:3] == [0, 1, 2]
    assert said["list"][-1].startswith("[cut: ")
    assert "5000" in said["list"][-1]
    assert "5000" in said["dict"]["[cut]"]


@pytest.mark.parametrize("limit", [2, 3, 8, 20, 64, 100, 1024, 4095])
@pytest.mark.parametrize(
    "value",
    [
        {"a": "x" * 10_000, "b": ["y" * 5000, {"c": 1}]},
        [{"role": "user", "parts": [{"type": "text", "content": "z" * 10_000}]}] * 3,
        "\0" * 10_000,
        '"' * 10_000,
        "ä€𝄞" * 5000,
        [[[[["deep" * 100] * 10] * 10] * 10] * 10] * 10,
        {"k" * 5000: 1},
        list(range(10_000)),
        12345678901234567,
    ],
)
def test_whatever_the_limit_it_is_valid_json(value: Any, limit: int) -> None:
    """However little room there is, what is written is JSON, and fits."""
    written = ContentPolicy(capture=True, redact=None, limit=limit).render_json(value)
    json.loads(written)
    assert len(written.encode()) <= limit


def test_a_secret_that_stands_on_the_edge_is_redacted() -> None:
    """Text is redacted before it is cut, in a snapshot too: half of a secret is no match."""
    policy = ContentPolicy(capture=True, redact=lambda text: text.replace("s3cr3t" * 20, "[redacted]"), limit=1024)
    for before in range(0, 1024, 16):
        given = {"a": "x" * before + "s3cr3t" * 20 + "y" * 5000, "b": [1] * 5000}
        assert "s3cr" not in policy.render_json(to_plain_data(given))


def test_a_snapshot_is_of_its_time() -> None:
    """What is changed later is not seen, however it is nested."""
    given = {"list": [1, {"a": [2]}], "odd": [object], "set": {3}}
    before = to_plain_data(given)
    given["list"][1]["a"].append(9)
    given["odd"].append(5)
    given["new"] = 1
    assert before == {"list": [1, {"a": [2]}], "odd": ["<object class>"], "set": [3]}
