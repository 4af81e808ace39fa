"""Bedrock's clients of aiobotocore: every call and every end of a stream."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any, ClassVar

import pytest

pytest.importorskip("botocore.client", reason="in the nox sessions bedrock")
pytest.importorskip("aiobotocore.client", reason="no version of it is for the newest botocore")
from aiobotocore.client import AioBaseClient
from aiobotocore.eventstream import AioEventStream
from bedrock_kit import ASKED, Bedrock
from botocore.exceptions import ClientError
from scripted_client import ScriptedAsyncCalls, ScriptedAsyncStreams

from mlspan.testing import contracts

pytestmark = [  # botocore leaves the connection of a stream that nobody reads to the collector
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
    pytest.mark.filterwarnings("ignore:Exception ignored in. <socket:pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore:Unclosed connection:ResourceWarning"),
    pytest.mark.filterwarnings("ignore:.*Connection.__del__:pytest.PytestUnraisableExceptionWarning"),
]


class AsyncBedrock(Bedrock):
    def list_targets(self) -> list[tuple[Any, str]]:
        return [(AioBaseClient, "_make_api_call")]

    async def ask(self, client: Awaitable[Any], *, stream: bool = False, **more: Any) -> Any:
        """Ask a client that is made in the event loop of the call."""
        opened = await client
        return (await opened.converse_stream(**ASKED))["stream"] if stream else await opened.converse(**ASKED)


class TestAsyncConverse(AsyncBedrock, ScriptedAsyncCalls, contracts.AsyncCallContract):
    fails = ClientError
    code = "NewException"  # one that botocore has no class for
    refusal: ClassVar[Any] = {"message": "no such model", "__type": code}

    def read_answer(self, answer: Any) -> Any:
        return {name: value for name, value in answer.items() if name != "ResponseMetadata"}


class TestAsyncConverseStream(AsyncBedrock, ScriptedAsyncStreams, contracts.AsyncStreamContract):
    has_http_response: ClassVar[bool] = False
    has_with: ClassVar[bool] = False
    stream_type: ClassVar[type] = AioEventStream
