"""Content of each kind of record: it is redacted once, and every receiver gets it as an input or an output."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from mlspan import testing, tracing
from mlspan.integrations._training import predictions, record
from mlspan.integrations.mcp import requests
from mlspan.integrations.openai import objects
from mlspan.tracing import operations
from mlspan.tracing.export.mlflow.spans import translate_span
from mlspan.tracing.export.otlp.langfuse_names import rename_to_langfuse
from mlspan.tracing.export.otlp.receiver_names import _rename_to_openinference
from mlspan.tracing.export.redaction import SpanRedactor
from mlspan.tracing.operations import records
from mlspan.tracing.operations import semconv as sc
from mlspan.tracing.operations.fields import content_attributes, span_attribute

# content that is neither side by itself
BESIDE = {sc.SYSTEM_INSTRUCTIONS, sc.TOOL_DEFINITIONS, sc.OUTPUT_SCHEMA, sc.RETRIEVAL_FILTER}
assert all((predictions, record, requests, objects))  # integrations' modules with records of their own
for module in pkgutil.iter_modules(operations.__path__):
    importlib.import_module(f"{operations.__name__}.{module.name}")


def list_kinds(above: type[records.Record] = records.Record) -> Iterator[type[records.Record]]:
    """Every kind of record there is, and in a later version will be."""
    for kind in above.__subclasses__():
        if kind.__module__.startswith("mlspan."):
            yield kind
        yield from list_kinds(kind)


def list_content(kind: type[records.Record]) -> set[str]:
    return {one.name for one in kind.attrs.values() if one.when == "content"}


KINDS = sorted({kind for kind in list_kinds() if list_content(kind)}, key=lambda kind: kind.__name__)


def make_span(attributes: Mapping[str, Any]) -> ReadableSpan:
    return ReadableSpan("s", attributes=attributes, instrumentation_scope=InstrumentationScope("mlspan"))


def test_the_kinds_are_found() -> None:
    assert {"Chat", "Memory", "Tool", "Step", "TrainingRecord"} <= {kind.__name__ for kind in KINDS}


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_the_content_of_each_kind_is_known(kind: type[records.Record]) -> None:
    """To the redaction, and to MLflow's, Langfuse's and OpenInference's names for inputs and outputs."""
    redactor = SpanRedactor(lambda text: text + "!")
    for name in list_content(kind):
        assert (redactor(make_span({name: "said"})).attributes or {})[name] == "said", f"{name} is redacted twice"
    for name in list_content(kind) - BESIDE:
        told = {name: "said", sc.KIND: "step"}
        shown = translate_span(make_span(told), told).attributes or {}
        assert "said" in f"{shown.get('mlflow.spanInputs')}{shown.get('mlflow.spanOutputs')}", name
        for renamed in (rename_to_langfuse(told, is_root=False), _rename_to_openinference(told)):
            found = {key for key, value in renamed if value == "said"}
            assert found & {"langfuse.observation.input", "langfuse.observation.output", "input.value", "output.value"}


def test_content_of_a_kind_made_later_is_redacted_once() -> None:
    """A record that an integration brings after the export has begun."""
    redactor = SpanRedactor(lambda text: text + "!")
    assert (redactor(make_span({"later.text": "said"})).attributes or {})["later.text"] == "said!"
    try:
        type("Later", (records.NamedRecord,), {"text": span_attribute("later.text", "content")})
        assert (redactor(make_span({"later.text": "said"})).attributes or {})["later.text"] == "said"
    finally:
        content_attributes.discard("later.text")


def test_a_memorys_question_and_answer_are_shown(spans: testing.Spans) -> None:
    """In all of the receivers' forms, each on its side."""
    with tracing.span("store", kind="search_memory", input="who") as search:
        search.output = [{"id": "1"}]
    told = dict(spans.one().attributes or {})
    shown = translate_span(spans.one(), told).attributes or {}
    assert (shown["mlflow.spanInputs"], shown["mlflow.spanOutputs"]) == ('"who"', '[{"id":"1"}]')
    langfuse, openinference = dict(rename_to_langfuse(told, is_root=False)), dict(_rename_to_openinference(told))
    assert langfuse["langfuse.observation.input"] == openinference["input.value"] == "who"
    assert langfuse["langfuse.observation.output"] == openinference["output.value"] == '[{"id":"1"}]'
