"""``mlspan import``: every form of OTLP file, from other instrumentations, in MLflow."""

from __future__ import annotations

import base64
import gzip
import io
import json
import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from command_line import Result, invoke
from google.protobuf.json_format import ParseDict
from opentelemetry.proto.trace.v1.trace_pb2 import TracesData
from otlp_lines import lines, request, said, span

from mlspan.cli import otlp_file
from mlspan.cli.otlp_file import read_otlp_messages

mlflow = pytest.importorskip("mlflow")

FIXTURES = Path(__file__).parent / "fixtures"
CHAT = {
    "gen_ai__operation__name": "chat",
    "gen_ai__request__model": "gpt-4o-mini",
    "gen_ai__usage__input_tokens": 7,
    "gen_ai__usage__output_tokens": 2,
    "gen_ai__input__messages": said("user", "hello"),
    "gen_ai__output__messages": said("assistant", "hi"),
}
SPANS = [span("a1", 2, "chat gpt-4o-mini", 1, at=10, ms=5, **CHAT), span("a1", 1, "step", ms=20)]


@pytest.fixture
def take(mlflow_store: str, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """``mlspan import`` into an empty store."""
    monkeypatch.setenv("MLSPAN_TRACKING_URI", mlflow_store)
    return lambda *arguments, **options: invoke(["import", *map(str, arguments)], **options)


def tree(store: str) -> list[str]:
    """A line for each span of each trace, two spaces deeper than its parent, with its type, tokens and error."""
    found: list[str] = []
    traces = mlflow.MlflowClient(store).search_traces(["0"], max_results=50, order_by=["timestamp_ms ASC"])
    for trace in traces:
        spans = sorted(trace.data.spans, key=lambda span: span.start_time_ns)

        def below(parent: str | None, depth: int, spans: list[Any] = spans) -> None:
            for one in spans:
                if one.parent_id == parent:
                    usage = one.get_attribute("mlflow.chat.tokenUsage") or {}
                    tokens = f" {usage['input_tokens']} in {usage['output_tokens']} out" if usage else ""
                    failed = " ERROR" if one.status.status_code.value == "ERROR" else ""
                    found.append(f"{'  ' * depth}{one.name} [{one.span_type}{tokens}{failed}]")
                    below(one.span_id, depth + 1)

        below(None, 0)
    return found


def protobuf(*spans: dict[str, Any]) -> bytes:
    found = request(*json.loads(json.dumps(spans)))
    for one in found["resourceSpans"][0]["scopeSpans"][0]["spans"]:
        for name in ("traceId", "spanId", "parentSpanId"):
            one[name] = base64.b64encode(bytes.fromhex(one[name])).decode()
    return ParseDict(found, TracesData()).SerializeToString()


FORMS = {
    "a request on each line": lines(*SPANS).encode(),
    "one document over many lines": json.dumps(request(*SPANS), indent=2).encode(),
    "gzip": gzip.compress(lines(*SPANS).encode()),
    "a message of protobuf": protobuf(*SPANS),
    "messages of protobuf, each after its length": b"".join(
        struct.pack(">I", len(body)) + body for body in (protobuf(one) for one in SPANS)
    ),
    "other signals between": b'{"resourceMetrics":[]}\n\n' + lines(*SPANS).encode() + b'{"resourceLogs":[]}\n',
}


@pytest.mark.parametrize("body", FORMS.values(), ids=FORMS)
def test_forms(take: Callable[..., Result], mlflow_store: str, tmp_path: Path, body: bytes) -> None:
    """Whatever the form, the same trace; taking it a second time changes nothing."""
    (tmp_path / "file").write_bytes(body)
    for _ in range(2):
        done = take(tmp_path / "file")
        assert done.output.startswith("1 trace (2 spans) taken into 'Default' of sqlite:///"), done.output
        assert done.exit_code == 0
        assert tree(mlflow_store) == ["step [UNKNOWN]", "  chat gpt-4o-mini [CHAT_MODEL 7 in 2 out]"]


def test_standard_input(take: Callable[..., Result], mlflow_store: str) -> None:
    """``-`` reads what is piped in."""
    assert take("-", input=lines(*SPANS)).exit_code == 0
    assert len(tree(mlflow_store)) == 2


def test_a_damaged_file(take: Callable[..., Result], mlflow_store: str, tmp_path: Path) -> None:
    """What can be read is taken, what cannot is told by its line, and the exit code says that something is missing."""
    (tmp_path / "file").write_text(lines(*SPANS) + '{"resourceSpans": [{"scope')
    done = take(tmp_path / "file")
    assert done.exit_code == 1
    assert done.stdout.splitlines()[1:] == ["1 line not readable", "  line 3: not JSON, or cut off"]
    assert len(tree(mlflow_store)) == 2


def test_no_such_file(take: Callable[..., Result]) -> None:
    """Not called as it should be: exit code 2."""
    done = take("nowhere.jsonl")
    assert done.exit_code == 2
    assert "there is no file nowhere.jsonl" in done.stderr


def test_traces_of_other_programs(take: Callable[..., Result], mlflow_store: str, tmp_path: Path) -> None:
    """A collector sees more than models: what has no GenAI span stays out, unless it is asked for."""
    (tmp_path / "file").write_text(lines(*SPANS, span("b2", 3, "GET /health")))
    done = take(tmp_path / "file")
    assert done.stdout.splitlines()[1:] == ["1 trace without a GenAI span left out; --all takes them"]
    assert take(tmp_path / "file", "--all").stdout.startswith("2 traces (3 spans)")
    assert len(tree(mlflow_store)) == 3


OPENINFERENCE = """\
ChatCompletion [CHAT_MODEL 86 in 17 out]
ChatCompletion [CHAT_MODEL 121 in 11 out]
ChatCompletion [CHAT_MODEL ERROR]
weather_agent [AGENT]
  model [CHAIN]
    ChatOpenAI [CHAT_MODEL 86 in 17 out]
  tools [CHAIN]
    get_weather [TOOL]
  model [CHAIN]
    ChatOpenAI [CHAT_MODEL 86 in 17 out]
ChatCompletion [CHAT_MODEL 86 in 17 out]
ChatCompletion [CHAT_MODEL 86 in 17 out]
"""
OPENLLMETRY = """\
openai.chat [CHAT_MODEL 86 in 17 out]
openai.chat [CHAT_MODEL 121 in 11 out]
openai.chat [CHAT_MODEL ERROR]
create_agent weather_agent [AGENT]
invoke_agent weather_agent [AGENT]
  weather_agent.workflow [AGENT]
    execute_task model [TASK]
      ChatOpenAI.chat [CHAT_MODEL 86 in 17 out]
    execute_task tools [TASK]
      execute_tool get_weather [TOOL]
    execute_task model [TASK]
      ChatOpenAI.chat [CHAT_MODEL 86 in 17 out]
"""


@pytest.mark.parametrize(
    ("name", "expected"), [("openinference", OPENINFERENCE), ("openllmetry", OPENLLMETRY)], ids=lambda value: value[:20]
)
def test_other_instrumentations(take: Callable[..., Result], mlflow_store: str, name: str, expected: str) -> None:
    """What OpenInference 0.1.66 and OpenLLMetry 0.62.4 have recorded of a chat with a tool, a stream, a failed call
    and an agent: types, tokens, errors, messages as MLflow knows them.
    """
    assert take(FIXTURES / f"{name}.jsonl").exit_code == 0
    assert tree(mlflow_store) == expected.splitlines()
    first = mlflow.MlflowClient(mlflow_store).search_traces(["0"], order_by=["timestamp_ms ASC"])[0].data.spans[0]
    assert first.inputs["messages"][-1]["content"] == "What is the weather in Paris?"
    (call,) = first.outputs["choices"][0]["message"]["tool_calls"]
    assert call["function"] == {"name": "get_weather", "arguments": '{"city":"Paris"}'}


LIST = {"arrayValue": {"values": [{"stringValue": "chat"}, {"intValue": "1"}]}}
HOSTILE = {  # values of all attributes of a call, in OTLP's JSON
    "lists": LIST,
    "lists of texts": {"arrayValue": {"values": [{"stringValue": "chat"}]}},
    "objects": {"kvlistValue": {"values": [{"key": "a", "value": LIST}]}},
    "numbers": {"doubleValue": -1.5},
    "nothing": {},
    "truths": {"boolValue": True},
}
DIALECT = ("openinference.span.kind", "llm.input_messages.0", "llm.provider", "gen_ai.prompt.0.role", "input.value")


@pytest.mark.parametrize("what", HOSTILE)
def test_values_of_the_wrong_type_cost_no_neighbour(
    take: Callable[..., Result], mlflow_store: str, tmp_path: Path, what: str
) -> None:
    """The trace itself is stored too, or counted as refused; there is no traceback."""
    file = tmp_path / "spans"
    bad = span("b1", 1, "bad", ms=5)
    keys = [key.replace("__", ".") for key in (*CHAT, "gen_ai__system")] + list(DIALECT)
    bad["attributes"] = [{"key": key, "value": HOSTILE[what]} for key in keys]
    file.write_text(lines(bad, *SPANS))
    done = take(file, "--all")
    assert "step [UNKNOWN]" in tree(mlflow_store)
    assert any(line.startswith("bad [") for line in tree(mlflow_store)) or "refused" in done.stdout


def read(body: bytes) -> tuple[list[str], list[str]]:
    """The names of the spans that are read from a file, and the errors."""
    found = list(read_otlp_messages(io.BytesIO(body)))
    messages = [one.traces for one in found if one.traces is not None]
    names = [
        span.name for message in messages for of in message.resource_spans for sc in of.scope_spans for span in sc.spans
    ]
    return names, [one.error for one in found if one.error]


def test_a_lone_surrogate_is_repaired() -> None:
    """In a name, a key or a value: the rest of the line, and of the text, is as it was."""
    line = lines(*SPANS, span("b1", 1, "a NAME", ms=5, KEY="x VALUE")).encode()
    for place, text in ((b"NAME", rb"\\ud83d"), (b"KEY", rb"\\udc00"), (b"VALUE", rb"\\ud83dend"), (b"VALUE", b"\xff")):
        names, errors = read(line.replace(place, text.replace(rb"\\", b"\\")))
        assert (len(names), errors) == (3, [])
        assert names[:2] == ["chat gpt-4o-mini", "step"]


def test_a_span_that_is_no_otlp_costs_no_neighbour_in_its_line() -> None:
    found = request(*SPANS, span("b1", 1, "bad", ms=5))
    bad = found["resourceSpans"][0]["scopeSpans"][0]["spans"][2]
    for change in ({"startTimeUnixNano": "soon"}, {"attributes": [{"key": 1}]}, {"kind": []}, {"links": 3}):
        bad |= change
        names, errors = read(json.dumps(found).encode())
        assert (names, len(errors)) == (["chat gpt-4o-mini", "step"], 1)


@pytest.mark.parametrize("form", ["a file", "a message", "a line", "a document"])
def test_a_bomb_is_bounded(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A small file that becomes a huge one is refused, in bounded memory; what comes before it is read."""
    monkeypatch.setattr(otlp_file, "_MAX_MESSAGE_BYTES", 1024 * 1024)
    monkeypatch.setattr(otlp_file, "_MAX_DOCUMENT_BYTES", 2 * 1024 * 1024)
    zeros = b'{"a": "' + b"0" * 30_000_000 + b'"}\n'
    if form in {"a line", "a document"}:
        body = gzip.compress((lines(*SPANS).encode() if form == "a line" else b"{\n") + zeros + lines(*SPANS).encode())
    else:
        zstandard = pytest.importorskip("zstandard")
        packed = zstandard.compress(zeros)
        framed = [protobuf(*SPANS), packed, protobuf(*SPANS)]
        body = packed if form == "a file" else b"".join(struct.pack(">I", len(one)) + one for one in framed)
    tracemalloc.start()
    names, errors = read(body)
    assert tracemalloc.get_traced_memory()[1] < 20_000_000
    tracemalloc.stop()
    assert len(errors) >= 1
    assert len(names) == (2 if form == "a document" else 0 if form == "a file" else 4)
