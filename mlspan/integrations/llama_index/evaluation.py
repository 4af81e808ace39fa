"""Evaluators of LlamaIndex: one operation for each verdict, below which are the calls that it took.

LlamaIndex's dispatcher reports only those calls, each as a trace of its own.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Final

from ..._guard import guard
from ..._shape import get_nested, is_a
from ...hooks.call import Call
from ...hooks.hook import Hook
from ...hooks.patching import Patch, Undo
from ...hooks.subclasses import trace_subclasses
from ...tracing.feedback_spans import feedback
from ...tracing.operations.noop import NOOP_OPERATION
from ...tracing.operations.operation import Operation
from ...tracing.operations.records import Step
from .calls import find_enclosing_call, set_enclosing_call

_EVALUATOR_CLASS: Final = "llama_index.core.evaluation.base:BaseEvaluator"
_METHODS: Final = ("evaluate", "aevaluate", "evaluate_response", "aevaluate_response")
_GIVEN: Final = ("query", "response", "contexts", "reference", "second_response")


def make_evaluator_patches(hook: Hook) -> tuple[Patch, ...]:
    """Return the patches of the methods of all evaluators; those that other libraries bring are evaluators as well."""
    return (Patch(_EVALUATOR_CLASS, functools.partial(_trace_evaluators, hook), "evaluators and their verdicts"),)


def _trace_evaluators(hook: Hook, base: str) -> Undo:
    return trace_subclasses(base, dict.fromkeys(_METHODS, functools.partial(_start_evaluation, hook)))


def _start_evaluation(hook: Hook, args: Any, kwargs: Any) -> object:
    """Start the operation of an evaluation; return a no-op for one that an evaluator calls on itself."""
    above = find_enclosing_call()
    if above is not None and above.call_type == "evaluator" and above.owner_id == id(args[0]):
        return NOOP_OPERATION
    operation = hook.start_operation(_begin_evaluation, args, kwargs)
    if isinstance(operation, Operation):
        with guard("starting a span"):
            set_enclosing_call(operation, "evaluator", args[0])
    return operation


def _begin_evaluation(call: Call) -> tuple[Step, Callable[[Any, object], object]]:
    """Begin the record of an evaluation: the class of the evaluator, and what it judges."""
    record = Step(type="evaluator", name=type(call.args[0]).__name__)
    if call.capture_content:
        asked: dict[str, Any] = {**dict(zip(_GIVEN, call.args[1:], strict=False)), **call.kwargs}
        given = {name: asked[name] for name in _GIVEN if asked.get(name) is not None}
        if (text := get_nested(given.get("response"), "response", str)) is not None:  # the Response of an engine
            given["response"] = text
        record.input = given
    return record, _observe_verdict


def _observe_verdict(record: Step, got: Any) -> None:
    """Read an EvaluationResult, and give its verdict to the span, which is current: the score, or whether it passes."""
    passing, score, why = (
        get_nested(got, "passing", bool),
        getattr(got, "score", None),
        get_nested(got, "feedback", str),
    )
    found = {"passing": passing, "score": score, "feedback": why}
    if getattr(got, "invalid_result", None) is True:
        found["invalid"] = get_nested(got, "invalid_reason", str) or True
    record.output = {name: value for name, value in found.items() if value is not None}
    value = score if is_a(score, (int, float)) else passing
    if value is not None and "invalid" not in found:
        metadata = {} if passing is None else {"passing": str(passing).lower()}
        feedback(record.name or "evaluator", value, rationale=why, source="llm_judge", metadata=metadata)
