"""The store on MLflow's tracking server, without importing MLflow: spans by OTLP, the rest by MLflow's REST API."""

from __future__ import annotations

import base64
import gzip
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from functools import partial, wraps
from importlib.util import find_spec
from typing import Any, Final, TypeVar, cast
from urllib.parse import urlsplit

import orjson

from ...._guard import warn_once
from ..answers import is_foreign_answer, parse_object, quote_answer
from ..otlp.codec import build_export_request, iterate_cuts
from ..sending.executor import BoundedExecutor
from ..sending.request_size import RequestLimit, warn_of_cut
from ..shown_addresses import hide_user_info
from ..types import BackendUnavailable
from .assessments import Assessment, assessment_to_rest
from .http import FOREIGN_MESSAGE, HttpClient, HttpResponse
from .names import SOURCE_RUN_KEY, TRACE_NAME_KEY
from .server_spans import encode_attached_spans, encode_spans_for_server, encode_translated_span
from .span_totals import SpanTotals
from .spans import TranslatedSpan, measure_span, measure_spans
from .store import MAX_WRITERS, StoreDenied, StoreRejected
from .traces import TraceSummary, TranslatedTrace, drop_reserved_keys

SPANS_PATH: Final = "v1/traces"  # the path for OTLP
_MAX_SPANS: Final = 256 * 1024 * 1024  # bytes: the spans of a stored trace, in one answer
_PROXIED_ARTIFACTS: Final = "mlflow-artifacts:/"  # followed by a path: the server itself stores the files
# A larger trace takes several requests: each takes the server a second or so, and a bounded amount of memory here.
_MAX_REQUEST_BYTES: Final = 8 * 1024 * 1024  # less if the server, or a proxy before it, refuses a request for its size
_MAX_REQUEST_SPANS: Final = 2000
_BINARY_HEADERS: Final = {"Content-Type": "application/octet-stream"}
_OTLP_HEADERS: Final = {"Content-Type": "application/x-protobuf"}
_GZIP: Final = {"Content-Encoding": "gzip"}
_JSON_HEADERS: Final = {"Content-Type": "application/json"}


@dataclass(frozen=True, slots=True)
class ServerRequest:
    """One request. Its body is encoded when it is sent."""

    path: str
    headers: Mapping[str, str]
    spans: Sequence[TranslatedSpan] = ()
    json: Any = None
    file: bytes | None = None
    is_required: bool = True  # False: if the server refuses the request, the trace is stored all the same
    instead: Sequence[ServerRequest] = ()  # what is sent if the server refuses this request
    may_split: bool = False  # whether these spans are a part of one trace, which may go in further parts

    @property
    def method(self) -> str:
        return "POST" if self.file is None else "PUT"

    def encode_body(self, *, parses_text: bool) -> bytes:
        """Return the bytes to send. *parses_text*: how the server stores attributes, see :mod:`.server_spans`."""
        if self.file is not None:
            return self.file
        if self.json is not None:
            return orjson.dumps(self.json)
        return encode_spans_for_server(self.spans, parses_text=parses_text)


_Read = TypeVar("_Read", bound=Callable[..., Any])


def _reads_answer(read: _Read) -> _Read:
    """Have a method raise StoreDenied if it finds an answer to be of another form than MLflow's."""

    @wraps(read)
    def read_checked(self: ServerStore, *arguments: Any) -> Any:
        try:
            return read(self, *arguments)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            where = hide_user_info(self._uri)
            raise StoreDenied(FOREIGN_MESSAGE.format(where=where, kind=f"it lacks {error}")) from error

    return cast("_Read", read_checked)


