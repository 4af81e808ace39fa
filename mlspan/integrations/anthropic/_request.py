"""One request of Anthropic's client: its body, and which provider serves it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from ...hooks.requests import find_base_url, read_server_fields

_PROVIDERS_BY_CLIENT: Final = {  # part of the client's class name -> value of gen_ai.provider.name
    "Bedrock": "aws.bedrock",
    "AWS": "aws.bedrock",
    "Vertex": "gcp.vertex_ai",
    "GoogleCloud": "gcp.vertex_ai",
    "Foundry": "azure.ai.inference",
}


class AnthropicRequest(NamedTuple):
    """One request, as the ``begin`` of an endpoint reads it.

    Attributes:
        client: the ``Anthropic``, ``AsyncAnthropic``, ``AnthropicBedrock`` or other client that sends it.
        options: the client's ``FinalRequestOptions``.
        body: the JSON body, ``extra_body`` included.
        capture_content: whether messages and other content are recorded.
    """

    client: Any
    options: Any
    body: Mapping[str, Any]
    capture_content: bool

    def read_server_fields(self) -> dict[str, Any]:
        """Return the record's fields ``provider``, ``server_address`` and ``server_port``."""
        return {"provider": find_client_provider(self.client), **read_server_fields(find_base_url(self.client))}


def find_client_provider(client: object) -> str:
    """Return the conventions' provider name by the client's class; ``anthropic`` for Anthropic's own API."""
    for cls in type(client).__mro__:  # the application's own subclass may have any name
        for part, provider in _PROVIDERS_BY_CLIENT.items():
            if part in cls.__name__:
                return provider
    return "anthropic"
