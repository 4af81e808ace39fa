"""Reader of stored traces. It uses MLflow's public client, for a database and for a tracking server alike."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

from . import model
from .common import CommandFailure, require_module, show_busy
from .places import StoreLocation, find_database_file

_TRACES_PER_PAGE: Final = 200  # without spans
_FULL_TRACES_PER_PAGE: Final = 50
_NEWEST_FIRST: Final = ["timestamp_ms DESC", "request_id DESC"]
_MAX_TRACES: Final = 1_000_000


class TraceReader:
    """Reader of the traces of one store. Creating it imports MLflow, which takes seconds.

    Raises:
        CommandFailure: from every method, if MLflow is missing or the store does not answer.
    """

    def __init__(self, place: StoreLocation) -> None:
        require_module("mlflow", "mlflow", "reading traces")
        self.place = place
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")  # a person is waiting, and the default is minutes
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
        with show_busy("Opening MLflow"), self._translate_errors():
            for name in ("alembic", "mlflow.store.db.utils"):
                logging.getLogger(name).setLevel(logging.WARNING)
            from mlflow import MlflowClient

            self._client: Any = MlflowClient(tracking_uri=place.uri)
            self.experiments = self._list_experiments()

    def _list_experiments(self) -> dict[str, str]:
        """Return the names by id of the requested experiment, or of all active ones.

        Raises:
            CommandFailure: if the requested experiment does not exist.
        """
        wanted, client = self.place.experiment, self._client
        if wanted is None:
            return {
                str(found.experiment_id): found.name
                for found in _iterate_pages(client.search_experiments, _TRACES_PER_PAGE)
            }
        found = client.get_experiment(wanted) if wanted.isdigit() else client.get_experiment_by_name(wanted)
        if found is None:
            known = ", ".join(repr(found.name) for found in client.search_experiments(max_results=8))
            raise CommandFailure(f"there is no experiment {wanted!r} in {self.place.display_uri}; there are: {known}")
        return {str(found.experiment_id): found.name}

    def refresh_experiments(self) -> None:
        """Read the list of experiments again, to find new ones."""
        if self.place.experiment is None:
            with self._translate_errors():
                self.experiments = self._list_experiments()

    def iterate_traces(
        self, where: Sequence[str] = (), *, limit: int = _MAX_TRACES, spans: bool = False
    ) -> Iterator[model.StoredTrace]:
        """Yield at most *limit* traces, the newest first, that match all terms of *where* (MLflow's search syntax)."""
        if not self.experiments:
            return
        page_size = min(limit, _FULL_TRACES_PER_PAGE if spans else _TRACES_PER_PAGE)
        with self._translate_errors():
            found = _iterate_pages(
                self._client.search_traces,
                page_size,
                locations=list(self.experiments),
                filter_string=" AND ".join(where) or None,
                order_by=_NEWEST_FIRST,
                include_spans=spans,
            )
            for trace, _ in zip(found, range(limit), strict=False):
                yield model.read_trace(trace)

    def find_trace(self, text: str) -> model.StoredTrace:
        """Return the trace whose id is *text* or begins with it; for ``last``, the newest trace.

        Raises:
            CommandFailure: if there is no such trace, or more than one.
        """
        if text == "last":
            newest = next(self.iterate_traces(limit=1), None)
            if newest is None:
                raise CommandFailure(f"there are no traces in {self._display_place}")
            return self.fetch_trace(newest.id)
        digits = text.lower().removeprefix("tr-")
        if not re.fullmatch(r"[0-9a-f]{1,32}", digits):
            raise CommandFailure(f"{text!r} is no trace id: give hexadecimal digits (the first few will do), or: last")
        if len(digits) == 32:
            return self.fetch_trace(f"tr-{digits}")
        found = list(self.iterate_traces([f"attributes.request_id LIKE 'tr-{digits}%'"], limit=6))
        if not found:
            raise CommandFailure(
                f"no trace in {self._display_place} begins with {digits}; mlspan list shows what there is"
            )
        if len(found) > 1:
            ids = ", ".join(trace.id.removeprefix("tr-")[: max(12, len(digits) + 4)] for trace in found[:5])
            raise CommandFailure(
                f"several traces begin with {digits}: {ids}{' ...' if len(found) > 5 else ''}; give more of it"
            )
        return self.fetch_trace(found[0].id)

    def fetch_trace(self, trace_id: str) -> model.StoredTrace:
        """Return the trace with its spans."""
        with self._translate_errors():
            return model.read_trace(self._client.get_trace(trace_id))

    def find_run_id(self, name_or_id: str) -> str:
        """Return the id of the run with this id or name. If several runs have the name, it is the newest.

        Raises:
            CommandFailure: if there is no run of this name.
        """
        with self._translate_errors():
            by_name = f"attributes.run_name = {quote_search_text(name_or_id)}"
            if re.fullmatch(r"[0-9a-f]{32}", name_or_id):
                return name_or_id
            found = self._client.search_runs(list(self.experiments), by_name, max_results=1)
            if not found:
                raise CommandFailure(f"there is no run {name_or_id!r} in {self._display_place}")
            return str(found[0].info.run_id)

    def find_run_name(self, run_id: str) -> str:
        """Return the name of a run, or its id if the run cannot be read."""
        try:
            with self._translate_errors():
                return str(self._client.get_run(run_id).info.run_name)
        except CommandFailure:
            return run_id

    @property
    def _display_place(self) -> str:
        """Return the description of the store and experiment for messages."""
        experiment = self.place.experiment
        return (
            self.place.display_uri
            if experiment is None
            else f"the experiment {experiment!r} of {self.place.display_uri}"
        )

    @contextmanager
    def _translate_errors(self) -> Iterator[None]:
        """Turn errors of MLflow and of the libraries below it into a CommandFailure of one line."""
        import requests

        try:
            yield
        except CommandFailure:
            raise
        except ImportError as error:
            raise CommandFailure(f"MLflow cannot be imported: {error}") from error
        except requests.RequestException as error:
            raise CommandFailure(
                f"cannot reach {self.place.display_uri} ({type(error).__name__}): is it running?"
            ) from error
        except Exception as error:
            if not type(error).__module__.startswith(("mlflow.", "sqlalchemy.")):
                raise
            raise CommandFailure(explain_store_error(str(error), self.place)) from error


def explain_store_error(message: str, place: StoreLocation) -> str:
    """Return one line that explains an error of the store, with what to do where that is known."""
    line = next((line for line in message.splitlines() if line.strip()), "it did not say why")
    if "out-of-date database schema" in message:
        return (
            f"{place.display_uri} was made by an older MLflow: "
            f"save a copy of it, then run: mlflow db upgrade {place.display_uri}"
        )
    if "Max retries exceeded" in message or "Connection refused" in message:
        return f"cannot reach {place.display_uri}: is it running?"
    if find_database_file(place.uri) is None and ("401" in line or "403" in line):
        return f"{line[:300]}: check MLFLOW_TRACKING_USERNAME and _PASSWORD, or MLFLOW_TRACKING_TOKEN"
    return f"{place.display_uri}: {line[:300]}"


def _iterate_pages(search: Any, page_size: int, **arguments: object) -> Iterator[Any]:
    """Yield the results of all pages of an MLflow search."""
    token: str | None = None
    while True:
        found = search(max_results=page_size, page_token=token, **arguments)
        yield from found
        token = found.token
        if not token:
            return


def quote_search_text(text: str) -> str:
    """Return *text* quoted for MLflow's search.

    Raises:
        CommandFailure: if *text* has both kinds of quotes, since the syntax cannot escape them.
    """
    if '"' in text and "'" in text:
        raise CommandFailure(f"MLflow cannot search for what holds both kinds of quotes: {text}")
    return f'"{text}"' if "'" in text else f"'{text}'"
