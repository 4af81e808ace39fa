"""The cost of model calls, from the price table of the genai-prices package. Nothing is read from the network."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final

from ..operations import semconv as sc

_PRICE_TABLE_PROVIDERS: Final = {  # provider names of the GenAI conventions -> those of genai-prices, where they differ
    "aws.bedrock": "aws",
    "azure.ai.inference": "azure",
    "azure.ai.openai": "azure",
    "gcp.gemini": "google",
    "gcp.gen_ai": "google",
    "gcp.vertex_ai": "google",
    "mistral_ai": "mistral",
    "moonshot_ai": "moonshotai",
    "x_ai": "x-ai",
}
_TOKEN_COUNTS: Final = (
    sc.USAGE_INPUT_TOKENS,
    sc.USAGE_OUTPUT_TOKENS,
    sc.USAGE_CACHE_READ_INPUT_TOKENS,
    sc.USAGE_CACHE_WRITE_INPUT_TOKENS,
    sc.USAGE_LONG_CACHE_WRITE_INPUT_TOKENS,
)

Cost = dict[str, float]


def compute_span_cost(attributes: Mapping[str, Any]) -> Cost | None:
    """Return the cost of a span with these attributes; None if it has no tokens or no model with a known price."""
    input_tokens, output_tokens, cache_read, cache_write, long_cache_write = [
        count if isinstance(count := attributes.get(name), int) else None for name in _TOKEN_COUNTS
    ]
    if input_tokens is None and output_tokens is None:
        return None
    provider = attributes.get(sc.PROVIDER)
    for model in (attributes.get(sc.RESPONSE_MODEL), attributes.get(sc.REQUEST_MODEL)):
        if isinstance(model, str):
            named = provider if isinstance(provider, str) else None
            found = compute_cost(
                named,
                model,
                input_tokens or 0,
                output_tokens or 0,
                cache_read or 0,
                cache_write or 0,
                long_cache_write or 0,
            )
            if found is not None:
                return found
    return None


@lru_cache(maxsize=4096)
def compute_cost(
    provider: str | None,
    model: str,
    input_tokens: int,
    output_tokens: int,
    cache_read: int,
    cache_write: int,
    long_cache_write: int = 0,
) -> Cost | None:
    """Return US dollars as ``input_cost``, ``output_cost`` and ``total_cost``; None if the model's price is unknown.

    *input_tokens* includes the cached tokens, as in the GenAI conventions, and *cache_write* those that are kept for an
    hour, *long_cache_write*, which cost more.
    """
    from genai_prices import Usage, calc_price

    counts = {
        "input_tokens": input_tokens,
        "output_tokens": output_tokens,
        "cache_read_tokens": cache_read or None,
        "cache_write_tokens": cache_write or None,
    }
    try:
        usage = Usage(**counts, cache_write_1h_tokens=long_cache_write) if long_cache_write else Usage(**counts)
    except TypeError:  # a version that knows no lifetimes
        usage = Usage(**counts)
    try:
        price = calc_price(usage, model, provider_id=_PRICE_TABLE_PROVIDERS.get(provider or "", provider))
    except (LookupError, ValueError):  # an unknown model or provider, or impossible counts
        return None
    return {
        "input_cost": float(price.input_price or 0),
        "output_cost": float(price.output_price or 0),
        "total_cost": float(price.total_price),
    }
