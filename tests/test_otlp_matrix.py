"""What receivers of OTLP get of one trace with everything, by either protocol.

In ``make matrix`` the results become rows of the table in docs/mlflow.md, as those of test_server_matrix.py do.
"""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from servers.everything import LONG, NASTY, PICTURE, record_everything, report
from servers.grpc_receiver import GrpcReceiver
from servers.receiver import Receiver

from mlspan import tracing

_PROTOCOLS = {"HTTP": ("http/protobuf", Receiver), "gRPC": ("grpc", GrpcReceiver)}


@pytest.fixture(scope="module", params=_PROTOCOLS)
def received(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What a receiver has got of the trace with everything: the attributes of its spans, by name."""
    protocol, kind = _PROTOCOLS[request.param]
    receiver = kind()
    tracing.shutdown(10)
    tracing.configure(
        tracking_uri="none",
        otlp_endpoint=receiver.url,
        otlp_protocol=protocol,
        spool_dir=tmp_path_factory.mktemp("matrix") / "spool",
    )
    trace_id = record_everything(lambda: trace.get_current_span().set_attribute("mlspan.prompts", ["greeting/1"]))
    result = tracing.flush(60)
    tracing.shutdown(10)
    receiver.stop()
    spans = [span for body in receiver.bodies for span in _read_spans(body)]
    return SimpleNamespace(
        row=f"OTLP receiver, {request.param}", trace_id=trace_id, sent=result, spans={span.name: span for span in spans}
    )


def _read_spans(body: bytes) -> list[Any]:
    request = ExportTraceServiceRequest.FromString(body)
    return [span for of in request.resource_spans for scope in of.scope_spans for span in scope.spans]


def _read_attributes(holder: Any) -> dict[str, str]:
    return {one.key: one.value.string_value or str(one.value) for one in holder.attributes}


def _check_tree(received: Any) -> None:
    assert received.sent, str(received.sent)
    root, look = received.spans["invoke_agent all"], received.spans["execute_tool look"]
    assert (root.parent_span_id, look.parent_span_id) == (b"", root.span_id)
    assert {root.trace_id.hex(), look.trace_id.hex()} == {received.trace_id}


def _check_text(received: Any) -> None:
    said = _read_attributes(received.spans["invoke_agent all"])
    assert json.loads(said["gen_ai.input.messages"])[0]["parts"][0]["content"] in {
        NASTY.replace("\ud83d", mark) for mark in ("\ufffd", "?")
    }
    assert json.loads(said["gen_ai.output.messages"])[0]["parts"][0]["content"] == LONG


def _check_session(received: Any) -> None:
    said = _read_attributes(received.spans["invoke_agent all"])
    assert (said["session.id"], said["user.id"]) == ("session-1", "user-1")


def _check_tags(received: Any) -> None:
    assert _read_attributes(received.spans["invoke_agent all"])["mlspan.tag.team"] == "blue"


def _check_prompts(received: Any) -> None:
    assert "greeting/1" in _read_attributes(received.spans["invoke_agent all"])["mlspan.prompts"]


def _check_feedback(received: Any) -> None:
    (event,) = received.spans["invoke_agent all"].events
    assert "good" in _read_attributes(event).values()


def _check_pictures(received: Any) -> None:
    assert PICTURE in json.dumps(_read_attributes(received.spans["execute_tool look"]))


_CHECKS = {
    "spans": _check_tree,
    "nasty and long text": _check_text,
    "session and user": _check_session,
    "tags": _check_tags,
    "prompts": _check_prompts,
    "feedback": _check_feedback,
    "pictures": _check_pictures,
}


@pytest.mark.parametrize("what", _CHECKS)
def test_what_arrives(received: Any, what: str) -> None:
    with report("", received.row, what):
        _CHECKS[what](received)
