"""Bedrock's clients of boto3: every call and every end of a stream."""

from __future__ import annotations

import json
from typing import Any, ClassVar

import pytest

pytest.importorskip("botocore.client", reason="in the nox sessions bedrock")
from bedrock_kit import Bedrock
from botocore.eventstream import EventStream
from botocore.exceptions import ClientError
from scripted_client import ScriptedCalls, ScriptedStreams

from mlspan.testing import contracts

pytestmark = [  # botocore leaves the connection of a stream that nobody reads to the collector
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
    pytest.mark.filterwarnings("ignore:Exception ignored in. <socket:pytest.PytestUnraisableExceptionWarning"),
]

CLAUDE: Any = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "claude-1",
    "content": [{"type": "text", "text": "One two."}],
    "stop_reason": "end_turn",
    "usage": {"input_tokens": 8, "cache_read_input_tokens": 4, "output_tokens": 5},
}
NATIVE: Any = {
    "modelId": "m",
    "body": json.dumps(
        {
            "anthropic_version": "bedrock-2023-05-31",
            "max_tokens": 9,
            "messages": [{"role": "user", "content": "a greeting"}],
        }
    ),
}


class TestConverse(Bedrock, ScriptedCalls, contracts.CallContract):
    fails = ClientError

    def read_answer(self, answer: Any) -> Any:
        return {name: value for name, value in answer.items() if name != "ResponseMetadata"}


class TestInvokeModel(TestConverse):
    answer = CLAUDE

    def ask(self, client: Any, **more: Any) -> Any:
        answer = client.invoke_model(**NATIVE)
        return {**answer, "body": answer["body"].read()}


class Streamed(Bedrock, ScriptedStreams, contracts.StreamContract):
    has_http_response: ClassVar[bool] = False
    has_with: ClassVar[bool] = False
    stream_type: ClassVar[type] = EventStream


class TestConverseStream(Streamed):
    """The stream of a chat."""


class TestFailingStream(Streamed):
    """The server says in the middle of a stream that it fails."""

    failure: ClassVar[Any] = {"throttlingException": {"message": "slow down"}}

    def open_cut_off_stream(self) -> Any:
        return self.open_stream("error")

    def check_left(self, *, end: str | None = None, error: type[BaseException] | None = None) -> None:
        if error is None:
            super().check_left(end=end)
            return
        attributes = dict(self.spans.one().attributes or {})
        assert attributes["error.type"] == "throttlingException"
        assert self.first_text in str(attributes)


class TestAgent(Streamed):
    service = "bedrock-agent-runtime"
    span = "invoke_agent"
    tokens = None  # type: ignore[assignment]  # the agent tells none
    cut_after = 1
    events: ClassVar[list[Any]] = [{"chunk": {"bytes": "T25lIA=="}}, {"chunk": {"bytes": "dHdvLg=="}}]

    def ask(self, client: Any, **more: Any) -> Any:
        asked = {"agentId": "a1", "agentAliasId": "v1", "sessionId": "s1", "inputText": "a greeting"}
        return client.invoke_agent(**asked)["completion"]
