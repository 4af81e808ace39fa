"""Reader of MLflow's tracking server, without importing MLflow: of experiments, runs and stored traces."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import wraps
from importlib.util import find_spec
from typing import Any, Final, TypeVar, cast
from urllib.parse import urlsplit

import orjson

from ..answers import is_foreign_answer, parse_object, quote_answer
from ..shown_addresses import hide_user_info
from .http import FOREIGN_MESSAGE, HttpClient, HttpResponse
from .server_requests import JSON_HEADERS, PROXIED_ARTIFACTS
from .span_totals import SpanTotals
from .store import StoreDenied, StoreRejected
from .traces import TraceSummary, drop_reserved_keys

_MAX_SPANS: Final = 256 * 1024 * 1024  # bytes: the spans of a stored trace, in one answer

_Read = TypeVar("_Read", bound=Callable[..., Any])


def _reads_answer(read: _Read) -> _Read:
    """Have a method raise StoreDenied if it finds an answer to be of another form than MLflow's."""

    @wraps(read)
    def read_checked(self: ServerReader, *arguments: Any) -> Any:
        try:
            return read(self, *arguments)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            where = hide_user_info(self.uri)
            raise StoreDenied(FOREIGN_MESSAGE.format(where=where, kind=f"it lacks {error}")) from error

    return cast("_Read", read_checked)


class ServerReader:
    """Reader of a tracking server. See :class:`HttpClient` for the variables that it obeys."""

    def __init__(self, uri: str, *, with_credentials: bool = True) -> None:
        self._client = HttpClient(uri, with_credentials=with_credentials)
        self.uri = self._client.uri
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

    def has_experiment(self, name: str) -> bool:
        return self._find_experiment(name) is not None

    def _find_experiment(self, name: str) -> Any:
        return self._get_json("api/2.0/mlflow/experiments/get-by-name", {"experiment_name": name}, "experiment")

    @_reads_answer
    def find_or_create_experiment(self, name: str) -> str:
        found = self._find_experiment(name)
        if found is not None:
            return self._require_active(found["experiment"])
        body = orjson.dumps({"name": name})
        made = self.call_api("POST", "api/2.0/mlflow/experiments/create", data=body, headers=JSON_HEADERS)
        return str(self._parse(made, "api/2.0/mlflow/experiments/create", "experiment_id")["experiment_id"])

    @_reads_answer
    def check_experiment(self, experiment_id: str) -> None:
        found = self._get_json("api/2.0/mlflow/experiments/get", {"experiment_id": experiment_id}, "experiment")
        if found is None:
            msg = f"there is no experiment {experiment_id} in {hide_user_info(self.uri)}: name another, or create it"
            raise StoreRejected(msg)
        self._require_active(found["experiment"])

    def _require_active(self, experiment: dict[str, Any]) -> str:
        """Return the id of an active experiment. Raise StoreRejected for a deleted one."""
        if experiment.get("lifecycle_stage", "active") != "active":
            where = f"{experiment['name']!r} in {hide_user_info(self.uri)}"
            raise StoreRejected(f"the experiment {where} is deleted: restore it, or name another")
        return str(experiment["experiment_id"])

    def accepts_attachments(self, experiment_id: str) -> bool:
        """Return True if the artifact location can be reached: through the server, or by MLflow's storage clients."""
        location = self.find_artifact_location(experiment_id)
        scheme = urlsplit(location).scheme
        is_elsewhere = scheme in {"", "file"} and urlsplit(self.uri).hostname not in {"127.0.0.1", "localhost", "::1"}
        return location.startswith(PROXIED_ARTIFACTS) or (not is_elsewhere and find_spec("mlflow") is not None)

    @_reads_answer
    def find_artifact_location(self, experiment_id: str) -> str:
        """Return where the artifacts of an experiment are; an empty text if there is no such experiment."""
        if experiment_id not in self._artifacts:
            found = self._get_json("api/2.0/mlflow/experiments/get", {"experiment_id": experiment_id}, "experiment")
            self._artifacts[experiment_id] = found["experiment"].get("artifact_location", "") if found else ""
        return self._artifacts[experiment_id]

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
        for span in self.read_spans(trace_id):
            attributes = {item["key"]: _read_otlp_value(item.get("value", {})) for item in span.get("attributes", ())}
            span_id, parent_id = decode_span_id(span["span_id"]), decode_span_id(span.get("parent_span_id", ""))
            found[span_id] = SpanTotals.from_attributes(
                span_id,
                parent_id or None,
                attributes,
                (int(span.get("start_time_unix_nano", 0)), int(span.get("end_time_unix_nano", 0))),
            )
        return found

    @_reads_answer
    def read_spans(self, trace_id: str) -> Sequence[dict[str, Any]]:
        """Return the stored spans of a trace, in protobuf's JSON form."""
        params = {"trace_id": trace_id, "allow_partial": "true"}
        answer = self._get_json("api/3.0/mlflow/traces/get", params, "trace", most=_MAX_SPANS)
        spans: Sequence[dict[str, Any]] = answer["trace"].get("spans", ()) if answer else ()
        return spans

    @_reads_answer
    def read_assessment_ids(self, path: str) -> set[Any] | None:
        """Return the ids of the assessments that are stored of a trace; None if there is no such trace."""
        answer = self._get_json(path, {}, "trace")
        if answer is None:
            return None
        return {assessment.get("assessment_id") for assessment in answer["trace"]["trace_info"].get("assessments", ())}

    def _get_json(self, path: str, params: dict[str, str], holds: str, **options: Any) -> Any:
        """Return the parsed answer, which *holds* something of this name; None for a missing object."""
        answer = self.call_api("GET", path, params=params, absent=True, **options)
        return None if answer.status in {400, 404} else self._parse(answer, path, holds)

    def _parse(self, answer: HttpResponse, path: str, holds: str) -> Any:
        """Return the JSON object of an answer. Raise StoreDenied if no MLflow answers so."""
        found = parse_object(answer.content)
        if found is None or holds not in found:
            raise self._make_foreign_error(path, f"no {holds} in it")
        return found

    def _make_foreign_error(self, path: str, kind: str) -> StoreDenied:
        return StoreDenied(FOREIGN_MESSAGE.format(where=f"{hide_user_info(self.uri)}/{path}", kind=kind))

    def call_api(self, method: str, path: str, *, absent: bool = False, **request: Any) -> HttpResponse:
        """Send a request and raise the exception for a failure. With *absent*, 400 and 404 count as an answer."""
        answer = self._client.send_request(method, path, **request)
        if answer.status >= 300 and not (absent and answer.status in {400, 404}):
            sent = len(request.get("data") or b"")
            raise answer.make_exception(f"{hide_user_info(self.uri)}/{path}", sent)
        content_type = answer.headers.get("Content-Type") or ""
        if is_foreign_answer(content_type, answer.content):
            raise self._make_foreign_error(path, quote_answer(content_type))
        return answer

    def close(self) -> None:
        self._client.close()


def decode_span_id(text: str) -> int:
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
