"""MLflow's tracking server: spans by OTLP, many traces a request, and what OTLP cannot say of each. No MLflow here."""

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

from ..._guard import tell_once
from .crew import Crew
from .encode import extended
from .mlflow import CONNECTIONS, WRITERS, Denied, Rejected, shown
from .mlflow_assessments import Assessment, to_rest
from .mlflow_client import Answer, Client
from .mlflow_spans import COST, USAGE, Told
from .mlflow_trace import Counted, Info, Trace, settable
from .parcel import Packed
from .wire import Unfit, context, pack, request

SPANS: Final = "v1/traces"  # the path that takes them
_ANY_SIZE: Final = 2**40  # bytes: what was too large was cut before it was stored
_PASSED_ON: Final = "mlflow-artifacts:/"  # then a path: the server itself takes the files
_BYTES: Final = {"Content-Type": "application/octet-stream"}
_OTLP: Final = {"Content-Type": "application/x-protobuf"}
_GZIP: Final = {"Content-Encoding": "gzip"}
_JSON: Final = {"Content-Type": "application/json"}


@dataclass(frozen=True, slots=True)
class Request:
    """One request, made ready when it is sent."""

    path: str
    headers: Mapping[str, str]
    spans: Sequence[Told] = ()
    json: Any = None
    file: bytes | None = None
    needed: bool = True  # False: a server that will not have it has the trace all the same

    @property
    def method(self) -> str:
        return "POST" if self.file is None else "PUT"

    def body(self) -> bytes:
        if self.file is not None:
            return self.file
        return orjson.dumps(self.json) if self.json is not None else _encoded(self.spans)


