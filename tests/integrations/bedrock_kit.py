"""Clients of Bedrock, by boto3 and by aiobotocore, and a server that a test scripts."""

from __future__ import annotations

from functools import cache
from typing import Any, ClassVar

import botocore.client
import botocore.session
from botocore.config import Config
from botocore.exceptions import ClientError
from scripted_client import ScriptedClient
from servers.aws_events import CONTENT_TYPE, encode_event

from mlspan import integrations


@cache
def get_session() -> Any:
    return botocore.session.Session()


GENERATE: Any = {
    "input": {"text": "a greeting"},
    "retrieveAndGenerateConfiguration": {
        "type": "KNOWLEDGE_BASE",
        "knowledgeBaseConfiguration": {
            "knowledgeBaseId": "KB00000001",
            "modelArn": "arn:aws:bedrock:us-east-1::foundation-model/m",
        },
    },
}


def knows(*path: str, operation: str = "Converse", service: str = "bedrock-runtime") -> bool:
    """Return whether this version of botocore knows a field of the operation's answer: it drops all others."""
    model = get_session().get_service_model(service)
    shape = model.operation_model(operation).output_shape if operation in model.operation_names else None
    for name in path:
        while shape is not None and shape.type_name == "list":
            shape = shape.member
        shape = getattr(shape, "members", {}).get(name)
    return shape is not None


HAS_CACHE = knows("usage", "cacheReadInputTokens")
CACHED: Any = {"cacheReadInputTokens": 3, "cacheWriteInputTokens": 1} if HAS_CACHE else {}
USAGE: Any = {"inputTokens": 8 if HAS_CACHE else 12, "outputTokens": 5, "totalTokens": 17, **CACHED}
ANSWER: Any = {
    "output": {"message": {"role": "assistant", "content": [{"text": "One two."}]}},
    "stopReason": "end_turn",
    "usage": USAGE,
    "metrics": {"latencyMs": 9},
}
REFUSAL = {"message": "no such model", "__type": "ValidationException"}
ASKED: Any = {"modelId": "m", "messages": [{"role": "user", "content": [{"text": "a greeting"}]}]}
DUMMY: Any = {"region_name": "us-east-1", "aws_access_key_id": "test", "aws_secret_access_key": "test"}


def text(*pieces: str, index: int = 0) -> list[Any]:
    """Return the events of a block of text."""
    return [
        *({"contentBlockDelta": {"contentBlockIndex": index, "delta": {"text": piece}}} for piece in pieces),
        {"contentBlockStop": {"contentBlockIndex": index}},
    ]


def stream_of(*blocks: list[Any], stop: str = "end_turn", usage: Any = USAGE) -> list[Any]:
    """Return the events of a whole stream."""
    return [
        {"messageStart": {"role": "assistant"}},
        *(event for block in blocks for event in block),
        {"messageStop": {"stopReason": stop}},
        {"metadata": {"usage": usage, "metrics": {"latencyMs": 9}}},
    ]


def configure(**options: Any) -> Config:
    return Config(**{"retries": {"total_max_attempts": 1}, "read_timeout": 20, **options})


@cache
def make_client(service: str, server_url: str, retries: int = 1) -> Any:
    """Return boto's client of *service*; making one takes a tenth of a second, so the tests share it."""
    options: Any = {**DUMMY, "endpoint_url": server_url, "config": configure(retries={"total_max_attempts": retries})}
    return get_session().create_client(service, **options)


def send_events(server: Any, events: list[Any], **how: Any) -> None:
    """Have *server* answer with these events in AWS's encoding."""
    server.stream_bytes(*map(encode_event, events), content_type=CONTENT_TYPE, **how)


class Bedrock(ScriptedClient):
    """The client, its hook and its server."""

    answer, refusal = ANSWER, REFUSAL
    events = stream_of(text("One ", "two."))[1:]  # from the first that has a text, as the contracts want
    service: ClassVar[str] = "bedrock-runtime"
    code: ClassVar[str] = "ValidationException"  # of the refusal

    def make_client(self) -> Any:
        return make_client(self.service, self.server.base_url.removesuffix("/v1"))

    def ask(self, client: Any, *, stream: bool = False, **more: Any) -> Any:
        return client.converse_stream(**ASKED)["stream"] if stream else client.converse(**ASKED)

    def release_client(self) -> None:
        """It is shared."""

    def autolog(self, **options: Any) -> None:
        integrations.bedrock.autolog(**options)

    def check_span(self, *, end: str | None = None, error: type[BaseException] | None = None) -> Any:
        """Botocore makes a class for each error that it knows, as the client is made; all are ``ClientError``s."""
        if error is ClientError:
            error = type(self.code, (ClientError,), {})
        return super().check_span(end=end, error=error)  # type: ignore[misc]  # a mixin

    def list_targets(self) -> list[tuple[Any, str]]:
        return [(botocore.client.BaseClient, "_make_api_call")]

    def send_events(self, events: list[Any], **how: Any) -> None:
        send_events(self.server, events, **how)

    async def make_async_client(self) -> Any:
        """Return aiobotocore's client, made in the event loop of the test."""
        from aiobotocore.config import AioConfig
        from aiobotocore.session import get_session

        config = AioConfig(retries={"total_max_attempts": 1}, read_timeout=20)
        address = self.server.base_url.removesuffix("/v1")
        opened = get_session().create_client(self.service, **DUMMY, endpoint_url=address, config=config)
        self.async_clients.append(opened)
        return await opened.__aenter__()

    async def close_client(self) -> None:
        while self.async_clients:
            await self.async_clients.pop().__aexit__(None, None, None)
