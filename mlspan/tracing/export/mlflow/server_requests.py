"""The requests with which traces go to MLflow's tracking server: spans by OTLP, the rest by MLflow's REST API."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, Final

import orjson

from .names import SOURCE_RUN_KEY
from .server_spans import encode_spans_for_server
from .spans import TranslatedSpan
from .traces import TraceSummary, TranslatedTrace

SPANS_PATH: Final = "v1/traces"  # the path for OTLP
JSON_HEADERS: Final = {"Content-Type": "application/json"}
_BINARY_HEADERS: Final = {"Content-Type": "application/octet-stream"}
_OTLP_HEADERS: Final = {"Content-Type": "application/x-protobuf"}
PROXIED_ARTIFACTS: Final = "mlflow-artifacts:/"  # followed by a path: the server itself stores the files


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


def make_span_headers(experiment_id: str) -> dict[str, str]:
    return {**_OTLP_HEADERS, "x-mlflow-experiment-id": experiment_id}


def build_summary_request(experiment_id: str, trace: TranslatedTrace) -> ServerRequest:
    summary = {"trace": {"trace_info": _summary_to_json(experiment_id, trace.summary)}}
    return ServerRequest("api/3.0/mlflow/traces", JSON_HEADERS, json=summary)


def build_links(experiment_id: str, traces: Sequence[TranslatedTrace]) -> Iterator[ServerRequest]:
    """Yield a request for each run of *traces*, which links them to it. If it is refused, their summaries are sent."""
    by_run: dict[str, list[TranslatedTrace]] = defaultdict(list)
    for trace in traces:
        if run_id := trace.summary.metadata.get(SOURCE_RUN_KEY):
            by_run[run_id].append(trace)
    for run_id, found in by_run.items():
        yield ServerRequest(
            "api/2.0/mlflow/traces/link-to-run",
            JSON_HEADERS,
            json={"trace_ids": [trace.summary.trace_id for trace in found], "run_id": run_id},
            instead=[build_summary_request(experiment_id, trace) for trace in found],
        )


def build_prompt_links(traces: Sequence[TranslatedTrace]) -> Iterator[ServerRequest]:
    """Yield a request for each trace that names prompts, which links them to it."""
    for trace in traces:
        if trace.prompts:
            body = {"trace_id": trace.summary.trace_id, "prompt_versions": trace.prompts}
            yield ServerRequest("api/2.0/mlflow/traces/link-prompts", JSON_HEADERS, json=body, is_required=False)


def build_uploads(traces: Sequence[TranslatedTrace], location: str) -> Iterator[ServerRequest]:
    """Yield uploads of the attachments of *traces*, through a server that proxies the artifacts at *location*.

    Where it is elsewhere, they are uploaded here, with MLflow's clients.
    """
    for trace in traces:
        folder = f"{location.rstrip('/')}/traces/{trace.summary.trace_id}/artifacts"
        if not trace.attachments:
            continue
        if location.startswith(PROXIED_ARTIFACTS):
            path = "api/2.0/mlflow-artifacts/artifacts" + folder.removeprefix(PROXIED_ARTIFACTS)
            for one in trace.attachments.values():
                yield ServerRequest(
                    f"{path}/attachments/{one.id}", _BINARY_HEADERS, file=one.content, is_required=False
                )
        else:
            from .database import upload_attachments

            upload_attachments(folder, trace.attachments.values())


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