class Server:
    """A tracking server of MLflow 3.4 or later, reached as MLflow's own variables say: see :mod:`.mlflow_client`."""

    most_traces = 25  # in one request; with more than 100, MLflow answers 200 and links none of them to a run
    most_spans = 1000  # in one request, which takes the server about a second

    def __init__(self, uri: str) -> None:
        self.crew = Crew(WRITERS)
        self._senders = Crew(CONNECTIONS)
        self._writing = threading.Semaphore(WRITERS)
        self._client = Client(uri)
        self._uri = self._client.uri
        self._takes_spans = False
        self._reads_gzip: bool | None = None  # until it has taken spans
        self._artifacts: dict[str, str] = {}  # by experiment: where its artifacts are

    @property
    def headers(self) -> Mapping[str, str]:
        """Of every request."""
        return self._client.headers

    def run_experiment(self, run_id: str) -> str | None:
        found = self._get("api/2.0/mlflow/runs/get", {"run_id": run_id})
        return None if found is None else str(found["run"]["info"]["experiment_id"])

    def experiment_id(self, name: str) -> str:
        found = self._get("api/2.0/mlflow/experiments/get-by-name", {"experiment_name": name})
        if found is not None:
            return self._active(found["experiment"])
        body = orjson.dumps({"name": name})
        made = self._call("POST", "api/2.0/mlflow/experiments/create", data=body, headers=_JSON)
        return str(orjson.loads(made.content)["experiment_id"])

    def check_experiment(self, experiment_id: str) -> None:
        found = self._get("api/2.0/mlflow/experiments/get", {"experiment_id": experiment_id})
        if found is None:
            msg = f"there is no experiment {experiment_id} in {shown(self._uri)}: name another, or create it"
            raise Rejected(msg)
        self._active(found["experiment"])

    def _active(self, experiment: dict[str, Any]) -> str:
        if experiment.get("lifecycle_stage", "active") != "active":
            msg = f"the experiment {experiment['name']!r} in {shown(self._uri)} is deleted: restore it, or name another"
            raise Rejected(msg)
        return str(experiment["experiment_id"])

    def takes_files(self, experiment_id: str) -> bool:
        """Whether we can reach where its artifacts are: through the server, or by MLflow's clients of clouds."""
        if experiment_id not in self._artifacts:
            found = self._get("api/2.0/mlflow/experiments/get", {"experiment_id": experiment_id})
            self._artifacts[experiment_id] = found["experiment"].get("artifact_location", "") if found else ""
        location = self._artifacts[experiment_id]
        scheme = urlsplit(location).scheme
        is_elsewhere = scheme in {"", "file"} and urlsplit(self._uri).hostname not in {"127.0.0.1", "localhost", "::1"}
        return location.startswith(_PASSED_ON) or (not is_elsewhere and find_spec("mlflow") is not None)

    def info(self, trace_id: str) -> Info | None:
        answer = self._get(f"api/3.0/mlflow/traces/{trace_id}", {})
        if answer is None:
            return None
        found = answer["trace"]["trace_info"]
        started = datetime.fromisoformat(found["request_time"].replace("Z", "+00:00"))
        return Info(
            trace_id=trace_id,
            request_time=round(started.timestamp() * 1000),
            duration=round(float(found.get("execution_duration", "0s").rstrip("s")) * 1000),
            failed=found.get("state") == "ERROR",
            request_preview=found.get("request_preview"),
            response_preview=found.get("response_preview"),
            client_request_id=found.get("client_request_id"),
            tags=settable(found.get("tags", {})),
            metadata=settable(found.get("trace_metadata", {})),
        )

    def counted(self, trace_id: str) -> dict[int, Counted]:
        answer = self._get("api/3.0/mlflow/traces/get", {"trace_id": trace_id, "allow_partial": "true"})
        found = {}
        for span in answer["trace"].get("spans", ()) if answer else ():
            attributes = {item["key"]: _value(item.get("value", {})) for item in span.get("attributes", ())}
            span_id, parent_id = _id(span["span_id"]), _id(span.get("parent_span_id", ""))
            usage, cost = attributes.get(USAGE), attributes.get(COST)
            found[span_id] = Counted.read(span_id, parent_id or None, usage, cost)
        return found

    def write(self, experiment_id: str, traces: Sequence[Trace]) -> None:
        for phase in self.phases(experiment_id, traces):
            self._senders.each(self._send, phase)
            self._takes_spans = self._takes_spans or any(request.spans for request in phase)

    def _send(self, request: Request) -> None:
        body = request.body()
        try:
            with self._writing if request.spans else nullcontext():
                self._post(request, body)
        except (Denied, Rejected) as error:
            if request.needed:
                raise
            tell_once("mlspan: %s; the traces themselves are stored", error)

    def _post(self, request: Request, body: bytes) -> None:
        """Send *body*, spans as gzip unless this server is one of those that cannot read it: MLflow 3.6 is."""
        send = partial(self._call, request.method, request.path)
        if not request.spans or self._reads_gzip is False:
            send(data=body, headers=request.headers)
            return
        try:
            send(data=gzip.compress(body, 1), headers={**request.headers, **_GZIP})
        except Rejected:
            if self._reads_gzip:
                raise
            send(data=body, headers=request.headers)
            self._reads_gzip = False
        else:
            self._reads_gzip = True

    def phases(self, experiment_id: str, traces: Sequence[Trace]) -> list[list[Request]]:
        """Requests in groups, each to be answered before the next is sent.

        Infos before spans: a server that finds the trace there takes its spans, and their sums, with a third less work.
        The other way round until it has taken spans once, so that one that never does is not left with empty traces.
        """
        told = {trace.info.trace_id: trace.told_by_spans() for trace in traces}
        infos = [
            Request("api/3.0/mlflow/traces", _JSON, json={"trace": {"trace_info": _json(experiment_id, trace.info)}})
            for trace in traces
            if told[trace.info.trace_id] is None
        ]
        headers = {**_OTLP, "x-mlflow-experiment-id": experiment_id}
        told_or_not = [span for trace in traces for span in told[trace.info.trace_id] or trace.spans]
        spans = [Request(SPANS, headers, spans=told_or_not)]
        prompts = [
            Request("api/2.0/mlflow/traces/link-prompts", _JSON, json=_links(trace), needed=False)
            for trace in traces
            if trace.prompts
        ]
        both = [infos, spans] if self._takes_spans else [spans, infos]
        return [list(self._files(experiment_id, traces)), *both, prompts]

    def _files(self, experiment_id: str, traces: Sequence[Trace]) -> Iterator[Request]:
        """Uploads through the server, where it passes artifacts on; else done here, by MLflow's own clients."""
        location = self._artifacts.get(experiment_id, "")
        for trace in traces:
            folder = f"{location.rstrip('/')}/traces/{trace.info.trace_id}/artifacts"
            if not trace.attachments:
                continue
            if location.startswith(_PASSED_ON):
                path = "api/2.0/mlflow-artifacts/artifacts" + folder.removeprefix(_PASSED_ON)
                for one in trace.attachments.values():
                    yield Request(f"{path}/attachments/{one.id}", _BYTES, file=one.content, needed=False)
            else:
                from .mlflow_store import upload

                upload(folder, trace.attachments.values())

    def assess(self, trace_id: str, said: Sequence[Assessment]) -> None:
        path = f"api/3.0/mlflow/traces/{trace_id}"
        answer = self._get(path, {})
        if answer is None:
            raise Rejected(f"there is no trace {trace_id} in {shown(self._uri)}, of which something is said")
        known = {one.get("assessment_id") for one in answer["trace"]["trace_info"].get("assessments", ())}
        for one in said:
            if one.id not in known:
                body = orjson.dumps(to_rest(one, trace_id))
                self._call("POST", f"{path}/assessments", data=body, headers=_JSON)

    def _get(self, path: str, params: dict[str, str]) -> Any:
        """The answer, or None where there is no such thing."""
        answer = self._call("GET", path, params=params, absent=True)
        return None if answer.status in {400, 404} else orjson.loads(answer.content)

    def _call(self, method: str, path: str, *, absent: bool = False, **request: Any) -> Answer:
        answer = self._client.call(method, path, **request)
        if answer.status >= 300 and not (absent and answer.status in {400, 404}):
            raise answer.error(f"{shown(self._uri)}/{path}")
        return answer

    def close(self) -> None:
        self._client.close()


def _id(text: str) -> int:
    """A span id as protobuf's JSON has it."""
    return int.from_bytes(base64.b64decode(text), "big")


def _value(any_value: dict[str, Any]) -> Any:
    """What an OTLP value stands for, as protobuf's JSON has it: numbers and structures of numbers are all we read."""
    if "kvlist_value" in any_value:
        return {item["key"]: _value(item.get("value", {})) for item in any_value["kvlist_value"].get("values", ())}
    if "int_value" in any_value:
        return int(any_value["int_value"])
    return any_value.get("double_value", any_value.get("string_value"))


def _json(experiment_id: str, info: Info) -> dict[str, Any]:
    """The body of StartTraceV3, as protobuf's JSON has it."""
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


def _links(trace: Trace) -> dict[str, Any]:
    return {"trace_id": trace.info.trace_id, "prompt_versions": trace.prompts}


def _encoded(spans: Sequence[Told]) -> bytes:
    return request(map(_packed, spans))


def _packed(span: Told) -> Packed:
    """Raises Unfit, though what cannot be encoded was set aside before it was stored."""
    if span.stored is not None:
        return Packed(*context(span), extended(span.stored, *span.added))
    (packed,) = pack([span], _ANY_SIZE)
    if isinstance(packed, Unfit):
        raise packed
    return packed
