"""Reader of traces by the REST API of a tracking server, which needs no MLflow here."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from types import SimpleNamespace
from typing import Any, Final

from ..tracing.export.mlflow.names import RESUMES_KEY, is_experiment_id
from . import model
from .common import CommandFailure, print_detail
from .mlflow_reader import FULL_TRACES_PER_PAGE, NEWEST_FIRST, TRACES_PER_PAGE, make_search_terms, quote_search_text
from .places import StoreLocation
from .reading import EVERYTHING, MAX_TRACES, TraceFilter, TraceReader
from .rest_client import RestClient
from .rest_traces import make_info, make_spans

_EXPERIMENTS: Final = "api/2.0/mlflow/experiments"
_RUNS: Final = "api/2.0/mlflow/runs"
_TRACES: Final = "api/3.0/mlflow/traces"
_SPANS: Final = "ajax-api/2.0/mlflow/get-trace-artifact"  # from the database or from files, wherever they are
_FETCHES: Final = 4  # requests for spans at a time
_LARGEST_PAGE: Final = 64 * 1024 * 1024  # bytes
_LARGEST_TRACE: Final = 256 * 1024 * 1024


class RestReader(TraceReader):
    """Reader by the REST API of a tracking server of MLflow 3.

    Raises:
        CommandFailure: if the server does not answer, or not as MLflow does.
    """

    def __init__(self, place: StoreLocation) -> None:
        self.place, self._client = place, RestClient(place)
        self.experiments = self.list_experiments()

    def list_experiments(self) -> dict[str, str]:
        if (wanted := self.place.experiment) is None:
            path = f"{_EXPERIMENTS}/search"
            found = list(self._iterate_pages(path, "experiments", {"max_results": TRACES_PER_PAGE}))
            with self._client.expect_form(path):
                return dict(map(_name_experiment, found))
        has_id = is_experiment_id(wanted)
        query = {"experiment_id": wanted} if has_id else {"experiment_name": wanted}
        path = f"{_EXPERIMENTS}/{'get' if has_id else 'get-by-name'}"
        answer = self._client.find_object(path, query)
        if answer is None:
            known = islice(self._iterate_pages(f"{_EXPERIMENTS}/search", "experiments", {"max_results": 8}), 8)
            raise self.make_unknown_experiment([str(one.get("name")) for one in known])
        with self._client.expect_form(path):
            return dict([_name_experiment(answer["experiment"])])

    def iterate_traces(
        self, where: TraceFilter = EVERYTHING, *, limit: int = MAX_TRACES, spans: bool = False
    ) -> Iterator[model.StoredTrace]:
        if not self.experiments:
            return
        size = min(limit, FULL_TRACES_PER_PAGE if spans else TRACES_PER_PAGE)
        yield from self.take_matching(self._iterate_read_pages(where, size, spans=spans), where, limit)

    def _iterate_read_pages(self, where: TraceFilter, size: int, *, spans: bool) -> Iterator[list[model.StoredTrace]]:
        """Yield the traces of each page that no page before it had."""
        seen: set[str] = set()  # what lands meanwhile moves the pages, so that the next one repeats traces
        for page in self._search_pages(make_search_terms(where), size):
            fresh = {one.trace_id: one for one in page if one.trace_id not in seen}
            seen.update(fresh)
            yield self._read_traces(list(fresh.values()), spans=spans)

    def fetch_trace(self, trace_id: str) -> model.StoredTrace:
        path = f"{_TRACES}/{trace_id}"
        if (answer := self._client.find_object(path, {})) is None:
            raise CommandFailure(f"there is no trace {trace_id} in {self.place.display_uri}")
        with self._client.expect_form(path):
            info = make_info(answer["trace"]["trace_info"])
        return self.settle_states([self._complete_trace(info)])[0]

    def find_resumptions(self, trace_ids: Sequence[str]) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for trace_id in trace_ids:
            term = f"tags.`{RESUMES_KEY}` = {quote_search_text(trace_id)}"
            for page in self._search_pages([term], TRACES_PER_PAGE):
                found.setdefault(trace_id, []).extend(one.trace_id for one in page)
        return {trace_id: resuming for trace_id, resuming in found.items() if resuming}

    def search_run_id(self, name: str) -> str | None:
        by_name = f"attributes.run_name = {quote_search_text(name)}"
        asked = {"experiment_ids": list(self.experiments), "filter": by_name, "max_results": 1}
        found = self._client.post_json(f"{_RUNS}/search", asked).get("runs")
        with self._client.expect_form(f"{_RUNS}/search"):
            return str(found[0]["info"]["run_id"]) if found else None

    def find_run_name(self, run_id: str) -> str:
        path = f"{_RUNS}/get"
        try:
            answer = self._client.find_object(path, {"run_id": run_id})
            with self._client.expect_form(path):
                return str(answer["run"]["info"]["run_name"]) if answer is not None else run_id
        except CommandFailure:
            return run_id

    def _search_pages(self, terms: Sequence[str], size: int) -> Iterator[list[SimpleNamespace]]:
        """Yield pages of the traces that match all *terms*, the newest first, without their spans."""
        places = [
            {"type": "MLFLOW_EXPERIMENT", "mlflow_experiment": {"experiment_id": one}} for one in self.experiments
        ]
        asked: dict[str, object] = {"locations": places, "max_results": size, "order_by": NEWEST_FIRST}
        if terms:
            asked["filter"] = " AND ".join(terms)
        page: list[SimpleNamespace] = []
        for one in self._iterate_pages(f"{_TRACES}/search", "traces", asked):
            with self._client.expect_form(f"{_TRACES}/search"):
                page.append(make_info(one))
            if len(page) == size:
                yield page
                page = []
        yield page

    def _iterate_pages(self, path: str, name: str, asked: dict[str, object]) -> Iterator[dict[str, Any]]:
        """Yield the objects of this *name* of all pages. A server that gives the same page again ends it."""
        token, known = "", {""}
        while True:
            answer = self._client.post_json(path, {**asked, "page_token": token} if token else asked, _LARGEST_PAGE)
            with self._client.expect_form(path):
                found = [dict(one) for one in answer.get(name, [])]
            yield from found
            token = str(answer.get("next_page_token") or "")
            if token in known:
                return
            known.add(token)

    def _read_traces(self, infos: Sequence[SimpleNamespace], *, spans: bool) -> list[model.StoredTrace]:
        if not spans:
            return [_build_trace(info, []) for info in infos]
        with ThreadPoolExecutor(_FETCHES, "mlspan-reading") as pool:
            return list(pool.map(self._complete_trace, infos))

    def _complete_trace(self, info: SimpleNamespace) -> model.StoredTrace:
        """Return a trace with its spans; without them if the server has them no longer."""
        answer = self._client.find_object(_SPANS, {"request_id": info.trace_id}, _LARGEST_TRACE)
        if answer is None:
            print_detail(f"the server has no spans of {info.trace_id}")
            return _build_trace(info, [])
        with self._client.expect_form(_SPANS):
            return _build_trace(info, make_spans(answer["spans"]))


def _name_experiment(one: dict[str, Any]) -> tuple[str, str]:
    return str(one["experiment_id"]), str(one["name"])


def _build_trace(info: SimpleNamespace, spans: list[SimpleNamespace]) -> model.StoredTrace:
    return model.read_trace(SimpleNamespace(info=info, data=SimpleNamespace(spans=spans)))