class ServerStore:
    """A tracking server of MLflow 3.4 or later. See :class:`HttpClient` for the variables that it obeys."""

    most_traces = 25  # in one request; above 100 MLflow answers 200 but links none of them to a run
    most_writers = MAX_WRITERS
    most_spans = 1000  # in one request, which takes the server about a second

    def __init__(self, uri: str, executor: BoundedExecutor, *, with_credentials: bool = True) -> None:
        self.executor = executor
        self._writing = threading.Semaphore(MAX_WRITERS)  # of all batches: a limit of the server, not of our threads
        self._client = HttpClient(uri, with_credentials=with_credentials)
        self._uri = self._client.uri
        self._takes_spans = False
        # None until the server has taken spans. False for MLflow up to 3.6, which parses no text of attributes either.
        self._reads_gzip: bool | None = None
        # None until a trace was read back. False for MLflow up to 3.10 or so, which takes no tags from attributes.
        self._reads_tags: bool | None = None
        # None until runs were linked. False for a server that does not know the request: it gets summaries at once.
        self._links_runs: bool | None = None
        self.request_limit = RequestLimit(_MAX_REQUEST_BYTES)
        self._artifacts: dict[str, str] = {}  # by experiment: where its artifacts are

    @property
    def headers(self) -> Mapping[str, str]:
        """Return the headers of every request."""
        return self._client.headers

    @_reads_answer
    def find_experiment_of_run(self, run_id: str) -> str | None:
        found = self._get_json("api/2.0/mlflow/runs/get", {"run_id": run_id}, "run")
        return None if found is None else str(found["run"]["info"]["experiment_id"])

    def find_experiments_of_runs(self, run_ids: Sequence[str]) -> Mapping[str, str]:  # noqa: ARG002  # no request is for several
        return {}

    @_reads_answer
    def find_or_create_experiment(self, name: str) -> str:
        found = self._get_json("api/2.0/mlflow/experiments/get-by-name", {"experiment_name": name}, "experiment")
        if found is not None:
            return self._require_active(found["experiment"])
        body = orjson.dumps({"name": name})
        made = self._call_api("POST", "api/2.0/mlflow/experiments/create", data=body, headers=_JSON_HEADERS)
        return str(self._parse(made, "api/2.0/mlflow/experiments/create", "experiment_id")["experiment_id"])

    @_reads_answer
    def check_experiment(self, experiment_id: str) -> None:
        found = self._get_json("api/2.0/mlflow/experiments/get", {"experiment_id": experiment_id}, "experiment")
        if found is None:
            msg = f"there is no experiment {experiment_id} in {hide_user_info(self._uri)}: name another, or create it"
            raise StoreRejected(msg)
        self._require_active(found["experiment"])

    def _require_active(self, experiment: dict[str, Any]) -> str:
        """Return the id of an active experiment. Raise StoreRejected for a deleted one."""
        if experiment.get("lifecycle_stage", "active") != "active":
            where = f"{experiment['name']!r} in {hide_user_info(self._uri)}"
            raise StoreRejected(f"the experiment {where} is deleted: restore it, or name another")
        return str(experiment["experiment_id"])

    @_reads_answer
    def accepts_attachments(self, experiment_id: str) -> bool:
        """Return True if the artifact location can be reached: through the server, or by MLflow's storage clients."""
        if experiment_id not in self._artifacts:
            found = self._get_json("api/2.0/mlflow/experiments/get", {"experiment_id": experiment_id}, "experiment")
            self._artifacts[experiment_id] = found["experiment"].get("artifact_location", "") if found else ""
        location = self._artifacts[experiment_id]
        scheme = urlsplit(location).scheme
        is_elsewhere = scheme in {"", "file"} and urlsplit(self._uri).hostname not in {"127.0.0.1", "localhost", "::1"}
        return location.startswith(_PROXIED_ARTIFACTS) or (not is_elsewhere and find_spec("mlflow") is not None)

    @_reads_answer
    def read_trace_summary(self, trace_id: str) -> TraceSummary | None:
        answer = self._get_json(f"api/3.0/mlflow/traces/{trace_id}", {}, "trace")
        if answer is None:
            return None
        found = answer["trace"]["trace_info"]
        started = datetime.fromisoformat(found["request_time"].replace("Z", "+00:00"))
        return TraceSummary(
            trace_id=trace_id,
            request_time=round(started.timestamp() * 1000),
            duration=round(float(found.get("execution_duration", "0s").rstrip("s")) * 1000),
            failed=found.get("state") == "ERROR",
            request_preview=found.get("request_preview"),
            response_preview=found.get("response_preview"),
            client_request_id=found.get("client_request_id"),
            tags=drop_reserved_keys(found.get("tags", {})),
            metadata=drop_reserved_keys(found.get("trace_metadata", {})),
            experiment_id=found.get("trace_location", {}).get("mlflow_experiment", {}).get("experiment_id"),
        )

    @_reads_answer
    def read_span_totals(self, trace_id: str) -> dict[int, SpanTotals]:
        found = {}
        for span in self._read_spans(trace_id):
            attributes = {item["key"]: _read_otlp_value(item.get("value", {})) for item in span.get("attributes", ())}
            span_id, parent_id = _decode_span_id(span["span_id"]), _decode_span_id(span.get("parent_span_id", ""))
            found[span_id] = SpanTotals.from_attributes(
                span_id,
                parent_id or None,
                attributes,
                (int(span.get("start_time_unix_nano", 0)), int(span.get("end_time_unix_nano", 0))),
            )
        return found

    @_reads_answer
    def _read_spans(self, trace_id: str) -> Sequence[dict[str, Any]]:
        """Return the stored spans of a trace, in protobuf's JSON form."""
        params = {"trace_id": trace_id, "allow_partial": "true"}
        answer = self._get_json("api/3.0/mlflow/traces/get", params, "trace", most=_MAX_SPANS)
        spans: Sequence[dict[str, Any]] = answer["trace"].get("spans", ()) if answer else ()
        return spans

    def attach_spans(self, experiment_id: str, trace_id: str, parents: Mapping[int, int]) -> None:
        stored = [span for span in self._read_spans(trace_id) if _decode_span_id(span["span_id"]) in parents]
        headers = _make_span_headers(experiment_id)
        for part in self.request_limit.split(stored, lambda span: len(str(span)), self.most_spans):
            self._call_api("POST", SPANS_PATH, data=encode_attached_spans(part, parents), headers=headers)

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
                self.executor.run_each(self._send_request, [_build_summary_request(experiment_id, it) for it in named])

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
                warn_of_cut(f"{hide_user_info(self._uri)}/{SPANS_PATH}", len(encoded.span))
                return
        raise rejected

    def _post(self, request: ServerRequest, body: bytes) -> None:
        """Send *body*, spans as gzip unless this server cannot read it, which MLflow up to 3.6 cannot.

        Such a server stores attributes as they come, so its spans are encoded anew.
        """
        send = partial(self._call_api, request.method, request.path)
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
            _build_summary_request(experiment_id, trace)
            for trace in traces
            if trace.summary.trace_id not in with_summary
        ]
        links = _build_links(experiment_id, told)
        previews = [span for trace in told if (span := trace.make_preview_span()) is not None]
        first = [
            ServerRequest(SPANS_PATH, _make_span_headers(experiment_id), spans=part, may_split=True)
            for part in self._split_spans(previews)
        ]
        spans = [[request] for request in self._build_span_requests(experiment_id, traces, with_summary)]
        prompts = [
            ServerRequest(
                "api/2.0/mlflow/traces/link-prompts", _JSON_HEADERS, json=_prompts_to_json(trace), is_required=False
            )
            for trace in traces
            if trace.prompts
        ]
        both = [infos, *spans] if self._takes_spans else [*spans, infos]
        return [list(self._build_uploads(experiment_id, traces)), first, *both, [*links, *prompts]]

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
        headers = _make_span_headers(experiment_id)
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

    def _build_uploads(self, experiment_id: str, traces: Sequence[TranslatedTrace]) -> Iterator[ServerRequest]:
        """Yield uploads through a server that proxies artifacts. Otherwise upload here, with MLflow's clients."""
        if any(trace.attachments for trace in traces):
            self.accepts_attachments(experiment_id)  # finds the location, of an experiment that the store has chosen
        location = self._artifacts.get(experiment_id, "")
        for trace in traces:
            folder = f"{location.rstrip('/')}/traces/{trace.summary.trace_id}/artifacts"
            if not trace.attachments:
                continue
            if location.startswith(_PROXIED_ARTIFACTS):
                path = "api/2.0/mlflow-artifacts/artifacts" + folder.removeprefix(_PROXIED_ARTIFACTS)
                for one in trace.attachments.values():
                    yield ServerRequest(
                        f"{path}/attachments/{one.id}", _BINARY_HEADERS, file=one.content, is_required=False
                    )
            else:
                from .database import upload_attachments

                upload_attachments(folder, trace.attachments.values())

    def write_assessments(self, trace_id: str, assessments: Sequence[Assessment]) -> None:
        path = f"api/3.0/mlflow/traces/{trace_id}"
        known = self._read_assessment_ids(path)
        if known is None:
            raise StoreRejected(f"there is no trace {trace_id} in {hide_user_info(self._uri)} for these assessments")
        for assessment in assessments:
            if assessment.id not in known:
                body = orjson.dumps(assessment_to_rest(assessment, trace_id))
                self._call_api("POST", f"{path}/assessments", data=body, headers=_JSON_HEADERS)

    @_reads_answer
    def _read_assessment_ids(self, path: str) -> set[Any] | None:
        """Return the ids of the assessments that are stored of a trace; None if there is no such trace."""
        answer = self._get_json(path, {}, "trace")
        if answer is None:
            return None
        return {assessment.get("assessment_id") for assessment in answer["trace"]["trace_info"].get("assessments", ())}

    def _get_json(self, path: str, params: dict[str, str], holds: str, **options: Any) -> Any:
        """Return the parsed answer, which *holds* something of this name; None for a missing object."""
        answer = self._call_api("GET", path, params=params, absent=True, **options)
        return None if answer.status in {400, 404} else self._parse(answer, path, holds)

    def _parse(self, answer: HttpResponse, path: str, holds: str) -> Any:
        """Return the JSON object of an answer. Raise StoreDenied if no MLflow answers so."""
        found = parse_object(answer.content)
        if found is None or holds not in found:
            raise self._make_foreign_error(path, f"no {holds} in it")
        return found

    def _make_foreign_error(self, path: str, kind: str) -> StoreDenied:
        return StoreDenied(FOREIGN_MESSAGE.format(where=f"{hide_user_info(self._uri)}/{path}", kind=kind))

    def _call_api(self, method: str, path: str, *, absent: bool = False, **request: Any) -> HttpResponse:
        """Send a request and raise the exception for a failure. With *absent*, 400 and 404 count as an answer."""
        answer = self._client.send_request(method, path, **request)
        if answer.status >= 300 and not (absent and answer.status in {400, 404}):
            sent = len(request.get("data") or b"")
            raise answer.make_exception(f"{hide_user_info(self._uri)}/{path}", sent)
        content_type = answer.headers.get("Content-Type") or ""
        if is_foreign_answer(content_type, answer.content):
            raise self._make_foreign_error(path, quote_answer(content_type))
        return answer

    def close(self) -> None:
        self._client.close()


