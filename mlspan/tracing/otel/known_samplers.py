"""The SDK's own samplers: what they decide, read from their fields without a call.

A sampler that is not one of them, or has other fields, is left to the SDK.
"""

from __future__ import annotations

from typing import Final

from opentelemetry.sdk.trace.sampling import (
    ALWAYS_OFF,
    ALWAYS_ON,
    Decision,
    ParentBased,
    Sampler,
    StaticSampler,
    TraceIdRatioBased,
)
from opentelemetry.trace import SpanContext

from .compat import report_missing

_PARENT_BASED_FIELDS: Final = (
    *("_local_parent_sampled", "_local_parent_not_sampled"),
    *("_remote_parent_sampled", "_remote_parent_not_sampled"),
)
_SAMPLER_FIELDS: Final = {"_root", "_decision", *_PARENT_BASED_FIELDS}


def follows_parent(sampler: Sampler | None) -> bool:
    """Return whether a span below another one is always sampled as that one is."""
    if type(sampler) is not ParentBased:
        return False
    for name in _PARENT_BASED_FIELDS:
        if not hasattr(sampler, name):
            report_missing(name)
            return False
    sampled = sampler._local_parent_sampled is sampler._remote_parent_sampled is ALWAYS_ON
    return sampled and sampler._local_parent_not_sampled is sampler._remote_parent_not_sampled is ALWAYS_OFF


_NO_SAMPLER: Final = object()


def find_root_decision(sampler: Sampler | None) -> tuple[object, bool]:
    """Return *sampler* and what it decides of every root; no sampler if it need not decide the same of all."""
    root = getattr(sampler, "_root", None) if type(sampler) is ParentBased else sampler
    decision = getattr(root, "_decision", None) if type(root) is StaticSampler else None
    if decision is Decision.RECORD_AND_SAMPLE or decision is Decision.DROP:
        return sampler, decision is Decision.RECORD_AND_SAMPLE
    return _NO_SAMPLER, False


def decide_by_sampler(sampler: Sampler | None, parent: SpanContext | None, trace_id: int) -> bool | None:
    """Return the decision of one of the SDK's own samplers, and None for any other sampler or decision."""
    try:
        return _decide_by_known_sampler(sampler, parent, trace_id)
    except AttributeError as error:
        report_missing(error.name if error.name in _SAMPLER_FIELDS else "_decision")
        return None


def _decide_by_known_sampler(sampler: Sampler | None, parent: SpanContext | None, trace_id: int) -> bool | None:
    """Return the same, or raise AttributeError if the SDK's samplers have other fields."""
    if type(sampler) is ParentBased:
        if parent is None:
            sampler = sampler._root
        elif parent.is_remote:
            sampler = sampler._remote_parent_sampled if parent.trace_flags & 1 else sampler._remote_parent_not_sampled
        else:
            sampler = sampler._local_parent_sampled if parent.trace_flags & 1 else sampler._local_parent_not_sampled
    if type(sampler) is StaticSampler:
        decision = sampler._decision
        return None if decision is Decision.RECORD_ONLY else decision is Decision.RECORD_AND_SAMPLE
    if type(sampler) is TraceIdRatioBased:
        return trace_id & sampler.TRACE_ID_LIMIT < sampler.bound
    return None
