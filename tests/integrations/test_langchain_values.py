"""What a run of LangChain was given, where parts of it stand in several places or contain themselves."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

pytest.importorskip("langchain_core")

from langchain_core.messages import HumanMessage
from langchain_core.runnables import RunnableLambda

from mlspan import integrations
from mlspan.integrations.langchain.runnable_values import simplify_runnable_value
from mlspan.testing import Spans, content


@pytest.fixture(autouse=True)
def _autolog(spans: Spans) -> Iterator[None]:
    integrations.langchain.autolog()
    yield
    integrations.langchain.autolog(disable=True)


def nest_shared(levels: int, holder: type) -> Any:
    """Return a value of so many levels, each of which holds the one below it twice: 2 ** levels leaves to unfold."""
    value: Any = [HumanMessage("leaf")]
    for _ in range(levels):
        value = {"a": value, "b": value} if holder is dict else holder((value, value))
    return value


def count_calls(run: Any) -> int:
    """Return how many functions *run* calls, which no other load of the machine changes."""
    count = 0

    def note(_: Any, event: str, __: Any) -> None:
        nonlocal count
        count += event == "call"

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        run()
    finally:
        sys.setprofile(before)
    return count


@pytest.mark.parametrize("holder", [dict, list, tuple])
@pytest.mark.parametrize("levels", [12, 18, 40])
def test_what_is_shared_is_walked_once(holder: type, levels: int) -> None:
    """The walk takes a few calls a level, and not two to the power of the levels."""
    value = nest_shared(levels, holder)
    assert count_calls(lambda: simplify_runnable_value(value)) < 20 * levels + 100


def test_a_run_that_shares_costs_no_more_with_each_level(spans: Spans) -> None:
    """The whole run is bounded, from its start to the span's end."""
    run = RunnableLambda(lambda _: None)
    few, many = (count_calls(partial(run.invoke, nest_shared(levels, dict))) for levels in (18, 40))
    assert many < 2 * few
    assert len(spans.all) == 2


def test_what_contains_itself_is_marked(spans: Spans) -> None:
    state: dict[str, Any] = {"messages": [HumanMessage("Hi")], "n": 1}
    state["messages"].append(state)
    state["again"] = [state, state]
    RunnableLambda(lambda _: None).invoke(state)
    told = content(spans.one(), "mlspan.input")
    assert told["messages"][0] == {"role": "user", "content": "Hi"}
    assert told["again"] == ["[contains itself]"] * 2


def test_a_message_in_two_places_is_whole_in_both(spans: Spans) -> None:
    said = HumanMessage("Hi")
    pairs = [("user", "Ho")]
    RunnableLambda(lambda _: None).invoke({"messages": pairs, "first": said, "second": [said], "pairs": pairs})
    told, whole = content(spans.one(), "mlspan.input"), {"role": "user", "content": "Hi"}
    assert (told["first"], told["second"]) == (whole, [whole])
    assert (told["messages"], told["pairs"]) == ([{"role": "user", "content": "Ho"}], [["user", "Ho"]])