def _make_span_headers(experiment_id: str) -> dict[str, str]:
    return {**_OTLP_HEADERS, "x-mlflow-experiment-id": experiment_id}


def _build_summary_request(experiment_id: str, trace: TranslatedTrace) -> ServerRequest:
    summary = {"trace": {"trace_info": _summary_to_json(experiment_id, trace.summary)}}
    return ServerRequest("api/3.0/mlflow/traces", _JSON_HEADERS, json=summary)


def _build_links(experiment_id: str, traces: Sequence[TranslatedTrace]) -> Iterator[ServerRequest]:
    """Yield a request for each run of *traces*, which links them to it. If it is refused, their summaries are sent."""
    by_run: dict[str, list[TranslatedTrace]] = defaultdict(list)
    for trace in traces:
        if run_id := trace.summary.metadata.get(SOURCE_RUN_KEY):
            by_run[run_id].append(trace)
    for run_id, found in by_run.items():
        yield ServerRequest(
            "api/2.0/mlflow/traces/link-to-run",
            _JSON_HEADERS,
            json={"trace_ids": [trace.summary.trace_id for trace in found], "run_id": run_id},
            instead=[_build_summary_request(experiment_id, trace) for trace in found],
        )


def _decode_span_id(text: str) -> int:
    """Return the span id in protobuf's JSON form (base64) as an integer."""
    return int.from_bytes(base64.b64decode(text), "big")


