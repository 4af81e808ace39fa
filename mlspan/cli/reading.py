"""Reader of stored traces. It uses MLflow's public client, for a database and for a tracking server alike."""

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

_PAGE: Final = 200  # without spans
_PAGE_OF_SPANS: Final = 50
_NEWEST: Final = ["timestamp_ms DESC", "request_id DESC"]
_MOST: Final = 1_000_000


class Traces:
    """Reader of the traces of one store. Creating it imports MLflow, which takes seconds.

    Raises:
        CommandFailure: from every method, if MLflow is missing or the store does not answer.
    """

    def __init__(self, place: Place) -> None:
        need("mlflow", "mlflow", "reading traces")
        self.place = place
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")  # a person is waiting, and the default is minutes
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
        with busy("Opening MLflow"), self._answers():
            for name in ("alembic", "mlflow.store.db.utils"):
                logging.getLogger(name).setLevel(logging.WARNING)
            from mlflow import MlflowClient

            self._client: Any = MlflowClient(tracking_uri=place.uri)
            self.experiments = self._experiments()

    def _experiments(self) -> dict[str, str]:
        """Return the names by id of the requested experiment, or of all active ones.

        Raises:
            CommandFailure: if the requested experiment does not exist.
        """
        wanted, client = self.place.experiment, self._client
        if wanted is None:
            return {str(found.experiment_id): found.name for found in _pages(client.search_experiments, _PAGE)}
        found = client.get_experiment(wanted) if wanted.isdigit() else client.get_experiment_by_name(wanted)
        if found is None:
            known = ", ".join(repr(found.name) for found in client.search_experiments(max_results=8))
            raise Failure(f"there is no experiment {wanted!r} in {self.place.shown}; there are: {known}")
        return {str(found.experiment_id): found.name}

    def refresh(self) -> None:
        """Read the list of experiments again, to find new ones."""
        if self.place.experiment is None:
            with self._answers():
                self.experiments = self._experiments()

    def search(self, where: Sequence[str] = (), *, limit: int = _MOST, spans: bool = False) -> Iterator[model.Trace]:
        """Yield at most *limit* traces, the newest first, that match all terms of *where* (MLflow's search syntax)."""
        if not self.experiments:
            return
        page_size = min(limit, _PAGE_OF_SPANS if spans else _PAGE)
        with self._answers():
            found = _pages(
                self._client.search_traces,
                page_size,
                locations=list(self.experiments),
                filter_string=" AND ".join(where) or None,
                order_by=_NEWEST,
                include_spans=spans,
            )
            for trace, _ in zip(found, range(limit), strict=False):
                yield model.read(trace)

    def find(self, text: str) -> model.Trace:
        """Return the trace whose id is *text* or begins with it; for ``last``, the newest trace.

        Raises:
            CommandFailure: if there is no such trace, or more than one.
        """
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
        """Return the trace with its spans."""
        with self._answers():
            return model.read(self._client.get_trace(trace_id))

    def run_id(self, name_or_id: str) -> str:
        """Return the id of the run with this id or name. If several runs have the name, it is the newest.

        Raises:
            CommandFailure: if there is no run of this name.
        """
        with self._answers():
            by_name = f"attributes.run_name = {quoted(name_or_id)}"
            if re.fullmatch(r"[0-9a-f]{32}", name_or_id):
                return name_or_id
            found = self._client.search_runs(list(self.experiments), by_name, max_results=1)
            if not found:
                raise Failure(f"there is no run {name_or_id!r} in {self._where}")
            return str(found[0].info.run_id)

    def run_name(self, run_id: str) -> str:
        """Return the name of a run, or its id if the run cannot be read."""
        try:
            with self._answers():
                return str(self._client.get_run(run_id).info.run_name)
        except Failure:
            return run_id

    @property
    def _where(self) -> str:
        """Return the description of the store and experiment for messages."""
        experiment = self.place.experiment
        return self.place.shown if experiment is None else f"the experiment {experiment!r} of {self.place.shown}"

    @contextmanager
    def _answers(self) -> Iterator[None]:
        """Turn errors of MLflow and of the libraries below it into a CommandFailure of one line."""
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


def _why(message: str, place: Place) -> str:
    """Return one line that explains an error of the store, with what to do where that is known."""
    line = next((line for line in message.splitlines() if line.strip()), "it did not say why")
    if "out-of-date database schema" in message:
        return (
            f"{place.shown} was made by an older MLflow: save a copy of it, then run: mlflow db upgrade {place.shown}"
        )
    if "Max retries exceeded" in message or "Connection refused" in message:
        return f"cannot reach {place.shown}: is it running?"
    if database_file(place.uri) is None and ("401" in line or "403" in line):
        return f"{line[:300]}: check MLFLOW_TRACKING_USERNAME and _PASSWORD, or MLFLOW_TRACKING_TOKEN"
    return f"{place.shown}: {line[:300]}"


def _pages(search: Any, page_size: int, **arguments: Any) -> Iterator[Any]:
    """Yield the results of all pages of an MLflow search."""
    token: str | None = None
    while True:
        found = search(max_results=page_size, page_token=token, **arguments)
        yield from found
        token = found.token
        if not token:
            return


def quoted(text: str) -> str:
    """Return *text* quoted for MLflow's search.

    Raises:
        CommandFailure: if *text* has both kinds of quotes, since the syntax cannot escape them.
    """
    if '"' in text and "'" in text:
        raise Failure(f"MLflow cannot search for what holds both kinds of quotes: {text}")
    return f'"{text}"' if "'" in text else f"'{text}'"
