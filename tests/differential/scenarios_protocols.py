"""Scenarios: what is no HTTP with JSON: xAI's client by gRPC, MCP's client and server, and Qdrant in this process."""

from __future__ import annotations

import os
import threading
from concurrent import futures
from typing import Any, Final

import ways
from client_forms import Way, is_installed, list_forms
from harness import Tools, scenario

os.environ["XAI_SDK_DISABLE_TRACING"] = "1"  # its own spans fail to detach their context, and are held back beside ours


class Xai(Way):
    """xAI's client: its server of gRPC is in this process, and answers what the URL names."""

    needs = "xai_sdk"
    server: Any = None  # of all scenarios: a server for each would leave threads behind

    def make(self, url: str, *, is_async: bool) -> Any:
        import xai_sdk

        address = start_xai_server()
        self.name = url.split("/")[-2]
        options: Any = {"api_key": "k", "api_host": address, "use_insecure_channel": True}
        options["metadata"] = (("answer", self.name),)
        options["channel_options"] = [("grpc.enable_retries", 0)]
        return (xai_sdk.AsyncClient if is_async else xai_sdk.Client)(**options)

    def make_chat(self, **more: Any) -> Any:
        from xai_sdk.chat import user

        return self.client.chat.create(model="m", messages=[user("hello")], **more)

    def call(self, *, stream: bool, **more: Any) -> Any:
        chat = self.make_chat(**more)
        return chat.stream() if stream else chat.sample()

    def find_method(self) -> Any:
        return self.make_chat().sample


def start_xai_server() -> str:
    """Start the server, once; return its address."""
    if Xai.server is None:
        import grpc
        from xai_sdk.proto import chat_pb2, chat_pb2_grpc

        role, stop = chat_pb2.MessageRole.ROLE_ASSISTANT, "REASON_STOP"

        class Servicer(chat_pb2_grpc.ChatServicer):  # type: ignore[misc]  # it has no types
            def GetCompletion(self, _: Any, context: Any) -> Any:  # noqa: N802  # the service's name
                if dict(context.invocation_metadata())["answer"] == "500":
                    context.abort(grpc.StatusCode.INVALID_ARGUMENT, "no such model")
                said = chat_pb2.CompletionMessage(role=role, content="Hi.")
                output: Any = chat_pb2.CompletionOutput(index=0, message=said, finish_reason=stop)
                return chat_pb2.GetChatCompletionResponse(id="c-1", model="m", outputs=[output])

            def GetCompletionChunk(self, _: Any, context: Any) -> Any:  # noqa: N802  # likewise
                answer = dict(context.invocation_metadata())["answer"]
                if answer == "500":
                    context.abort(grpc.StatusCode.INVALID_ARGUMENT, "no such model")
                for text in ("One ", "two."):
                    delta = chat_pb2.Delta(role=role, content=text)
                    output = chat_pb2.CompletionOutputChunk(index=0, delta=delta)
                    yield chat_pb2.GetChatCompletionChunk(id="c-1", model="m", outputs=[output])
                    if answer == "xai-stream-cut":
                        context.abort(grpc.StatusCode.INTERNAL, "cut off")

        pool, both = futures.ThreadPoolExecutor(2), threading.Barrier(3)
        for _ in range(2):  # both threads begin now, rather than in whichever scenario needs the second
            pool.submit(both.wait, 60)
        both.wait(60)
        server = grpc.server(pool)
        chat_pb2_grpc.add_ChatServicer_to_server(Servicer(), server)
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        Xai.server = server, f"127.0.0.1:{port}"
    return str(Xai.server[1])


def _list_xai_forms() -> Any:
    forms = list_forms("xai", endings=("cut",))
    served = {"xai", "xai-stream", "xai-stream-cut", "500"}
    return {name: form for name, form in forms.items() if form[0] in served}


XAI: Final = {
    f"{Xai.needs}: {name}": row for name, row in ways.make_ways(_list_xai_forms()).items() if is_installed(Xai)
}
if XAI:
    start_xai_server()


@scenario(XAI)
async def xai(tools: Tools, row: Any) -> Any:
    return await ways.run_way(Xai, tools, row)


class Mcp(Way):
    needs = "mcp.server.mcpserver"


class Qdrant(Way):
    needs = "qdrant_client"


def make_mcp_server() -> Any:
    from mcp.server.mcpserver import MCPServer

    server = MCPServer("weather")

    @server.tool()
    async def weather(city: str) -> str:
        """The weather of a city."""
        return f"sunny in {city}"

    @server.tool()
    async def fail(city: str) -> str:
        raise ValueError(f"no {city}")

    @server.prompt()
    def greet(name: str) -> str:
        return f"Greet {name}."

    @server.resource("city://paris")
    def paris() -> str:
        return "Paris"

    return server


MCP_CALLS: Final[dict[str, tuple[str, dict[str, Any]]]] = {
    "tools": ("list_tools", {}),
    "a tool": ("call_tool", {"name": "weather", "arguments": {"city": "Paris"}}),
    "a tool that fails": ("call_tool", {"name": "fail", "arguments": {"city": "Paris"}}),
    "no such tool": ("call_tool", {"name": "nonsense", "arguments": {}}),
    "wrong arguments": ("call_tool", {"name": "weather", "arguments": {"town": 1}}),
    "a prompt": ("get_prompt", {"name": "greet", "arguments": {"name": "Ada"}}),
    "no such prompt": ("get_prompt", {"name": "nonsense"}),
    "a resource": ("read_resource", {"uri": "city://paris"}),
    "no such resource": ("read_resource", {"uri": "city://nowhere"}),
    "no such argument": ("call_tool", {"nonsense": 1}),
}


@scenario(MCP_CALLS if is_installed(Mcp) else {})
async def mcp(_: Tools, row: Any) -> Any:
    """A client and a server in this process, joined by queues."""
    from mcp import Client

    name, asked = row
    async with Client(make_mcp_server()) as client:
        return await getattr(client, name)(**asked)


QDRANT_CALLS: Final[dict[str, tuple[str, dict[str, Any]]]] = {
    "found": ("query_points", {"query": [1.0, 0.0], "limit": 2}),
    "no such collection": ("query_points", {"query": [1.0, 0.0], "collection_name": "nonsense"}),
    "wrong length": ("query_points", {"query": [1.0]}),
    "wrong arguments": ("query_points", {"nonsense": 1}),
    "counted": ("count", {}),
    "deleted": ("delete", {"points_selector": [1]}),
    "scrolled": ("scroll", {"limit": 1}),
    "retrieved": ("retrieve", {"ids": [1, 9]}),
}
QDRANT: Final = {
    f"{name}, {'async' if is_async else 'sync'}": (*row, is_async)
    for name, row in QDRANT_CALLS.items()
    for is_async in (False, True)
    if is_installed(Qdrant)
}


@scenario(QDRANT)
async def qdrant(_: Tools, row: Any) -> Any:
    """A database in memory."""
    from qdrant_client import AsyncQdrantClient, QdrantClient, models

    name, asked, is_async = row
    way = ways.Way((AsyncQdrantClient if is_async else QdrantClient)(":memory:"), is_async=is_async)
    try:
        size = models.VectorParams(size=2, distance=models.Distance.DOT)
        await way.got(way.client.create_collection("docs", vectors_config=size))
        points = [models.PointStruct(id=id, vector=[1.0, float(id)], payload={"text": "hello"}) for id in (1, 2)]
        written = await way.got(way.client.upsert("docs", points))
        return [written, await way.got(getattr(way.client, name)(**{"collection_name": "docs", **asked}))]
    finally:
        await way.close()