def _read_otlp_value(any_value: dict[str, Any]) -> Any:
    """Return an OTLP value from protobuf's JSON form. Only numbers, text and nested structures are needed here."""
    if "kvlist_value" in any_value:
        return {
            item["key"]: _read_otlp_value(item.get("value", {})) for item in any_value["kvlist_value"].get("values", ())
        }
    if "int_value" in any_value:
        return int(any_value["int_value"])
    return any_value.get("double_value", any_value.get("string_value"))


def _summary_to_json(experiment_id: str, info: TraceSummary) -> dict[str, Any]:
    """Return the body of MLflow's StartTraceV3 in protobuf's JSON form."""
    started = datetime.fromtimestamp(info.request_time / 1000, tz=timezone.utc)
    return {
        "trace_id": info.trace_id,
        "trace_location": {"type": "MLFLOW_EXPERIMENT", "mlflow_experiment": {"experiment_id": experiment_id}},
        "request_time": started.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "execution_duration": f"{info.duration / 1000:.3f}s",
        "state": "ERROR" if info.failed else "OK",
        "request_preview": info.request_preview,
        "response_preview": info.response_preview,
        "client_request_id": info.client_request_id,
        "trace_metadata": info.metadata,
        "tags": info.tags,
    }


def _prompts_to_json(trace: TranslatedTrace) -> dict[str, Any]:
    return {"trace_id": trace.summary.trace_id, "prompt_versions": trace.prompts}
