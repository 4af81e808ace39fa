"""Reader of traces by MLflow's public client, for a database and for a tracking server alike."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Final

from ..tracing.export.mlflow.names import RESUMES_KEY, SESSION_KEY, WAITING_KEY, is_experiment_id
from . import model
from .common import CommandFailure, require_module, show_busy
from .places import StoreLocation, find_database_file
from .reading import EVERYTHING, MAX_TRACES, TraceFilter, TraceReader

TRACES_PER_PAGE: Final = 200  # without spans
FULL_TRACES_PER_PAGE: Final = 50
NEWEST_FIRST: Final = ["timestamp_ms DESC", "request_id DESC"]


class MlflowReader(TraceReader):
    """Reader by MLflow's client. Creating it imports MLflow, which takes seconds.

    Raises:
        CommandFailure: if MLflow is missing or the store does not answer.
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
            self.experiments = self.list_experiments()

    def list_experiments(self) -> dict[str, str]:
        wanted, client = self.place.experiment, self._client
        with self._translate_errors():
            if wanted is None:
                return {
                    str(found.experiment_id): found.name
                    for found in _iterate_pages(client.search_experiments, TRACES_PER_PAGE)
                }
            has_id = is_experiment_id(wanted)
            found = client.get_experiment(wanted) if has_id else client.get_experiment_by_name(wanted)
            if found is None:
                known = [found.name for found in client.search_experiments(max_results=8)]
                raise self.make_unknown_experiment(known)
            return {str(found.experiment_id): found.name}

    def iterate_traces(
        self, where: TraceFilter = EVERYTHING, *, limit: int = MAX_TRACES, spans: bool = False
    ) -> Iterator[model.StoredTrace]:
        if not self.experiments:
            return
        page_size = min(limit, FULL_TRACES_PER_PAGE if spans else TRACES_PER_PAGE)
        with self._translate_errors():
            found = _iterate_pages(
                partial(self._read_stored, self._client.search_traces),
                page_size,
                locations=list(self.experiments),
                filter_string=" AND ".join(make_search_terms(where)) or None,
                order_by=NEWEST_FIRST,
                include_spans=spans,
            )
            yield from self.take_matching(_skip_repeated(map(model.read_trace, found)), where, limit)

    def fetch_trace(self, trace_id: str) -> model.StoredTrace:
        with self._translate_errors():
            found = self._read_stored(self._client.get_trace, trace_id)
            return self.settle_states([model.read_trace(found)])[0]

    def find_resumptions(self, trace_ids: Sequence[str]) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        with self._translate_errors():
            for trace_id in trace_ids:
                traces = self._client.search_traces(
                    locations=list(self.experiments),
                    filter_string=f"tags.`{RESUMES_KEY}` = {quote_search_text(trace_id)}",
                    include_spans=False,
                )
                if traces:
                    found[trace_id] = [trace.info.trace_id for trace in traces]
        return found

    def search_run_id(self, name: str) -> str | None:
        with self._translate_errors():
            by_name = f"attributes.run_name = {quote_search_text(name)}"
            found = self._client.search_runs(list(self.experiments), by_name, max_results=1)
            return str(found[0].info.run_id) if found else None

    def find_run_name(self, run_id: str) -> str:
        try:
            with self._translate_errors():
                return str(self._client.get_run(run_id).info.run_name)
        except CommandFailure:
            return run_id

    def _read_stored(self, read: Callable[..., Any], *args: object, **kwargs: object) -> Any:
        """Return what a function of MLflow's client reads, whose errors for what is damaged may be of any kind."""
        try:
            return read(*args, **kwargs)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            what = f"MLflow cannot read what is stored ({type(error).__name__}: {error})"
            raise CommandFailure(explain_store_error(what, self.place)) from error

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


def make_search_terms(where: TraceFilter) -> list[str]:
    """Return the terms of MLflow's search for a filter.

    Raises:
        CommandFailure: if a text cannot be quoted.
    """
    terms = {
        "attributes.run_id = {}": where.run_id,
        f"metadata.`{SESSION_KEY}` = {{}}": where.session,
        "attributes.status = {}": None if where.status == model.WAITING else where.status,
        f"tags.`{WAITING_KEY}` = {{}}": "true" if where.status == model.WAITING else None,
        "attributes.request_id LIKE {}": None if where.id_prefix is None else f"{where.id_prefix}%",
    }
    texts = [term.format(quote_search_text(text)) for term, text in terms.items() if text is not None]
    times = {"attributes.timestamp_ms >= {}": where.since_ms, "attributes.timestamp_ms < {}": where.until_ms}
    texts += [term.format(time) for term, time in times.items() if time is not None]
    return texts + [condition.text for condition in where.conditions]


def _skip_repeated(traces: Iterable[model.StoredTrace]) -> Iterator[list[model.StoredTrace]]:
    """Yield each trace once, by itself: what lands meanwhile moves the pages, so that the next one repeats traces."""
    seen: set[str] = set()
    for trace in traces:
        if trace.id not in seen:
            seen.add(trace.id)
            yield [trace]


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
