"""Translation of a trace segment to MLflow: its summary in the list of traces, its run, session and user."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, NamedTuple

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanKind, StatusCode

from ...._guard import guard
from ...operations import semconv as sc
from ...operations.call_context import TraceOrigin
from ...operations.content import parsed_to_json, to_json
from ...operations.sessions import cut_session
from ..counted_calls import MODEL_OPERATIONS
from ..dialects.catalog import is_own_span, translate_foreign_span
from ..dialects.dialect import parse_attribute
from ..dialects.lifting import lift_messages
from ..recent_spans import get_span_id
from ..types import TraceSegment
from .assessments import Assessment, is_assessment_span, read_assessments
from .attachments import AttachmentsById, extract_attachments
from .messages import preview_answer, preview_request, server_answer_preview, server_request_preview
from .names import (
    INPUTS,
    OUTPUTS,
    RESUMES_KEY,
    SESSION_KEY,
    SOURCE_RUN_KEY,
    TRACE_NAME_KEY,
    USER_KEY,
    WAITING_KEY,
)
from .span_totals import SpanTotals, count_calls_once, sum_totals
from .spans import (
    MAX_SESSION_LENGTH,
    MISSING_PARENT,
    PREVIEW,
    Attributes,
    TranslatedSpan,
    bare,
    read_resource_tags,
    replace_attributes,
    storable,
    translate_span,
)
from .trace_updates import read_updates
from .waiting import find_resumed_trace, find_waiting_span, preview_question

_MAX_PREVIEW: Final = 1000  # characters
_MAX_TAG: Final = 4096
_MAX_CLIENT_REQUEST_ID: Final = 50
_NS_PER_MS: Final = 1_000_000  # nanoseconds

MODEL_KEY: Final = "mlflow.modelId"
MISSING_PARENT_KEY: Final = MISSING_PARENT  # metadata: ids of parents that the store does not have
PROMPTS_KEY: Final = "mlflow.linkedPrompts"
_NOT_IN_SPANS: Final = {SOURCE_RUN_KEY, MODEL_KEY, MISSING_PARENT_KEY}  # metadata that no span attribute can carry


_NO_PAIRS: Final[Mapping[str, str]] = {}


class TraceSummary(NamedTuple):
    """The data that MLflow keeps of a trace beside its spans. Times are in milliseconds, the first since 1970."""

    trace_id: str  # "tr-" and 32 hexadecimal digits
    request_time: int
    duration: int
    failed: bool
    request_preview: str | None = None
    response_preview: str | None = None
    client_request_id: str | None = None
    tags: Mapping[str, str] = _NO_PAIRS
    metadata: Mapping[str, str] = _NO_PAIRS
    is_updated: bool = False  # True if a caller has written to it what no span can carry
    experiment_id: str | None = None  # where the store has it; None if it is new

    def with_updates(self, told: Mapping[str, Any]) -> TraceSummary:
        """Return this summary with what MLflow's functions have written to the trace."""
        if not told:
            return self
        state, request_id = told.get("state"), told.get("client_request_id")
        return self._replace(
            failed=self.failed if state is None else state == "ERROR",
            request_preview=_cut_text(told.get("request_preview"), _MAX_PREVIEW) or self.request_preview,
            response_preview=_cut_text(told.get("response_preview"), _MAX_PREVIEW) or self.response_preview,
            client_request_id=str(request_id)[:_MAX_CLIENT_REQUEST_ID] if request_id else self.client_request_id,
            tags={**self.tags, **drop_reserved_keys(_cut_pairs(told["tags"]))},
            metadata={**self.metadata, **drop_reserved_keys(_cut_metadata(told["metadata"]))},
            is_updated=True,
        )

    def with_totals(self, counted: Iterable[SpanTotals]) -> TraceSummary:
        """Return this summary with the sum of tokens and cost of all spans in *counted*."""
        spans = list(counted)
        totals = {
            "mlflow.trace.tokenUsage": sum_totals(spans, lambda span: span.usage),
            "mlflow.trace.cost": sum_totals(spans, lambda span: span.cost),
        }
        return self._replace(
            metadata={**self.metadata, **{key: parsed_to_json(sums) for key, sums in totals.items() if sums}}
        )

    def merge_stored(self, before: TraceSummary, *, has_root: bool, stored_has_root: bool) -> TraceSummary:
        """Return this summary merged with *before*, which another process or an earlier segment has stored.

        Name, previews and state are those of the part with the trace's root, whichever arrives first, or else of the
        part that began first.
        """
        leads = has_root > stored_has_root or (has_root == stored_has_root and self.request_time <= before.request_time)
        first, second = (self, before) if leads else (before, self)
        knows_root = has_root or stored_has_root
        start = min(self.request_time, before.request_time)
        end = max(self.request_time + self.duration, before.request_time + before.duration)
        return self._replace(
            is_updated=first.is_updated or second.is_updated,
            request_time=start,
            duration=end - start,
            failed=first.failed or (second.failed and not knows_root),
            request_preview=first.request_preview or second.request_preview,
            response_preview=first.response_preview or second.response_preview,
            client_request_id=first.client_request_id or second.client_request_id,
            tags={**second.tags, **first.tags, **_merge_prompts(self, before)},
            metadata={**second.metadata, **first.metadata},
            experiment_id=before.experiment_id,
        )


