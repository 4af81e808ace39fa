"""The store on MLflow's tracking server, without importing MLflow: spans by OTLP, the rest by MLflow's REST API."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from typing import Final

import orjson

from ...._guard import warn_once
from ..otlp.codec import build_export_request, iterate_cuts
from ..sending.executor import BoundedExecutor
from ..sending.request_size import RequestLimit, warn_of_cut
from ..shown_addresses import hide_user_info
from ..types import BackendUnavailable
from .assessments import Assessment, assessment_to_rest
from .names import SOURCE_RUN_KEY, TRACE_NAME_KEY
from .server_reader import ServerReader, decode_span_id
from .server_requests import (
    JSON_HEADERS,
    SPANS_PATH,
    ServerRequest,
    build_links,
    build_prompt_links,
    build_summary_request,
    build_uploads,
    make_span_headers,
)
from .server_spans import encode_attached_spans, encode_translated_span
from .spans import TranslatedSpan, measure_span, measure_spans
from .store import MAX_WRITERS, StoreDenied, StoreRejected
from .traces import TranslatedTrace

# A larger trace takes several requests: each takes the server a second or so, and a bounded amount of memory here.
_MAX_REQUEST_BYTES: Final = 8 * 1024 * 1024  # less if the server, or a proxy before it, refuses a request for its size
_MAX_REQUEST_SPANS: Final = 2000
_GZIP: Final = {"Content-Encoding": "gzip"}


class ServerStore(ServerReader):
    """A tracking server of MLflow 3.4 or later."""

    most_traces = 25  # in one request; above 100 MLflow answers 200 but links none of them to a run
    most_writers = MAX_WRITERS
    most_spans = 1000  # in one request, which takes the server about a second

    def __init__(self, uri: str, executor: BoundedExecutor, *, with_credentials: bool = True) -> None:
        super().__init__(uri, with_credentials=with_credentials)
        self.executor = executor
        self._writing = threading.Semaphore(MAX_WRITERS)  # of all batches: a limit of the server, not of our threads
        self._takes_spans = False
        # None until the server has taken spans. False for MLflow up to 3.6, which parses no text of attributes either.
        self._reads_gzip: bool | None = None
        # None until a trace was read back. False for MLflow up to 3.10 or so, which takes no tags from attributes.
        self._reads_tags: bool | None = None
        # None until runs were linked. False for a server that does not know the request: it gets summaries at once.
        self._links_runs: bool | None = None
        self.request_limit = RequestLimit(_MAX_REQUEST_BYTES)

    def attach_spans(self, experiment_id: str, trace_id: str, parents: Mapping[int, int]) -> None:
        stored = [span for span in self.read_spans(trace_id) if decode_span_id(span["span_id"]) in parents]
        headers = make_span_headers(experiment_id)
        for part in self.request_limit.split(stored, lambda span: len(str(span)), self.most_spans):
            self.call_api("POST", SPANS_PATH, data=encode_attached_spans(part, parents), headers=headers)

    def write_traces(self, experiment_id: str, traces: Sequence[TranslatedTrace]) -> None:
        try:
            self._write_traces(experiment_id, traces)
        except StoreRejected as rejected:
            # the limit is lower now: if that has this trace sent in parts, its summary is sent apart from them
            if not (rejected.too_large and len(traces) == 1 and self._needs_several_requests(traces[0].spans)):
                raise
            self._write_traces(experiment_id, traces)

    def _write_traces(self, experiment_id: str, traces: Sequence[TranslatedTrace]) -> None:
        with_summary = self.add_summaries(traces)
        for phase in self.build_phases(experiment_id, traces, with_summary):
            self.executor.run_each(self._send_request, phase)
            self._takes_spans = self._takes_spans or any(request.spans for request in phase)
        if self._reads_tags is None and (named := [one for one in traces if one.summary.trace_id in with_summary]):
            self._reads_tags = self._has_name(named[0])
            if not self._reads_tags:
                self.executor.run_each(self._send_request, [build_summary_request(experiment_id, it) for it in named])

    def _has_name(self, trace: TranslatedTrace) -> bool:
        """Return whether the server has stored the name of *trace* (a tag); True if this cannot be found out."""
        try:
            stored = self.read_trace_summary(trace.summary.trace_id)
        except (StoreDenied, StoreRejected):
            return True
        return stored is None or TRACE_NAME_KEY in stored.tags

    def add_summaries(self, traces: Sequence[TranslatedTrace]) -> dict[str, Sequence[TranslatedSpan]]:
        """Return, by the id of each trace that needs no request for its summary, its spans with that summary."""
        if self._reads_tags is False:
            return {}
        found: dict[str, Sequence[TranslatedSpan]] = {}
        for trace in traces:
            links = self._links_runs is not False or SOURCE_RUN_KEY not in trace.summary.metadata
            if links and not self._needs_several_requests(trace.spans) and (spans := trace.spans_with_summary()):
                found[trace.summary.trace_id] = spans
        return found

    def _send_request(self, request: ServerRequest) -> None:
        body = request.encode_body(parses_text=self._reads_gzip is not False)
        try:
            with self._writing if request.spans else nullcontext():
                self._post(request, body)
            if request.instead:
                self._links_runs = True
        except (StoreDenied, StoreRejected) as error:
            if isinstance(error, StoreRejected) and error.too_large and request.spans:
                self._send_smaller(request, error)
                return
            if request.instead:
                if self._links_runs is None and isinstance(error, StoreRejected):  # what is denied may be permitted
                    self._links_runs = False
                self.executor.run_each(self._send_request, request.instead)
                return
            if request.is_required:
                raise
            warn_once("mlspan: %s; the traces themselves are stored", error)
        except BackendUnavailable as away:
            if away.too_slow:
                self.request_limit.lower_for_time(measure_spans(request.spans))
            if not (away.may_be_size and len(request.spans) > 1):
                raise
            self._send_smaller(request, StoreRejected(away.reason, too_large=True))

    def _send_smaller(self, request: ServerRequest, rejected: StoreRejected) -> None:
        """Send a request with spans that was too large in parts, or its only span with its longest texts cut.

        Raise *rejected* if that is not possible, with a lower limit for the next requests.
        """
        if len(request.spans) == 1:
            self._send_cut(request, rejected)
            return
        self.request_limit.lower(measure_spans(request.spans))
        if not request.may_split:
            raise rejected
        for part in self._split_spans(request.spans):
            self._send_request(replace(request, spans=part))

    def _send_cut(self, request: ServerRequest, rejected: StoreRejected) -> None:
        """Send the only span of a request, cut to half its size and again to half."""
        encoded = encode_translated_span(request.spans[0], parses_text=self._reads_gzip is not False)
        for cut in iterate_cuts(encoded):
            try:
                with self._writing:
                    self._post(request, build_export_request([cut]))
            except StoreRejected as again:
                if not again.too_large:
                    raise
            else:
                warn_of_cut(f"{hide_user_info(self.uri)}/{SPANS_PATH}", len(encoded.span))
                return
        raise rejected

    def _post(self, request: ServerRequest, body: bytes) -> None:
        """Send *body*, spans as gzip unless this server cannot read it, which MLflow up to 3.6 cannot.

        Such a server stores attributes as they come, so its spans are encoded anew.
        """
        send = partial(self.call_api, request.method, request.path)
        if not request.spans or self._reads_gzip is False:
            send(data=body, headers=request.headers)
            return
        try:
            send(data=gzip.compress(body, 1), headers={**request.headers, **_GZIP})
        except StoreRejected as rejected:
            if self._reads_gzip or rejected.too_large:
                raise
            send(data=request.encode_body(parses_text=False), headers=request.headers)
            self._reads_gzip = False
        else:
            self._reads_gzip = True

    def build_phases(
        self,
        experiment_id: str,
        traces: Sequence[TranslatedTrace],
        with_summary: Mapping[str, Sequence[TranslatedSpan]],
    ) -> list[list[ServerRequest]]:
        """Return groups of requests. All requests of a group are answered before the next group is sent.

        *with_summary*: as of :meth:`add_summaries`.

        Summaries go before spans: a server that knows the trace stores its spans and totals with a third less work.
        Until the server has accepted spans once, spans go first, so that a server without OTLP support is not left with
        empty traces.
        """
        told = [trace for trace in traces if trace.summary.trace_id in with_summary]
        infos = [
            build_summary_request(experiment_id, trace)
            for trace in traces
            if trace.summary.trace_id not in with_summary
        ]
        links = build_links(experiment_id, told)
        previews = [span for trace in told if (span := trace.make_preview_span()) is not None]
        first = [
            ServerRequest(SPANS_PATH, make_span_headers(experiment_id), spans=part, may_split=True)
            for part in self._split_spans(previews)
        ]
        spans = [[request] for request in self._build_span_requests(experiment_id, traces, with_summary)]
        both = [infos, *spans] if self._takes_spans else [*spans, infos]
        location = self.find_artifact_location(experiment_id) if any(trace.attachments for trace in traces) else ""
        return [list(build_uploads(traces, location)), first, *both, [*links, *build_prompt_links(traces)]]

    def _needs_several_requests(self, spans: Sequence[TranslatedSpan]) -> bool:
        return sum(1 for _ in self._split_spans(spans)) > 1

    def _split_spans(self, spans: Sequence[TranslatedSpan]) -> Iterator[Sequence[TranslatedSpan]]:
        """Yield *spans* in parts for one request each, which are sent one after the other."""
        return self.request_limit.split(spans, measure_span, _MAX_REQUEST_SPANS)

    def _build_span_requests(
        self,
        experiment_id: str,
        traces: Sequence[TranslatedTrace],
        with_summary: Mapping[str, Sequence[TranslatedSpan]],
    ) -> Iterator[ServerRequest]:
        """Yield requests with the spans of *traces*, which are sent one after the other.

        A trace of which a span says the summary is in one request, as the server makes its own of each.
        """
        headers = make_span_headers(experiment_id)
        whole: list[Sequence[TranslatedSpan]] = []
        for trace in traces:
            told = with_summary.get(trace.summary.trace_id)
            if told is None and self._needs_several_requests(trace.spans):
                for part in self._split_spans(trace.spans):
                    yield ServerRequest(SPANS_PATH, headers, spans=part, may_split=True)
            else:
                whole.append(told or trace.spans)
        for group in self.request_limit.split(whole, measure_spans, self.most_traces):
            yield ServerRequest(SPANS_PATH, headers, spans=[span for spans in group for span in spans])

    def delete_trace(self, experiment_id: str, trace_id: str) -> None:
        body = orjson.dumps({"experiment_id": experiment_id, "request_ids": [trace_id]})
        self.call_api("POST", "api/2.0/mlflow/traces/delete-traces", data=body, headers=JSON_HEADERS)

    def write_assessments(self, trace_id: str, assessments: Sequence[Assessment]) -> None:
        path = f"api/3.0/mlflow/traces/{trace_id}"
        known = self.read_assessment_ids(path)
        if known is None:
            raise StoreRejected(f"there is no trace {trace_id} in {hide_user_info(self.uri)} for these assessments")
        for assessment in assessments:
            if assessment.id not in known:
                body = orjson.dumps(assessment_to_rest(assessment, trace_id))
                self.call_api("POST", f"{path}/assessments", data=body, headers=JSON_HEADERS)
