"""Scenarios: clients with a format of their own: Cohere's, Ollama's, and Bedrock's by boto3 and aiobotocore."""

from __future__ import annotations

from typing import Any, Final

import ways
from client_forms import Way, is_installed, list_forms
from harness import Tools, scenario

HELLO: Final[Any] = [{"role": "user", "content": "hello"}]


class Cohere(Way):
    """Cohere's client of the second API, whose streams are generators."""

    needs = "cohere"

    def make(self, url: str, *, is_async: bool) -> Any:
        import cohere

        cls: Any = cohere.AsyncClientV2 if is_async else cohere.ClientV2
        return cls(api_key="k", base_url=url.removesuffix("/v1"))

    def call(self, *, stream: bool, **more: Any) -> Any:
        more.setdefault("request_options", {"max_retries": 0})
        return (self.client.chat_stream if stream else self.client.chat)(model="m", messages=HELLO, **more)

    def find_method(self) -> Any:
        return self.client.chat

    def embed(self) -> Any:
        asked: Any = {"model": "m", "texts": ["hello"], "input_type": "search_query", "embedding_types": ["float"]}
        return self.client.embed(**asked)

    async def close(self) -> None:
        if self.is_async:
            await self.client.__aexit__(None, None, None)
        else:
            self.client.__exit__(None, None, None)


class Ollama(Way):
    """Ollama's client."""

    needs = "ollama"

    def make(self, url: str, *, is_async: bool) -> Any:
        import ollama

        return (ollama.AsyncClient if is_async else ollama.Client)(url.removesuffix("/v1"))

    def call(self, *, stream: bool, **more: Any) -> Any:
        return self.client.chat(model="m", messages=HELLO, stream=stream, **more)

    def find_method(self) -> Any:
        return self.client.chat

    def embed(self) -> Any:
        return self.client.embed(model="m", input="hello")

    async def close(self) -> None:
        own = self.client._client
        await self.got(own.aclose() if self.is_async else own.close())


class Bedrock(Way):
    """Bedrock's client by boto3, and by aiobotocore: its streams are a member of the answer."""

    needs = "botocore"
    asked: Final[Any] = {"modelId": "m", "messages": [{"role": "user", "content": [{"text": "hello"}]}]}

    def make(self, url: str, *, is_async: bool) -> Any:
        keys = {"region_name": "us-east-1", "aws_access_key_id": "k", "aws_secret_access_key": "k"}
        self.how: Any = {**keys, "endpoint_url": url.removesuffix("/v1")}
        if is_async:
            return None  # it is made inside of an event loop
        from botocore.config import Config
        from botocore.session import get_session

        config = Config(retries={"total_max_attempts": 1})
        return get_session().create_client("bedrock-runtime", config=config, **self.how)

    async def connect(self) -> None:
        if self.client is None:
            from aiobotocore.config import AioConfig
            from aiobotocore.session import get_session

            config = AioConfig(retries={"total_max_attempts": 1})
            self.opened = get_session().create_client("bedrock-runtime", config=config, **self.how)
            self.client = await self.opened.__aenter__()

    async def ask(self, **more: Any) -> Any:
        await self.connect()
        return await self.got(self.client.converse(**self.asked, **more))

    async def open_stream(self) -> Any:
        await self.connect()
        return (await self.got(self.client.converse_stream(**self.asked)))["stream"]

    def find_method(self) -> Any:
        from botocore.client import BaseClient

        return BaseClient._make_api_call

    async def embed(self) -> Any:
        """Invoke a model, whose answer is a body that is read later."""
        await self.connect()
        body = '{"max_tokens": 9, "messages": [{"role": "user", "content": "hello"}]}'
        answer = await self.got(self.client.invoke_model(modelId="anthropic.m", body=body))
        return await self.got(answer["body"].read())

    async def close(self) -> None:
        if self.is_async and self.client is not None:
            await self.opened.__aexit__(None, None, None)
        elif self.client is not None:
            self.client.close()


async def embed(way: Any) -> Any:
    made = way.embed()
    return await made if hasattr(made, "__await__") else made


def make_forms(prefix: str, vectors: str, *endings: str) -> Any:
    return {
        **list_forms(prefix, endings=endings),
        "vectors": (vectors, embed),
        "vectors refused": ("500", embed),
    }


CLIENTS: Final = {
    Cohere: make_forms("cohere", "cohere-vectors", "unended", "broken", "cut"),
    Ollama: make_forms("ollama", "ollama-vectors", "unended", "broken", "cut", "error"),
    Bedrock: make_forms("converse", "invoke", "unended", "cut", "error"),
}
TABLE: Final = {
    f"{way.needs}: {name}": (way, row)
    for way, forms in CLIENTS.items()
    if is_installed(way)
    for name, row in ways.make_ways(forms).items()
}


@scenario(TABLE)
async def own_format(tools: Tools, row: Any) -> Any:
    way, form = row
    return await ways.run_way(way, tools, form)
