"""The store on Databricks. MLflow's own client chooses the requests and the credentials.

It has not run against Databricks itself: the tests compare the requests with those of MLflow 3.17 (see docs/mlflow.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .bulk_insert import entity
from .database import Database, trace_info
from .traces import Trace


class Databricks(Database):
    """``databricks`` or ``databricks://PROFILE``. Spans are stored as files, or as table rows in Unity Catalog."""

    def takes_files(self, experiment_id: str) -> bool:  # noqa: ARG002  # pictures stay in the spans
        return False

    def _write(self, store: Any, experiment_id: str, traces: Sequence[Trace]) -> None:
        """Write traces one by one: spans to Unity Catalog if the experiment is linked to it, else to a file."""
        from mlflow.tracing.client import TracingClient

        client = TracingClient(self._uri)
        catalog = getattr(store.get_experiment(experiment_id), "trace_location", None)
        for trace in traces:
            if catalog is None:
                _as_file(client, experiment_id, trace)
            else:
                _in_catalog(client, catalog, trace)


def _as_file(client: Any, experiment_id: str, trace: Trace) -> None:
    from mlflow.entities import Span, TraceData

    stored = client.start_trace(trace_info(experiment_id, trace.info))
    spans = [Span(entity(span, stored.trace_id)) for span in trace.spans]
    client._upload_trace_data(stored, TraceData(spans=spans))


def _in_catalog(client: Any, catalog: Any, trace: Trace) -> None:
    from mlflow.entities import Span
    from mlflow.entities.trace_location import TraceLocation

    trace_id = f"trace:/{catalog.full_table_prefix}/{trace.info.trace_id.removeprefix('tr-')}"
    spans = [Span(entity(span, trace_id)) for span in trace.spans]
    client.log_spans(catalog.full_otel_spans_table_name, spans)
    info = trace_info("", trace.info)
    info.trace_id = trace_id
    info.trace_location = TraceLocation.from_databricks_uc_table_prefix(
        catalog.catalog_name, catalog.schema_name, catalog.table_prefix
    )
    client.start_trace(info)
