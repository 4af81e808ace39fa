"""What a call cost, by genai-prices: a table that ships with the package, so nothing is asked of the network."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

_PROVIDERS: Final = {  # the conventions' name -> genai-prices' where they differ
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

Cost = dict[str, float]


@lru_cache(maxsize=4096)
def cost(
    provider: str | None, model: str, input_tokens: int, output_tokens: int, cache_read: int, cache_write: int
) -> Cost | None:
    """US dollars as ``input_cost``, ``output_cost`` and ``total_cost``; None if the model's price is not known.

    *input_tokens* includes the cached ones, as the conventions have it.
    """
    from genai_prices import Usage, calc_price

    usage = Usage(
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        cache_read_tokens=cache_read or None,
        cache_write_tokens=cache_write or None,
    )
    try:
        price = calc_price(usage, model, provider_id=_PROVIDERS.get(provider or "", provider))
    except (LookupError, ValueError):  # no such model or provider; counts that cannot be
        return None
    return {
        "input_cost": float(price.input_price or 0),
        "output_cost": float(price.output_price or 0),
        "total_cost": float(price.total_price),
    }
