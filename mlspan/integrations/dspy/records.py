"""DSPy's modules, adapters, tools, evaluations and optimisers, as records."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, Final

from ..._shape import get_field, get_nested, is_a
from ...hooks.openai_format import dump_model
from ...tracing.operations.records import Agent, NamedRecord, Retrieval, Step, Tool, Workflow

_AGENTS: Final = frozenset({"Avatar", "CodeAct", "RLM", "ReAct", "ReActV2"})  # whose model drives what they do


def make_module(instance: object, inputs: Mapping[str, Any], *, capture_content: bool, is_root: bool) -> NamedRecord:
    """Return the record of a module: an agent, the program as a whole, or a step of it."""
    name = type(instance).__name__
    asked = {**(inputs.get("kwargs") or {})}
    if args := inputs.get("args"):
        asked["args"] = args
    record: NamedRecord
    if not _AGENTS.isdisjoint(cls.__name__ for cls in type(instance).__mro__):
        record = Agent(name=name)
    elif is_root:
        record = Workflow(name=name)
    else:
        record = Step(type="module", name=name)
    if (signature := _describe_signature(instance)) is not None:
        record.extra["mlspan.dspy.signature"] = signature
    if is_root and (version := _compute_version(instance)) is not None:
        record.extra["mlspan.dspy.program.version"] = version
    if capture_content:
        record.input = {key: to_values(value) for key, value in asked.items()}
    return record


def _describe_signature(instance: object) -> str | None:
    """Return a signature as DSPy writes it: ``question -> answer``."""
    return get_nested(get_field(instance, "signature"), "signature", str)


def _compute_version(program: object) -> str | None:
    """Return a short hash of what a program has learned: its instructions and its demonstrations."""
    dump = getattr(program, "dump_state", None)
    if dump is None:
        return None
    try:
        state = repr(dump())
    except Exception:  # noqa: BLE001  # a program of somebody else's, which is to run all the same
        return None
    return hashlib.sha256(state.encode(errors="replace")).hexdigest()[:12]


def to_values(value: object) -> object:
    """Return examples and predictions as dicts, and what else there is as it is."""
    if callable(to_dict := getattr(type(value), "toDict", None)):
        return {name: dump_model(one) for name, one in to_dict(value).items()}
    return dump_model(value)


def make_retrieval(instance: object, inputs: Mapping[str, Any], *, capture_content: bool) -> Retrieval:
    """Return the record of ``dspy.Retrieve``, which asks the retriever that the settings name."""
    asked = {**(inputs.get("kwargs") or {})}
    k = asked.get("k", get_field(instance, "k"))
    record = Retrieval(source=type(instance).__name__, top_k=k if is_a(k, int) else None)
    if capture_content:
        args = inputs.get("args") or ()
        record.input = asked.get("query", args[0] if args else None)
    return record


def read_passages(record: Retrieval, outputs: object) -> None:
    """Read the passages that were found, which DSPy keeps as texts."""
    passages = get_field(to_values(outputs), "passages")
    if isinstance(passages, list):
        record.output = [{"id": str(place), "score": 0.0, "content": text} for place, text in enumerate(passages)]


def make_tool_record(instance: object, inputs: Mapping[str, object], *, capture_content: bool) -> Tool:
    """Return the record of a tool."""
    record = Tool(name=get_nested(instance, "name", str) or "tool", type="function")
    record.description = get_nested(instance, "desc", str)
    if capture_content:
        record.input = inputs.get("kwargs")
    return record


def make_interpreter(_instance: object, inputs: Mapping[str, object], *, capture_content: bool) -> Tool:
    """Return the record of code that an interpreter runs."""
    record = Tool(name="python", type="extension")
    if capture_content:
        record.input = {name: value for name, value in inputs.items() if value is not None}
    return record


def make_evaluation(instance: object, inputs: Mapping[str, Any], *, capture_content: bool) -> Step:
    """Return the record of an evaluation: the program, the metric, and over how many examples."""
    record = Step(type="evaluation", name="Evaluate")
    examples = inputs.get("devset") or get_field(instance, "devset") or ()
    program = inputs.get("program")
    record.extra["mlspan.dspy.examples"] = len(examples)
    record.extra["mlspan.dspy.program"] = type(program).__name__
    if (version := _compute_version(program)) is not None:
        record.extra["mlspan.dspy.program.version"] = version
    if capture_content:
        record.input = {"program": type(program).__name__, "metric": name_metric(instance, inputs)}
    return record


def name_metric(instance: object, inputs: Mapping[str, object]) -> str:
    """Return the name of the metric: that of a function, or of a class."""
    metric = inputs.get("metric") or get_field(instance, "metric")
    return getattr(metric, "__name__", None) or type(metric).__name__


def read_scores(record: NamedRecord, outputs: object, *, capture_content: bool) -> float | None:
    """Read the score of an evaluation, in percent, and that of each example. Return the former."""
    score = get_field(outputs, "score")
    results = get_field(outputs, "results")
    if capture_content and isinstance(results, list):
        scores = [{"example": to_values(example), "score": dump_model(one)} for example, _, one in results]
        record.output = {"score": score, "results": scores}
    return float(score) if is_a(score, (int, float)) else None


def make_compilation(instance: object, inputs: Mapping[str, object], *, capture_content: bool) -> Step:
    """Return the record of an optimiser at work."""
    record = Step(type="optimize", name=type(instance).__name__)
    student = inputs.get("student")
    for name in ("trainset", "valset"):
        if (examples := inputs.get(name)) is not None and hasattr(examples, "__len__"):
            record.extra[f"mlspan.dspy.{name}"] = len(examples)
    if capture_content:
        record.input = {"program": type(student).__name__, "version": _compute_version(student)}
    return record


def read_program(record: NamedRecord, outputs: object) -> None:
    """Read the program that an optimiser has made."""
    if (version := _compute_version(outputs)) is not None:
        record.extra["mlspan.dspy.program.version"] = version
    record.output = {"program": type(outputs).__name__, "version": version}
