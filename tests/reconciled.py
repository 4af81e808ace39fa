"""What was billed is what is recorded, in MLflow and by OTLP: the one statement that all tests of reconciliation make.

A test runs scenarios, each in a session of its own, and says by a :class:`Bill` what the fake server has billed and
what has raised to the caller. :func:`find_differences` holds that against both backends.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import mlflow
import pytest
from genai_prices import Usage, calc_price

from mlspan.tracing.export.otlp import codec


class Price(NamedTuple):
    """What a call is priced by; *told* is what the provider itself says, in US dollars."""

    provider: str = "openai"
    model: str = "gpt-5-mini"
    tier: str | None = None
    cache_read: int = 0
    cache_write: int = 0
    told: float | None = None
    known: bool = True

    def compute_cost(self, tokens: tuple[int, int]) -> float | None:
        if self.told is not None or not self.known:
            return self.told
        usage = Usage(
            input_tokens=tokens[0],
            output_tokens=tokens[1],
            cache_read_tokens=self.cache_read or None,
            cache_write_tokens=self.cache_write or None,
        )
        tier = {"price_context": {"service_tier": self.tier}} if self.tier else {}
        return float(calc_price(usage, self.model, provider_id=self.provider, **tier).total_price)


class Bill(NamedTuple):
    """What one scenario has cost: tokens of input and of output, US dollars, and what has failed, as type and text."""

    tokens: tuple[int, int]
    cost: float | None
    error: tuple[str, str] | None = None


class Recorded(NamedTuple):
    """What one backend has of a scenario: tokens by trace and by span, cost, and errors as type and text.

    *root_errors* are those of the roots, which the caller got.
    """

    tokens: tuple[int, int]
    tokens_of_spans: tuple[int, int]
    cost: float | None
    errors: set[tuple[str, str]]
    root_errors: set[tuple[str, str]]


def describe_error(error: BaseException | None) -> tuple[str, str] | None:
    """Return type and text of what has raised."""
    return None if error is None else (f"{type(error).__module__}.{type(error).__qualname__}", str(error))


def find_differences(bills: Mapping[str, Bill], bodies: Iterable[bytes]) -> list[str]:
    """Return, a line each, what MLflow or a receiver of OTLP has otherwise than it was billed, or raised.

    Tokens that were billed are the sum of the traces and the sum over the spans that count. The cost is that of the
    price list. What raised to the caller has failed the root, with the error's own type and text; where nothing did,
    nothing has failed.

    Args:
        bills: by the session of each scenario.
        bodies: the requests that the receiver got.
    """
    sent = [codec.decode_span(one) for body in bodies for one in codec.split_export_request(body)]
    found: list[str] = []
    for session, bill in bills.items():
        spans = [span for span in sent if (span.attributes or {}).get("session.id") == session]
        by_mlflow = read_mlflow({format(span.context.trace_id, "032x") for span in spans})
        found += [f"{session}: {one}" for one in _compare(bill, by_mlflow, "MLflow")]
        found += [f"{session}: {one}" for one in _compare(bill, read_otlp(spans), "OTLP")]
        if by_mlflow.cost != (None if bill.cost is None else pytest.approx(bill.cost)):
            found.append(f"{session}: costs {bill.cost}, MLflow has {by_mlflow.cost}")
    return found


def _compare(bill: Bill, recorded: Recorded, where: str) -> Iterator[str]:
    if recorded.tokens != bill.tokens or recorded.tokens_of_spans != bill.tokens:
        yield f"billed {bill.tokens}, {where} has {recorded.tokens} and by span {recorded.tokens_of_spans}"
    if bill.error is None:
        if recorded.errors:
            yield f"no error, {where} has {recorded.errors}"
    elif recorded.root_errors != {bill.error}:
        yield f"raised {bill.error}, the roots in {where} have {recorded.root_errors}"


def sum_tokens(spans: Iterable[tuple[str, str | None, tuple[int, int] | None]]) -> tuple[int, int]:
    """Return the sum over spans that count: those with tokens that are below no other span with tokens."""
    known = {id: (parent, tokens) for id, parent, tokens in spans}
    total = [0, 0]
    for parent, tokens in known.values():
        above: str | None = parent
        while above in known and known[above][1] is None:
            above = known[above][0]
        if tokens is not None and above not in known:
            total = [total[0] + tokens[0], total[1] + tokens[1]]
    return total[0], total[1]


def read_mlflow(ids: Iterable[str]) -> Recorded:
    """Return what MLflow has of the traces *ids*; a trace has failed if one of its spans has."""
    tokens, of_spans, cost, errors, root_errors = (0, 0), (0, 0), None, set(), set()
    for id in ids:
        trace = mlflow.get_trace(f"tr-{id}")
        found = trace.info.token_usage or {}
        tokens = tokens[0] + found.get("input_tokens", 0), tokens[1] + found.get("output_tokens", 0)
        rows = []
        for span in trace.data.spans:
            counted = span.get_attribute("mlflow.chat.tokenUsage")
            rows.append((span.span_id, span.parent_id, counted and (counted["input_tokens"], counted["output_tokens"])))
            told = set(_list_mlflow_errors(span))
            errors |= told
            root_errors |= told if span.parent_id is None else set()
        more = sum_tokens(rows)
        of_spans = of_spans[0] + more[0], of_spans[1] + more[1]
        priced = json.loads(trace.info.trace_metadata.get("mlflow.trace.cost", "{}")).get("total_cost")
        cost = cost if priced is None else (cost or 0.0) + priced
        failed = [span for span in trace.data.spans if span.status.status_code.value == "ERROR"]
        assert (trace.info.state.value == "ERROR") == bool(failed)
    return Recorded(tokens, of_spans, cost, errors, root_errors)


def _list_mlflow_errors(span: Any) -> Iterator[tuple[str, str]]:
    """Yield the exceptions of a span that has failed; those that it has got over are none."""
    if span.status.status_code.value != "ERROR":
        return
    for each in span.events:
        if each.name == "exception":
            yield str(each.attributes["exception.type"]), str(each.attributes["exception.message"])


def read_otlp(spans: list[Any]) -> Recorded:
    """Return what a receiver has of *spans*; it adds them up by itself."""
    rows, errors, root_errors = [], set(), set()
    for span in spans:
        attributes = span.attributes
        counts = [attributes.get(f"gen_ai.usage.{kind}_tokens") for kind in ("input", "output")]
        counted = None if counts == [None, None] else (counts[0] or 0, counts[1] or 0)
        parent = format(span.parent.span_id, "016x") if span.parent else None
        rows.append((format(span.context.span_id, "016x"), parent, counted))
        if span.status.status_code.name == "ERROR":
            errors.add((attributes["error.type"], span.status.description))
            root_errors |= set() if span.parent else {(attributes["error.type"], span.status.description)}
    return Recorded(sum_tokens(rows), sum_tokens(rows), None, errors, root_errors)
