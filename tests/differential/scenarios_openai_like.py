"""Scenarios: clients that answer in OpenAI's format: Groq's, Mistral's, Hugging Face's, LiteLLM and Azure's."""

from __future__ import annotations

import os
from typing import Any, Final

import ways
from client_forms import Way, is_installed, list_forms
from harness import Tools, scenario

HELLO: Final[Any] = [{"role": "user", "content": "hello"}]
ASKED: Final[Any] = {"model": "m", "messages": HELLO}


class Groq(Way):
    """Groq's client, for all that are made from the template of OpenAI's."""

    needs = "groq"

    def make(self, url: str, *, is_async: bool) -> Any:
        import groq

        cls: Any = groq.AsyncGroq if is_async else groq.Groq
        return cls(base_url=url.removesuffix("/v1"), api_key="k", max_retries=0)

    def call(self, *, stream: bool, **more: Any) -> Any:
        return self.client.chat.completions.create(**ASKED, **({"stream": True} if stream else {}), **more)

    def find_method(self) -> Any:
        return self.client.chat.completions.create

    def embed(self) -> Any:
        return self.client.embeddings.create(model="m", input="hello")


class Mistral(Way):
    """Mistral's client, which is one for both ways."""

    needs = "mistralai"

    def make(self, url: str, *, is_async: bool) -> Any:
        from mistralai.client import Mistral as Client

        return Client(api_key="k", server_url=url.removesuffix("/v1"))

    def call(self, *, stream: bool, **more: Any) -> Any:
        name = ("stream" if stream else "complete") + ("_async" if self.is_async else "")
        return getattr(self.client.chat, name)(**ASKED, **more)

    def find_method(self) -> Any:
        return self.client.chat.complete_async if self.is_async else self.client.chat.complete

    def embed(self) -> Any:
        own = self.client.embeddings
        return (own.create_async if self.is_async else own.create)(model="m", inputs=["hello"])

    async def close(self) -> None:
        self.client.__exit__(None, None, None)
        if self.is_async:
            await self.client.__aexit__(None, None, None)


class HuggingFace(Way):
    """Hugging Face's inference client."""

    needs = "huggingface_hub"

    def make(self, url: str, *, is_async: bool) -> Any:
        import huggingface_hub

        cls: Any = huggingface_hub.AsyncInferenceClient if is_async else huggingface_hub.InferenceClient
        return cls(base_url=url, api_key="k", timeout=20)

    def call(self, *, stream: bool, **more: Any) -> Any:
        return self.client.chat_completion(HELLO, model="m", **({"stream": True} if stream else {}), **more)

    def find_method(self) -> Any:
        return self.client.chat_completion

    def embed(self) -> Any:
        return self.client.feature_extraction("hello", model=self.client.base_url)


class LiteLlm(Way):
    """LiteLLM, whose functions have no client."""

    needs = "litellm"

    def make(self, url: str, *, is_async: bool) -> Any:
        os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
        import litellm

        litellm.telemetry, litellm.suppress_debug_info = False, True
        self.where = {"api_base": url, "api_key": "k", "num_retries": 0, "max_retries": 0}
        return litellm

    def call(self, *, stream: bool, **more: Any) -> Any:
        asked = {"model": "openai/m", "messages": HELLO, **self.where, **({"stream": True} if stream else {}), **more}
        return (self.client.acompletion if self.is_async else self.client.completion)(**asked)

    def find_method(self) -> Any:
        return self.client.acompletion if self.is_async else self.client.completion

    def embed(self) -> Any:
        own: Any = self.client.aembedding if self.is_async else self.client.embedding
        return own(model="openai/m", input=["hello"], **self.where)

    async def read(self, items: Any, most: int = 99) -> list[Any]:
        """Return the chunks without their time and id, which LiteLLM makes."""
        return [one.model_dump(exclude={"created", "id"}) for one in await super().read(items, most)]

    async def close(self) -> None:
        """There is nothing to close."""


class Azure(Way):
    """Azure AI Inference's client."""

    needs = "azure.ai.inference"

    def make(self, url: str, *, is_async: bool) -> Any:
        from azure.ai import inference
        from azure.ai.inference import aio
        from azure.core.credentials import AzureKeyCredential

        self.module, self.url, self.key = (aio if is_async else inference), url, AzureKeyCredential("k")
        return self.module.ChatCompletionsClient(url, self.key, retry_total=0)

    def call(self, *, stream: bool, **more: Any) -> Any:
        return self.client.complete(**ASKED, **({"stream": True} if stream else {}), **more)

    def find_method(self) -> Any:
        return self.client.complete

    async def embed_and_close(self) -> Any:
        async with self.inside(self.module.EmbeddingsClient(self.url, self.key, retry_total=0)) as client:
            return await self.got(client.embed(model="m", input=["hello"]))

    def embed(self) -> Any:
        return self.embed_and_close()


async def embed(way: Any) -> Any:
    made = way.embed()
    return await made if hasattr(made, "__await__") else made


ENDINGS: Final = ("unended", "nothing", "error", "broken", "cut", "tool")
FORMS: Final = {
    **list_forms("", endings=ENDINGS, call="hi"),
    "vectors": ("vectors", embed),
    "vectors refused": ("500", embed),
}


TABLE: Final = {
    f"{way.needs}: {name}": (way, row)
    for way in filter(is_installed, (Groq, Mistral, HuggingFace, LiteLlm, Azure))
    for name, row in ways.make_ways(FORMS).items()
}


@scenario(TABLE)
async def openai_like(tools: Tools, row: Any) -> Any:
    way, form = row
    return await ways.run_way(way, tools, form)
