"""Facts that LangChain tells of a model beside its parameters: the server's address, the tier, the answer's form."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from ..._shape import get_fields, get_list, get_nested, get_text
from ...hooks.requests import read_server_fields
from ...tracing.operations import semconv as sc
from ...tracing.operations.records import Chat

# Arguments of the models' classes that hold the server's address; the first one counts.
_ADDRESSES: Final = (
    *("base_url", "openai_api_base", "azure_endpoint", "anthropic_api_url", "endpoint", "endpoint_url", "api_base"),
    *("groq_api_base", "mistral_api_url", "deepseek_api_base", "xai_api_base"),
)
_HOLDS_ADDRESS: Final = frozenset(_ADDRESSES)
_RARE: Final = frozenset({"service_tier", "modalities", "response_format", "text"})  # parameters that are read here


def read_model_facts(record: Chat, more: Mapping[str, object]) -> None:
    """Read into *record* what the callback's further arguments say: the model as ``serialized``, and its parameters."""
    made = get_fields(get_fields(more.get("serialized")).get("kwargs"))
    if not _HOLDS_ADDRESS.isdisjoint(made):  # most models are made without any of them
        address = next((text for name in _ADDRESSES if (text := get_text(made, name))), None)
        for name, value in read_server_fields(address).items():
            setattr(record, name, value)
    params = get_fields(more.get("invocation_params"))
    if _RARE.isdisjoint(params):
        return
    if (tier := get_nested(params, "service_tier", str)) not in {None, "auto"}:
        record.extra[sc.OPENAI_REQUEST_SERVICE_TIER] = tier
    if record.output_type is not None:
        return
    if "audio" in get_list(params, "modalities"):
        record.output_type = "speech"
    elif (get_nested(params, "response_format.type", str) or get_nested(params, "text.format.type", str)) == "text":
        record.output_type = "text"
