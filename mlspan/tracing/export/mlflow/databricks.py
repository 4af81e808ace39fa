"""The store on Databricks. MLflow's own client chooses the requests and the credentials.

It has not run against Databricks itself: the tests compare the requests with those of MLflow 3.17 (see docs/mlflow.md).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from . import private_names
from .database import DatabaseStore, make_trace_info
from .span_rows import prepare_for_mlflow_span
from .traces import TranslatedTrace


class DatabricksStore(DatabaseStore):
    """``databricks`` or ``databricks://PROFILE``. Spans are stored as files, or as table rows in Unity Catalog."""

    def accepts_attachments(self, experiment_id: str) -> bool:  # noqa: ARG002  # pictures stay in the spans
        return False

    def attach_spans(self, experiment_id: str, trace_id: str, parents: Mapping[int, int]) -> None:
        """Leave such spans roots: a stored file cannot be changed, nor a row of Unity Catalog."""

    def _write_to_store(self, store: Any, experiment_id: str, traces: Sequence[TranslatedTrace]) -> None:
        """Write traces one by one: spans to Unity Catalog if the experiment is linked to it, else to a file."""
        from mlflow.tracing.client import TracingClient

        client = TracingClient(self._uri)
        catalog = getattr(store.get_experiment(experiment_id), "trace_location", None)
        for trace in traces:
            if catalog is None:
                _write_as_file(client, experiment_id, trace)
            else:
                _write_to_catalog(client, catalog, trace)


def _write_as_file(client: Any, experiment_id: str, trace: TranslatedTrace) -> None:
    from mlflow.entities import Span, TraceData

    stored = client.start_trace(make_trace_info(experiment_id, trace.summary))
    spans = [Span(prepare_for_mlflow_span(span, stored.trace_id)) for span in trace.spans]
    private_names.upload_spans(client, stored, TraceData(spans=spans))


def _write_to_catalog(client: Any, catalog: Any, trace: TranslatedTrace) -> None:
    from mlflow.entities import Span
    from mlflow.entities.trace_location import TraceLocation

    trace_id = f"trace:/{catalog.full_table_prefix}/{trace.summary.trace_id.removeprefix('tr-')}"
    spans = [Span(prepare_for_mlflow_span(span, trace_id)) for span in trace.spans]
    client.log_spans(catalog.full_otel_spans_table_name, spans)
    info = make_trace_info("", trace.summary)
    info.trace_id = trace_id
    info.trace_location = TraceLocation.from_databricks_uc_table_prefix(
        catalog.catalog_name, catalog.schema_name, catalog.table_prefix
    )
    client.start_trace(info)
