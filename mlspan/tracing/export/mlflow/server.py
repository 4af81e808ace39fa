"""The store on MLflow's tracking server, without importing MLflow: spans by OTLP, the rest by MLflow's REST API."""

from __future__ import annotations

import base64
import gzip
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import partial
from importlib.util import find_spec
from typing import Any, Final
from urllib.parse import urlsplit

import orjson

from ...._guard import warn_once
from ..answers import is_foreign_answer, parse_object, quote_answer
from ..sending.executor import BoundedExecutor
from .assessments import Assessment, assessment_to_rest
from .http import FOREIGN_MESSAGE, HttpClient, HttpResponse
from .server_spans import encode_attached_spans, encode_spans_for_server
from .span_totals import SpanTotals
from .spans import TranslatedSpan
from .store import MAX_WRITERS, StoreDenied, StoreRejected, hide_user_info
from .traces import TraceSummary, TranslatedTrace, drop_reserved_keys

SPANS_PATH: Final = "v1/traces"  # the path for OTLP
_PROXIED_ARTIFACTS: Final = "mlflow-artifacts:/"  # followed by a path: the server itself stores the files
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
        self._artifacts: dict[str, str] = {}  # by experiment: where its artifacts are

    @property
    def headers(self) -> Mapping[str, str]:
        """Return the headers of every request."""
        return self._client.headers

    def find_experiment_of_run(self, run_id: str) -> str | None:
        found = self._get_json("api/2.0/mlflow/runs/get", {"run_id": run_id}, "run")
        return None if found is None else str(found["run"]["info"]["experiment_id"])

    def find_or_create_experiment(self, name: str) -> str:
        found = self._get_json("api/2.0/mlflow/experiments/get-by-name", {"experiment_name": name}, "experiment")
        if found is not None:
            return self._require_active(found["experiment"])
        body = orjson.dumps({"name": name})
        made = self._call_api("POST", "api/2.0/mlflow/experiments/create", data=body, headers=_JSON_HEADERS)
        return str(self._parse(made, "api/2.0/mlflow/experiments/create", "experiment_id")["experiment_id"])

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

    def accepts_attachments(self, experiment_id: str) -> bool:
        """Return True if the artifact location can be reached: through the server, or by MLflow's storage clients."""
        if experiment_id not in self._artifacts:
            found = self._get_json("api/2.0/mlflow/experiments/get", {"experiment_id": experiment_id}, "experiment")
            self._artifacts[experiment_id] = found["experiment"].get("artifact_location", "") if found else ""
        location = self._artifacts[experiment_id]
        scheme = urlsplit(location).scheme
        is_elsewhere = scheme in {"", "file"} and urlsplit(self._uri).hostname not in {"127.0.0.1", "localhost", "::1"}
        return location.startswith(_PROXIED_ARTIFACTS) or (not is_elsewhere and find_spec("mlflow") is not None)

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
        )

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

    def _read_spans(self, trace_id: str) -> Sequence[dict[str, Any]]:
        """Return the stored spans of a trace, in protobuf's JSON form."""
        answer = self._get_json("api/3.0/mlflow/traces/get", {"trace_id": trace_id, "allow_partial": "true"}, "trace")
        spans: Sequence[dict[str, Any]] = answer["trace"].get("spans", ()) if answer else ()
        return spans

    def attach_spans(self, experiment_id: str, trace_id: str, parents: Mapping[int, int]) -> None:
        stored = [span for span in self._read_spans(trace_id) if _decode_span_id(span["span_id"]) in parents]
        for start in range(0, len(stored), self.most_spans):
            body = encode_attached_spans(stored[start : start + self.most_spans], parents)
            self._call_api("POST", SPANS_PATH, data=body, headers=_make_span_headers(experiment_id))

    def write_traces(self, experiment_id: str, traces: Sequence[TranslatedTrace]) -> None:
        for phase in self.build_phases(experiment_id, traces):
            self.executor.run_each(self._send_request, phase)
            self._takes_spans = self._takes_spans or any(request.spans for request in phase)

    def _send_request(self, request: ServerRequest) -> None:
        body = request.encode_body(parses_text=self._reads_gzip is not False)
        try:
            with self._writing if request.spans else nullcontext():
                self._post(request, body)
        except (StoreDenied, StoreRejected) as error:
            if request.is_required:
                raise
            warn_once("mlspan: %s; the traces themselves are stored", error)

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
        except StoreRejected:
            if self._reads_gzip:
                raise
            send(data=request.encode_body(parses_text=False), headers=request.headers)
            self._reads_gzip = False
        else:
            self._reads_gzip = True

    def build_phases(self, experiment_id: str, traces: Sequence[TranslatedTrace]) -> list[list[ServerRequest]]:
        """Return groups of requests. All requests of a group are answered before the next group is sent.

        Summaries go before spans: a server that knows the trace stores its spans and totals with a third less work.
        Until the server has accepted spans once, spans go first, so that a server without OTLP support is not left with
        empty traces.
        """
        with_summary = {trace.summary.trace_id: trace.spans_with_summary() for trace in traces}
        infos = [
            ServerRequest(
                "api/3.0/mlflow/traces",
                _JSON_HEADERS,
                json={"trace": {"trace_info": _summary_to_json(experiment_id, trace.summary)}},
            )
            for trace in traces
            if with_summary[trace.summary.trace_id] is None
        ]
        translated_spans = [span for trace in traces for span in with_summary[trace.summary.trace_id] or trace.spans]
        spans = [ServerRequest(SPANS_PATH, _make_span_headers(experiment_id), spans=translated_spans)]
        prompts = [
            ServerRequest(
                "api/2.0/mlflow/traces/link-prompts", _JSON_HEADERS, json=_prompts_to_json(trace), is_required=False
            )
            for trace in traces
            if trace.prompts
        ]
        both = [infos, spans] if self._takes_spans else [spans, infos]
        return [list(self._build_uploads(experiment_id, traces)), *both, prompts]

    def _build_uploads(self, experiment_id: str, traces: Sequence[TranslatedTrace]) -> Iterator[ServerRequest]:
        """Yield uploads through a server that proxies artifacts. Otherwise upload here, with MLflow's clients."""
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
        answer = self._get_json(path, {}, "trace")
        if answer is None:
            raise StoreRejected(f"there is no trace {trace_id} in {hide_user_info(self._uri)} for these assessments")
        known = {assessment.get("assessment_id") for assessment in answer["trace"]["trace_info"].get("assessments", ())}
        for assessment in assessments:
            if assessment.id not in known:
                body = orjson.dumps(assessment_to_rest(assessment, trace_id))
                self._call_api("POST", f"{path}/assessments", data=body, headers=_JSON_HEADERS)

    def _get_json(self, path: str, params: dict[str, str], holds: str) -> Any:
        """Return the parsed answer, which *holds* something of this name; None for a missing object."""
        answer = self._call_api("GET", path, params=params, absent=True)
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
            raise answer.make_exception(f"{hide_user_info(self._uri)}/{path}")
        content_type = answer.headers.get("Content-Type") or ""
        if is_foreign_answer(content_type, answer.content):
            raise self._make_foreign_error(path, quote_answer(content_type))
        return answer

    def close(self) -> None:
        self._client.close()


def _make_span_headers(experiment_id: str) -> dict[str, str]:
    return {**_OTLP_HEADERS, "x-mlflow-experiment-id": experiment_id}


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