class TranslatedTrace(NamedTuple):
    """A trace segment translated for MLflow."""

    segment: TraceSegment
    summary: TraceSummary
    spans: Sequence[TranslatedSpan]
    attachments: AttachmentsById
    assessments: Sequence[Assessment]
    merges_stored: bool  # True if a stored summary must be added to, not overwritten
    links_run: bool = False  # True if a server is told the run of many traces at once, instead of each one's summary
    previews_apart: bool = False  # True if a server is told the previews of many at once, by :meth:`make_preview_span`

    @property
    def prompts(self) -> list[dict[str, str]]:
        """Return ``{"name", "version"}`` of each registered prompt that is linked to this trace."""
        return parse_attribute(self.summary.tags.get(PROMPTS_KEY)) or []

    def spans_with_summary(self) -> list[TranslatedSpan] | None:
        """Return the spans, with tags, session and user on the root, if the server can derive the rest of the summary.

        The program's name is then lost, which is not worth a request for each trace. Returns None if there is a model,
        a request id or a run to store (unless it is linked), a stored trace to add to, or a preview that the server
        would not derive (unless it is sent apart).
        """
        info, root = self.summary, self._find_root()
        unsaid = _NOT_IN_SPANS.intersection(info.metadata) - ({SOURCE_RUN_KEY} if self.links_run else set())
        if root is None or self.merges_stored or info.client_request_id or unsaid or info.is_updated:
            return None
        if not (self.previews_apart or self._shows_previews(root)):
            return None
        attributes = dict(root.attributes or {})
        run = {SOURCE_RUN_KEY: info.metadata[SOURCE_RUN_KEY]} if SOURCE_RUN_KEY in info.metadata else {}
        attributes |= {f"mlflow.traceTag.{key}": value for key, value in {**info.tags, **run}.items()}
        for name, key in ((sc.SESSION_ID, SESSION_KEY), (sc.USER_ID, USER_KEY)):
            if key in info.metadata:
                attributes[name] = info.metadata[key]
        new_root = replace_attributes(root, attributes)
        return [new_root if span is root else span for span in self.spans]

    def make_preview_span(self) -> TranslatedSpan | None:
        """Return the root as a chat of the previews; None if the server derives the previews from the root as it is.

        A server takes the previews from the first root that it gets of a trace, and then keeps them. The root itself
        follows, and replaces this one.
        """
        root = self._find_root()
        if root is None or self._shows_previews(root):
            return None
        asked, answered = self.summary.request_preview, self.summary.response_preview
        attributes: dict[str, Any] = {PREVIEW: True}
        if asked:
            attributes[INPUTS] = to_json({"messages": [{"role": "user", "content": asked}]})
        if answered:
            message = {"role": "assistant", "content": answered}
            attributes[OUTPUTS] = to_json({"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]})
        return replace_attributes(root, attributes)

    def _find_root(self) -> TranslatedSpan | None:
        return next((span for span in self.spans if get_span_id(span) == self.segment.root_id), None)

    def _shows_previews(self, root: TranslatedSpan) -> bool:
        """Return whether the server derives both previews from the inputs and outputs of the *root*."""
        own = root.attributes or {}
        derived = (
            server_request_preview(parse_attribute(own.get(INPUTS))),
            server_answer_preview(parse_attribute(own.get(OUTPUTS))),
        )
        return derived == (self.summary.request_preview, self.summary.response_preview)

    def read_span_totals(self) -> dict[int, SpanTotals]:
        """Return tokens and cost of the spans by span id."""
        return {totals.span_id: totals for totals in map(SpanTotals.from_span, self.spans)}


def _merge_prompts(*infos: TraceSummary) -> dict[str, str]:
    lists = [parse_attribute(info.tags[PROMPTS_KEY]) for info in infos if PROMPTS_KEY in info.tags]
    together = {to_json(prompt): prompt for found in lists if isinstance(found, list) for prompt in found}
    return {PROMPTS_KEY: to_json(list(together.values()))} if together else {}


def find_segment_origin(segment: TraceSegment) -> TraceOrigin:
    """Return the origin of a segment. If it names no run, the run of a training inside the segment is used."""
    origin = segment.origin
    if origin.run_id is not None:
        return origin
    fits = [span for span in segment.spans if (span.attributes or {}).get(sc.KIND) == sc.FIT]
    return replace(origin, run_id=_first_value(_merge_attributes(fits), sc.RUN_ID)) if fits else origin


def translate_segment(
    segment: TraceSegment,
    run_id: str | None,
    *,
    offload: bool = False,
    links_run: bool = False,
    previews_apart: bool = False,
) -> TranslatedTrace:
    """Translate a segment for MLflow, made in the run *run_id* if given.

    With *offload*, pictures and sounds become files. *links_run* and *previews_apart*: see TranslatedTrace.
    """
    ended = lift_messages(
        [translate_foreign_span(span) for span in segment.spans if span.end_time and not is_assessment_span(span)]
    )
    root = next((span for span in ended if get_span_id(span) == segment.root_id), None)
    top = root or min(ended, key=lambda span: span.start_time or 0)
    trace_id = f"tr-{top.get_span_context().trace_id:032x}"  # type: ignore[union-attr]  # an ended span has a context
    attachments: AttachmentsById = {}
    stored = {id(span): data for span, data in zip(segment.spans, segment.stored)}  # noqa: B905  # stored holds all spans or none
    spans = count_calls_once(
        # those stored bytes are of a span whose attributes are those that it was stored with
        [_translated(span, trace_id, attachments if offload else None, stored.get(id(span))) for span in ended]
    )
    start, end = min(span.start_time or 0 for span in spans), max(span.end_time or 0 for span in spans)
    request, response = _build_previews(segment.root_id, spans)
    named = _merge_attributes(spans)
    failed = top.status.status_code is StatusCode.ERROR
    pauses: dict[str, str] = {}
    question = None
    with guard("reading whether a trace waits for a person"):
        pauses, question = _read_pauses(spans, failed=failed)
    info = TraceSummary(
        trace_id=trace_id,
        request_time=start // _NS_PER_MS,
        duration=(end - start) // _NS_PER_MS,
        failed=failed,
        request_preview=request,
        response_preview=question or response,
        client_request_id=(_first_value(named, sc.CLIENT_REQUEST_ID) or "")[:_MAX_CLIENT_REQUEST_ID] or None,
        tags={**_build_tags(segment, top.name, spans, named), **pauses},
        metadata=_build_metadata(segment, named, run_id),
    )
    info = info.with_updates(read_updates(spans))
    merge = not segment.whole or top.parent is not None or _may_be_continued(ended)
    assessments = list(read_assessments(segment.spans))
    return TranslatedTrace(segment, info, spans, attachments, assessments, merge, links_run, previews_apart)


def _translated(
    span: ReadableSpan, trace_id: str, attachments: AttachmentsById | None, data: bytes | None
) -> TranslatedSpan:
    """Return *span* in MLflow's names; one that cannot be put into them costs its trace no more than that."""
    own = span.attributes or {}
    with (translating := guard("putting a span in MLflow's names")):
        kept = own if attachments is None else extract_attachments(own, trace_id, attachments)
        return translate_span(span, kept, stored=data if kept is own else None)
    return bare(span, own, translating.error)


def _may_be_continued(spans: Sequence[ReadableSpan]) -> bool:
    """Return True if one of *spans* is a request that may have passed the trace on to a process that records it.

    Requests to a provider, below one of our calls to a model, are not.
    """
    requests = [span for span in spans if span.kind in _REQUEST_KINDS and not is_own_span(span)]
    if not requests:
        return False
    own = filter(is_own_span, spans)
    calls = {get_span_id(span) for span in own if (span.attributes or {}).get(sc.OPERATION) in MODEL_OPERATIONS}
    return any(span.parent is None or span.parent.span_id not in calls for span in requests)


_REQUEST_KINDS: Final = frozenset({SpanKind.CLIENT, SpanKind.PRODUCER})


def _build_previews(root_id: int, spans: Sequence[ReadableSpan]) -> tuple[str | None, str | None]:
    """Return the question and the answer: of the root, or of the first and the last span below it that have one.

    They are there to be looked at: no trace is lost for them.
    """
    with guard("reading what a trace asks and answers"):
        return _question_and_answer(root_id, spans)
    return None, None


def _question_and_answer(root_id: int, spans: Sequence[ReadableSpan]) -> tuple[str | None, str | None]:
    ordered = sorted(spans, key=lambda span: (get_span_id(span) != root_id, span.start_time or 0))
    asked = next(filter(None, (preview_request(_read_json(span, INPUTS)) for span in ordered)), None)
    below = [*ordered[:1], *reversed(ordered[1:])]
    answered = next(filter(None, (preview_answer(_read_json(span, OUTPUTS)) for span in below)), None)
    return _cut_text(asked and storable(asked), _MAX_PREVIEW), _cut_text(answered and storable(answered), _MAX_PREVIEW)


def _read_pauses(spans: Sequence[ReadableSpan], *, failed: bool) -> tuple[dict[str, str], str | None]:
    """Return the tags of a trace that waits for a person or goes on after one has answered, and what it asks."""
    resumed = find_resumed_trace(spans)
    tags = {} if resumed is None else {RESUMES_KEY: resumed}
    waiting = None if failed else find_waiting_span(spans)
    if waiting is None:
        return tags, None
    question = preview_question(waiting)
    return {**tags, WAITING_KEY: "true"}, _cut_text(question and storable(question), _MAX_PREVIEW)


def _read_json(span: ReadableSpan, name: str) -> Any:
    return parse_attribute((span.attributes or {}).get(name))


def _cut_text(text: str | None, longest: int) -> str | None:
    return text if text is None or len(text) <= longest else text[: longest - 1] + "…"


def _merge_attributes(spans: Sequence[ReadableSpan]) -> Attributes:
    """Return the attributes of all *spans*, each with the value that the first span gives it."""
    named: dict[str, Any] = {}
    for span in reversed(spans):
        named.update(span.attributes or {})
    return named


def _build_tags(segment: TraceSegment, name: str, spans: Sequence[ReadableSpan], named: Attributes) -> dict[str, str]:
    """Return the trace's tags: from span attributes, the origin and the resource, cut to MLflow's limits."""
    tags = {TRACE_NAME_KEY: name}
    if sc.TAG_PREFIX in "\n".join(named):  # most traces have no tags
        for key, value in named.items():
            if key.startswith(sc.TAG_PREFIX):
                tags.setdefault(key[len(sc.TAG_PREFIX) :], str(value))
    if sc.PROMPTS in named and (prompts := _read_prompts(spans)):
        tags[PROMPTS_KEY] = to_json(prompts)
    tags.update(segment.origin.tags)
    for key, value in read_resource_tags(segment.spans[0].resource):
        tags.setdefault(key, value)
    return drop_reserved_keys(_cut_pairs(tags))


def _cut_pairs(pairs: Mapping[str, str]) -> dict[str, str]:
    """Return tags or metadata as MLflow takes them, cut to its limits."""
    return {storable(key)[:250]: _cut_text(storable(value), _MAX_TAG) or "" for key, value in pairs.items()}


def _read_prompts(spans: Sequence[ReadableSpan]) -> list[dict[str, str]]:
    """Return the registered prompts that the spans name, each once, in the form of MLflow's tag."""
    named: dict[str, None] = {}
    for span in spans:
        found: Any = (span.attributes or {}).get(sc.PROMPTS)
        named.update(dict.fromkeys(str(one) for one in ([found] if isinstance(found, str) else found or ())))
    split = (name.rpartition("/") for name in named)
    prompts = [{"name": name, "version": version} for name, _, version in split if name and version.isdigit()]
    while len(to_json(prompts)) > _MAX_TAG:
        prompts.pop()
    return prompts


def _cut_metadata(pairs: Mapping[str, str]) -> dict[str, str]:
    """Return metadata as MLflow takes it: it refuses a trace whose session is too long."""
    cut = _cut_pairs(pairs)
    if SESSION_KEY in cut:
        cut[SESSION_KEY] = storable(cut_session(pairs[SESSION_KEY], MAX_SESSION_LENGTH) or "")
    if USER_KEY in cut:
        cut[USER_KEY] = _cut_text(cut[USER_KEY], MAX_SESSION_LENGTH) or ""
    return cut


def _build_metadata(segment: TraceSegment, named: Attributes, run_id: str | None) -> dict[str, str]:
    """Return the trace's metadata: source, run, model, session and user."""
    origin = segment.origin
    metadata: dict[str, str | None] = {
        "mlflow.trace_schema.version": "3",
        "mlflow.source.name": os.path.basename(sys.argv[0]) if sys.argv and sys.argv[0] else None,  # noqa: PTH119
        "mlflow.source.type": "LOCAL",
        SOURCE_RUN_KEY: run_id,
        MODEL_KEY: origin.model_id or _first_value(named, sc.MODEL_ID),
        SESSION_KEY: cut_session(
            origin.session or named.get(sc.SESSION_ID) or named.get(sc.CONVERSATION_ID), MAX_SESSION_LENGTH
        ),
        USER_KEY: _cut_text(origin.user or _first_value(named, sc.USER_ID), MAX_SESSION_LENGTH),
    }
    return {key: storable(value) for key, value in metadata.items() if value}


def _first_value(named: Attributes, *names: str) -> str | None:
    return next((str(value) for value in map(named.get, names) if value), None)


def drop_reserved_keys(named: dict[str, str]) -> dict[str, str]:
    """Return *named* without the keys that only the store may write."""
    own = (
        "mlflow.artifactLocation",
        "mlflow.trace.cost",  # the store computes it
        "mlflow.trace.infoFinalized",
        "mlflow.trace.size",
        "mlflow.trace.spansLocation",
        "mlflow.trace.tokenUsage",
    )
    return {key: value for key, value in named.items() if not key.startswith(own)}
