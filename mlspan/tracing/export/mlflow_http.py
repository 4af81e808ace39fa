"""MLflow's tracking server: spans by OTLP, many traces a request, then what OTLP cannot say of each. No MLflow here."""

from __future__ import annotations

import base64
import gzip
import os
from collections.abc import Sequence
from datetime import datetime, timezone
from typing import Any, Final

import orjson
import requests
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.trace import ReadableSpan

from ..content import clean
from .mlflow import Rejected, shown
from .mlflow_spans import COST, USAGE
from .mlflow_trace import Counted, Info, Trace, settable
from .parcel import Away

_TIMEOUT: Final = (2.0, 10.0)  # seconds to connect, and between two bytes of the answer
_MOST_TRACES: Final = 100  # in one request; with more, MLflow answers 200 and links none of them to a run
_JSON: Final = {"Content-Type": "application/json"}


class Server:
    """A tracking server of MLflow 3.4 or later. Who we are there is said by MLflow's own environment variables.

    ``MLFLOW_TRACKING_USERNAME`` and ``_PASSWORD``, ``MLFLOW_TRACKING_TOKEN``, ``MLFLOW_TRACKING_INSECURE_TLS``,
    ``MLFLOW_TRACKING_SERVER_CERT_PATH``, ``MLFLOW_TRACKING_CLIENT_CERT_PATH``, ``MLFLOW_WORKSPACE``.
    """

    def __init__(self, uri: str) -> None:
        self._uri = uri.rstrip("/")
        self._session = requests.Session()
        environ = os.environ
        if user := environ.get("MLFLOW_TRACKING_USERNAME"):
            self._session.auth = (user, environ.get("MLFLOW_TRACKING_PASSWORD", ""))
        elif token := environ.get("MLFLOW_TRACKING_TOKEN"):
            self._session.headers["Authorization"] = f"Bearer {token}"
        if workspace := environ.get("MLFLOW_WORKSPACE"):
            self._session.headers["X-MLFLOW-WORKSPACE"] = workspace
        if environ.get("MLFLOW_TRACKING_INSECURE_TLS", "").lower() in {"1", "true"}:
            self._session.verify = False
        else:
            self._session.verify = environ.get("MLFLOW_TRACKING_SERVER_CERT_PATH") or True
        self._session.cert = environ.get("MLFLOW_TRACKING_CLIENT_CERT_PATH") or None

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
        for start in range(0, len(traces), _MOST_TRACES):
            self._write(experiment_id, traces[start : start + _MOST_TRACES])

    def _write(self, experiment_id: str, traces: Sequence[Trace]) -> None:
        spans = [span for trace in traces for span in trace.spans]
        headers = {
            "Content-Type": "application/x-protobuf",
            "Content-Encoding": "gzip",
            "x-mlflow-experiment-id": experiment_id,
        }
        self._call("POST", "v1/traces", data=gzip.compress(_encoded(spans), 1), headers=headers)
        for trace in traces:
            body = orjson.dumps({"trace": {"trace_info": _json(experiment_id, trace.info)}})
            self._call("POST", "api/3.0/mlflow/traces", data=body, headers=_JSON)

    def _get(self, path: str, params: dict[str, str]) -> Any:
        """The answer, or None where there is no such thing."""
        answer = self._call("GET", path, params=params, absent=True)
        return None if answer.status_code in {400, 404} else orjson.loads(answer.content)

    def _call(self, method: str, path: str, *, absent: bool = False, **request: Any) -> requests.Response:
        where = f"{shown(self._uri)}/{path}"
        try:
            answer = self._session.request(
                method, f"{self._uri}/{path}", timeout=_TIMEOUT, allow_redirects=False, **request
            )
        except requests.RequestException as error:
            msg = f"cannot reach the tracking server {shown(self._uri)} ({type(error).__name__})"
            raise Away(msg) from error
        status = answer.status_code
        if status < 300 or (absent and status in {400, 404}):
            return answer
        if status in {408, 429} or status >= 500:
            msg = f"the tracking server answers {status} to {where}"
            raise Away(msg, _seconds(answer.headers.get("Retry-After")))
        raise Rejected(_why(status, path, where, answer.text), all_of_it=status in {401, 403, 404})

    def close(self) -> None:
        self._session.close()


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


def _why(status: int, path: str, where: str, said: str) -> str:
    if status in {401, 403}:
        return f"{where} answers {status}: check MLFLOW_TRACKING_USERNAME and _PASSWORD or _TOKEN, and the permissions"
    if status in {404, 405} and path == "v1/traces":
        return f"{where} does not exist: traces need MLflow 3.4 or later, started without --gunicorn-opts"
    return f"{where} answers {status}: {said[:200]}"


def _seconds(retry_after: str | None) -> float | None:
    try:
        return None if retry_after is None else float(retry_after)
    except ValueError:  # a date: our own backoff will do
        return None


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
        "trace_metadata": info.metadata,
        "tags": info.tags,
    }


def _encoded(spans: Sequence[ReadableSpan]) -> bytes:
    """OTLP; a span of somebody else's that cannot be encoded is mended, so that it takes no other along."""
    try:
        encoded = encode_spans(spans)
    except Exception:  # noqa: BLE001  # protobuf raises errors of many kinds
        encoded = encode_spans([_mended(span) for span in spans])
    return bytes(encoded.SerializeToString())


def _mended(span: ReadableSpan) -> ReadableSpan:
    try:
        encode_spans([span]).SerializeToString()
    except Exception:  # noqa: BLE001
        attributes = {key: clean(str(value)) for key, value in (span.attributes or {}).items()}
        return ReadableSpan(
            name=clean(span.name),
            context=span.get_span_context(),
            parent=span.parent,
            resource=span.resource,
            attributes=attributes,
            kind=span.kind,
            status=span.status,
            start_time=span.start_time,
            end_time=span.end_time,
        )
    return span
