"""The cost of model calls, from the price table of the genai-prices package. Nothing is read from the network.

A call whose price is not known has no cost here; MLflow is given ``mlflow/spans._UNKNOWN_COST`` for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final

from ..._shape import get_count, read_amount
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
    """Return the cost of a span with these attributes; None if it has no tokens or no model with a known price.

    What the provider itself says that it charges counts before any price list, and the estimate of a framework where
    our list has no price.
    """
    if (told := _read_told_cost(attributes)) is not None:
        return told
    if (listed := _compute_listed_cost(attributes)) is not None:
        return listed
    estimated = read_amount(attributes.get(sc.USAGE_ESTIMATED_COST))
    return None if estimated is None else {"total_cost": estimated}


def _compute_listed_cost(attributes: Mapping[str, Any]) -> Cost | None:
    """Return the cost by the price list; None without tokens, or without a price."""
    input_tokens, output_tokens, cache_read, cache_write, long_cache_write = [
        get_count(attributes, name) for name in _TOKEN_COUNTS
    ]
    if input_tokens is None and output_tokens is None:
        return None
    provider, tier = attributes.get(sc.PROVIDER), _find_service_tier(attributes)
    for model in (attributes.get(sc.RESPONSE_MODEL), attributes.get(sc.REQUEST_MODEL)):
        if isinstance(model, str):
            named = provider if isinstance(provider, str) else None
            listed = _find_listed_name(model) if provider == "aws.bedrock" else model
            counts = (input_tokens or 0, output_tokens or 0, cache_read or 0, cache_write or 0, long_cache_write or 0)
            if (found := compute_cost(named, listed, *counts, tier)) is not None:
                return found
    return None


def _find_listed_name(model: str) -> str:
    """Return the price list's name for a Bedrock model, which may be given by its ARN.

    The list has prices by region (``eu.anthropic.claude-...``) and for all of them; where it lacks the region, those of
    the model itself are the nearest.
    """
    name = model.rpartition("/")[2] if model.startswith("arn:") else model
    if compute_cost("aws.bedrock", name, 1, 1, 0, 0) is not None:
        return name
    region, _, plain = name.partition(".")
    return plain if "." in plain and len(region) <= _LONGEST_REGION else name


_LONGEST_REGION: Final = len("us-gov")


def _read_told_cost(attributes: Mapping[str, Any]) -> Cost | None:
    """Return the cost that the provider has told, with its parts if it has told those; None if it has told none."""
    total = read_amount(attributes[sc.USAGE_COST]) if sc.USAGE_COST in attributes else None  # few providers do
    if total is None:
        return None
    given = read_amount(attributes.get(sc.USAGE_INPUT_COST))
    parts = {} if given is None else {"input_cost": given, "output_cost": total - given}
    return {**parts, "total_cost": total}


def _find_service_tier(attributes: Mapping[str, Any]) -> str | None:
    """Return the service tier that a call was billed in, if that is not the standard one.

    The answer tells it; where it does not, the tier that was asked for counts.
    """
    names = sc.RESPONSE_SERVICE_TIER, sc.OPENAI_RESPONSE_SERVICE_TIER, sc.OPENAI_REQUEST_SERVICE_TIER
    tier = next(filter(None, map(attributes.get, names)), None)
    return tier if isinstance(tier, str) and tier not in _STANDARD_TIERS else None


_STANDARD_TIERS: Final = frozenset({"auto", "default", "standard", "scale", "on_demand"})


@lru_cache(maxsize=4096)
def compute_cost(
    provider: str | None,
    model: str,
    input_tokens: int,
    output_tokens: int,
    cache_read: int,
    cache_write: int,
    long_cache_write: int = 0,
    service_tier: str | None = None,
) -> Cost | None:
    """Return US dollars as ``input_cost``, ``output_cost`` and ``total_cost``; None if the model's price is unknown.

    *input_tokens* includes the cached tokens, as in the GenAI conventions, and *cache_write* those that are kept for an
    hour, *long_cache_write*, which cost more. *service_tier* is one with prices of its own, such as ``flex``: where the
    list has none for it, the price is unknown.
    """
    from genai_prices import Usage, calc_price

    counts = {
        "input_tokens": input_tokens,
        "output_tokens": output_tokens,
        "cache_read_tokens": cache_read or None,
        "cache_write_tokens": cache_write or None,
    }
    context: dict[str, Any] = {"price_context": {"service_tier": service_tier}} if service_tier else {}
    try:
        try:
            usage = Usage(**counts, cache_write_1h_tokens=long_cache_write) if long_cache_write else Usage(**counts)
        except TypeError:  # a version that knows no lifetimes
            usage = Usage(**counts)
        price = calc_price(usage, model, provider_id=_PRICE_TABLE_PROVIDERS.get(provider or "", provider), **context)
    except (LookupError, ValueError, TypeError):  # an unknown model, provider or tier, or counts that cannot be
        return None
    if service_tier is not None and not _has_tier(price.model, service_tier):
        return None
    return {
        "input_cost": float(price.input_price or 0),
        "output_cost": float(price.output_price or 0),
        "total_cost": float(price.total_price),
    }


def _has_tier(model: object, service_tier: str) -> bool:
    """Return whether the price list has prices of *model* for this tier."""
    variants = getattr(model, "price_variants", None) or ()
    return any(getattr(variant, "when", {}).get("service_tier") == service_tier for variant in variants)
