"""A client of MCP in the test's process and its servers in others, for the tests of the integration."""

from __future__ import annotations

import importlib.metadata
import json
import os
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("mcp", reason="in the nox sessions mcp")
from mcp import ClientSession, StdioServerParameters
from mcp.client import streamable_http
from mcp.client.stdio import stdio_client

from mlspan.testing import Spans

SERVER = Path(__file__).with_name("mcp_server.py")
IS_FIRST = importlib.metadata.version("mcp").startswith("1.")


class ServerSpans:
    """The spans of the server's process: those of the tests before are left out."""

    def __init__(self, path: Path) -> None:
        self.path, self.url, self._seen = path, "", 0

    def _read(self) -> list[str]:
        return self.path.read_text(encoding="utf-8").splitlines() if self.path.exists() else []

    def clear(self) -> None:
        self._seen = len(self._read())

    def all(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self._read()[self._seen :]]

    def named(self, name: str) -> list[dict[str, Any]]:
        """Return the spans of that name; as the server may end one after its answer, wait for the first of them."""
        until = time.monotonic() + 20
        while not (found := [span for span in self.all() if span["name"] == name]) and time.monotonic() < until:
            time.sleep(0.02)
        return found


@asynccontextmanager
async def connect(served: ServerSpans, **options: Any) -> AsyncIterator[ClientSession]:
    """A session by HTTP."""
    open_streams = getattr(streamable_http, "streamable_http_client", None) or streamable_http.streamablehttp_client
    async with open_streams(served.url) as streams, ClientSession(streams[0], streams[1], **options) as session:
        await session.initialize()
        yield session


def serve_by_pipe(path: Path) -> StdioServerParameters:
    """Return how to start a server whose input and output are ours; its spans go into the file *path*."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST")}
    return StdioServerParameters(command=sys.executable, args=[str(SERVER), str(path)], env=environment)


@asynccontextmanager
async def connect_by_pipe(path: Path, **options: Any) -> AsyncIterator[ClientSession]:
    """A session with a server whose input and output are ours."""
    async with stdio_client(serve_by_pipe(path)) as streams, ClientSession(*streams, **options) as session:
        await session.initialize()
        yield session


@asynccontextmanager
async def connect_in_process(server: Any) -> AsyncIterator[Any]:
    """A session with a server in this process."""
    if IS_FIRST:
        from mcp.shared.memory import create_connected_server_and_client_session

        async with create_connected_server_and_client_session(server._mcp_server) as session:
            yield session
        return
    from mcp.client import Client

    async with Client(server) as client:
        yield client


def get_both(served: ServerSpans, spans: Spans, name: str) -> tuple[Any, dict[str, Any]]:
    """Return the one span of either side."""
    (client,), (server,) = spans.named(name), served.named(name)
    return client, server


def leave_lists_out(spans: Spans) -> list[Any]:
    """Return the spans without the lists of tools that a call asks for, to check its result by."""
    return [span for span in spans.all if span.name != "tools/list"]
