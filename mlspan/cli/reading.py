"""Traces out of MLflow, by its public client: the same for a database and for a tracking server."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

from . import model
from .common import Failure, busy, need
from .places import Place, database_file

_PAGE: Final = 200  # infos in one request
_PAGE_OF_SPANS: Final = 50
_NEWEST: Final = ["timestamp_ms DESC", "request_id DESC"]
_MOST: Final = 1_000_000


class Traces:
    """The traces of one store. MLflow is imported when it is made, which takes seconds.

    Raises:
        Failure: from every method, where MLflow is missing, or the store does not answer.
    """

    def __init__(self, place: Place) -> None:
        need("mlflow", "mlflow", "reading traces")
        self.place = place
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")  # a person waits; the default is minutes
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
        with busy("Opening MLflow"), self._answers():
            for name in ("alembic", "mlflow.store.db.utils"):
                logging.getLogger(name).setLevel(logging.WARNING)
            from mlflow import MlflowClient

            self._client: Any = MlflowClient(tracking_uri=place.uri)
            self.experiments = self._experiments()

    def _experiments(self) -> dict[str, str]:
        """Names by id: of the experiment that was asked for, else of all that are active."""
        named, client = self.place.experiment, self._client
        if named is None:
            return {str(found.experiment_id): found.name for found in _pages(client.search_experiments, _PAGE)}
        found = client.get_experiment(named) if named.isdigit() else client.get_experiment_by_name(named)
        if found is None:
            known = ", ".join(repr(found.name) for found in client.search_experiments(max_results=8))
            raise Failure(f"there is no experiment {named!r} in {self.place.shown}; there are: {known}")
        return {str(found.experiment_id): found.name}

    def refresh(self) -> None:
        """Take notice of experiments that are new."""
        if self.place.experiment is None:
            with self._answers():
                self.experiments = self._experiments()

    def search(self, where: Sequence[str] = (), *, limit: int = _MOST, spans: bool = False) -> Iterator[model.Trace]:
        """The newest first. *where* are terms of MLflow's search, all of which must hold."""
        if not self.experiments:
            return
        page = min(limit, _PAGE_OF_SPANS if spans else _PAGE)
        with self._answers():
            found = _pages(
                self._client.search_traces,
                page,
                locations=list(self.experiments),
                filter_string=" AND ".join(where) or None,
                order_by=_NEWEST,
                include_spans=spans,
            )
            for trace, _ in zip(found, range(limit), strict=False):
                yield model.read(trace)

    def find(self, text: str) -> model.Trace:
        """The trace whose id is, or begins with, *text*; ``last`` is the newest."""
        if text == "last":
            newest = next(self.search(limit=1), None)
            if newest is None:
                raise Failure(f"there are no traces in {self._where}")
            return self.whole(newest.id)
        digits = text.lower().removeprefix("tr-")
        if not re.fullmatch(r"[0-9a-f]{1,32}", digits):
            raise Failure(f"{text!r} is no trace id: give hexadecimal digits (the first few will do), or: last")
        if len(digits) == 32:
            return self.whole(f"tr-{digits}")
        found = list(self.search([f"attributes.request_id LIKE 'tr-{digits}%'"], limit=6))
        if not found:
            raise Failure(f"no trace in {self._where} begins with {digits}; mlspan list shows what there is")
        if len(found) > 1:
            ids = ", ".join(trace.id.removeprefix("tr-")[: max(12, len(digits) + 4)] for trace in found[:5])
            raise Failure(
                f"several traces begin with {digits}: {ids}{' ...' if len(found) > 5 else ''}; give more of it"
            )
        return self.whole(found[0].id)

    def whole(self, trace_id: str) -> model.Trace:
        with self._answers():
            return model.read(self._client.get_trace(trace_id))

    def run_id(self, named: str) -> str:
        """The id of the run that *named* is the id or the name of; of several of one name, the newest."""
        with self._answers():
            by_name = f"attributes.run_name = {quoted(named)}"
            if re.fullmatch(r"[0-9a-f]{32}", named):
                return named
            found = self._client.search_runs(list(self.experiments), by_name, max_results=1)
            if not found:
                raise Failure(f"there is no run {named!r} in {self._where}")
            return str(found[0].info.run_id)

    def run_name(self, run_id: str) -> str:
        """The run's name; its id where it is gone."""
        try:
            with self._answers():
                return str(self._client.get_run(run_id).info.run_name)
        except Failure:
            return run_id

    @property
    def _where(self) -> str:
        named = self.place.experiment
        return self.place.shown if named is None else f"the experiment {named!r} of {self.place.shown}"

    @contextmanager
    def _answers(self) -> Iterator[None]:
        """Turn what MLflow and those below it raise into one line."""
        import requests

        try:
            yield
        except Failure:
            raise
        except ImportError as error:
            raise Failure(f"MLflow cannot be imported: {error}") from error
        except requests.RequestException as error:
            raise Failure(f"cannot reach {self.place.shown} ({type(error).__name__}): is it running?") from error
        except Exception as error:
            if not type(error).__module__.startswith(("mlflow.", "sqlalchemy.")):
                raise
            raise Failure(_why(str(error), self.place)) from error


def _why(said: str, place: Place) -> str:
    line = next((line for line in said.splitlines() if line.strip()), "it did not say why")
    if "out-of-date database schema" in said:
        return (
            f"{place.shown} was made by an older MLflow: save a copy of it, then run: mlflow db upgrade {place.shown}"
        )
    if "Max retries exceeded" in said or "Connection refused" in said:
        return f"cannot reach {place.shown}: is it running?"
    if database_file(place.uri) is None and ("401" in line or "403" in line):
        return f"{line[:300]}: check MLFLOW_TRACKING_USERNAME and _PASSWORD, or MLFLOW_TRACKING_TOKEN"
    return f"{place.shown}: {line[:300]}"


def _pages(search: Any, page: int, **arguments: Any) -> Iterator[Any]:
    token: str | None = None
    while True:
        found = search(max_results=page, page_token=token, **arguments)
        yield from found
        token = found.token
        if not token:
            return


def quoted(text: str) -> str:
    """*text* as MLflow's search takes it. Raises Failure for one with both kinds of quotes: there is no escape."""
    if '"' in text and "'" in text:
        raise Failure(f"MLflow cannot search for what holds both kinds of quotes: {text}")
    return f'"{text}"' if "'" in text else f"'{text}'"
