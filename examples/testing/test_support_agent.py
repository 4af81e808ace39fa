"""Tests of the agent by its traces. They need no key and no network: the model's answers are in ``recordings/``.

``pytest examples/testing`` runs them, ``pytest --record-answers-anew`` asks the model anew (with OPENAI_API_KEY), and
``pytest --update-golden`` writes ``golden/`` anew.
"""

from __future__ import annotations

import pytest
from support_agent import answer

from mlspan import testing


@pytest.mark.trace_limits(calls=3, tokens=1_000, cost=0.001, seconds=60)
def test_refund(spans: testing.Spans, model_answers: testing.ModelAnswers) -> None:
    """The policy is checked before the money is paid back; three calls to the model are enough."""
    assert "25" in (answer("Please refund my order 7.") or "")
    assert spans.tools == ["find_order", "check_policy", "refund"]
    assert [call.arguments for call in spans.tool_calls] == [{"order": 7}] * 3
    spans.assert_golden(attributes=["gen_ai.tool.call.arguments"])
    assert model_answers.unused == []


def test_no_refund_without_a_question(spans: testing.Spans, model_answers: testing.ModelAnswers) -> None:
    """A greeting moves no money."""
    answer("Good morning!")
    spans.assert_tools("find_order", match="subset")
