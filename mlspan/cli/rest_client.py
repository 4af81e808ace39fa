"""Requests to the REST API of a tracking server, and what its answers mean to a person who reads traces."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import orjson

from ..tracing.export.answers import MAX_ANSWER, is_foreign_answer, parse_object, quote_answer
from ..tracing.export.mlflow.http import FOREIGN_MESSAGE, HttpClient, HttpResponse
from ..tracing.export.mlflow.store import StoreRejected
from ..tracing.export.shown_addresses import hide_user_info
from ..tracing.export.types import BackendUnavailable
from .common import CommandFailure
from .places import StoreLocation


class AccessDenied(CommandFailure):
    """The server asks for credentials, or does not take those that it got."""


class RestClient:
    """A client of the tracking server at *place*, with the credentials and certificates of MLflow's variables.

    Raises:
        CommandFailure: from every method, if the server does not answer as MLflow does; its text says what to do.
    """

    def __init__(self, place: StoreLocation) -> None:
        self._where = place.display_uri.rstrip("/")
        try:
            self._client = HttpClient(place.uri)
        except StoreRejected as rejected:
            raise CommandFailure(str(rejected)) from rejected

    def post_json(self, path: str, body: Mapping[str, object], most: int = MAX_ANSWER) -> dict[str, Any]:
        """Return the object that the server answers, of at most so many bytes."""
        headers = {"Content-Type": "application/json"}
        answer = self._exchange("POST", path, most, data=orjson.dumps(body), headers=headers)
        self._check_status(answer, path)
        return self._parse_answer(answer, path)

    def find_object(self, path: str, query: Mapping[str, str], most: int = MAX_ANSWER) -> dict[str, Any] | None:
        """Return the object that the server answers; None if it has no such thing."""
        answer = self._exchange("GET", path, most, params=query)
        if _is_missing(answer):
            return None
        self._check_status(answer, path)
        return self._parse_answer(answer, path)

    @contextmanager
    def expect_form(self, path: str) -> Iterator[None]:
        """Turn the error of reading an answer that is not of MLflow's form into the failure that says so."""
        try:
            yield
        except (ArithmeticError, AttributeError, KeyError, TypeError, ValueError) as error:
            raise self._make_foreign_failure(path, quote_answer(f"{type(error).__name__}: {error}")) from error

    def _exchange(self, method: str, path: str, most: int, **request: Any) -> HttpResponse:
        try:
            return self._client.send_request(method, path, most=most, **request)
        except (BackendUnavailable, StoreRejected) as error:
            again = ": is it running?" if "cannot reach" in str(error) else ""
            raise CommandFailure(f"{error}{again}") from error

    def _check_status(self, answer: HttpResponse, path: str) -> None:
        """Raise the failure for an answer without success."""
        status, where = answer.status, self._where
        if status < 300:
            return
        told = parse_object(answer.content)
        said = quote_answer(str(told.get("message", "")) if told else answer.content)
        if status < 400:
            target = hide_user_info(answer.headers.get("Location", "").partition("?")[0])
            raise CommandFailure(f"{where} answers {status} and points to {target}: name that address")
        if status == 403 and b"Invalid Host header" in answer.content:
            raise CommandFailure(
                f"{where} answers 403: MLflow does not accept this host name; its --allowed-hosts have to name it"
            )
        if status in {401, 407}:
            names = "MLFLOW_TRACKING_USERNAME and _PASSWORD, or MLFLOW_TRACKING_TOKEN"
            raise AccessDenied(f"{where} answers {status}: check {names}")
        if status == 403:
            raise AccessDenied(f"{where} answers 403: this user may not read there ({said})")
        if told is not None and told.get("error_code") == "INVALID_PARAMETER_VALUE":
            raise CommandFailure(f"{where} refuses the search: {said}")
        if status == 404:
            raise CommandFailure(f"{where} answers 404 to /{path}: no tracking server of MLflow 3 is at this address")
        raise CommandFailure(f"{where} answers {status}: {said}")

    def _parse_answer(self, answer: HttpResponse, path: str) -> dict[str, Any]:
        kind = answer.headers.get("Content-Type") or ""
        found = parse_object(answer.content)
        if found is None or is_foreign_answer(kind, answer.content):
            raise self._make_foreign_failure(path, quote_answer(kind or answer.content))
        return found

    def _make_foreign_failure(self, path: str, kind: str) -> CommandFailure:
        return CommandFailure(FOREIGN_MESSAGE.format(where=f"{self._where}/{path}", kind=kind))


def _is_missing(answer: HttpResponse) -> bool:
    """Return whether MLflow says that there is no such thing, rather than another server that it knows no such path."""
    if answer.status not in {400, 404}:
        return False
    code = (parse_object(answer.content) or {}).get("error_code")
    return code in {"RESOURCE_DOES_NOT_EXIST", "NOT_FOUND"}
