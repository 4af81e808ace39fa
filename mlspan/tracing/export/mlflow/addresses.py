"""Addresses: which store a tracking URI means, how one is shown, and the pages of a trace, a run and a model."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

_VIEWER_PORT: Final = 5000  # the default port of ``mlflow ui``


def is_server_uri(uri: str) -> bool:
    return uri.startswith(("http://", "https://"))


def default_tracking_uri(folder: Path) -> str:
    """Return the tracking URI that MLflow would use: a database, unless the folder holds runs of an older MLflow."""
    if uri := os.environ.get("MLFLOW_TRACKING_URI"):
        return uri
    if any(meta.parent.name.isdigit() for meta in (folder / "mlruns").glob("*/meta.yaml")):
        return (folder / "mlruns").as_uri()
    return f"sqlite:///{folder / 'mlflow.db'}"


def _experiment_url(tracking_uri: str, experiment_id: str) -> str:
    base = tracking_uri.rstrip("/") if is_server_uri(tracking_uri) else f"http://127.0.0.1:{_VIEWER_PORT}"
    return f"{base}/#/experiments/{experiment_id}"


def trace_url(tracking_uri: str, experiment_id: str, trace_id: str) -> str:
    """Return the address of a trace in MLflow's viewer; for a database, in the one that ``mlflow ui`` would start."""
    return (
        f"{_experiment_url(tracking_uri, experiment_id)}/traces?selectedEvaluationId=tr-{trace_id.removeprefix('tr-')}"
    )


def run_url(tracking_uri: str, experiment_id: str, run_id: str) -> str:
    """Return the address of a run's page."""
    return f"{_experiment_url(tracking_uri, experiment_id)}/runs/{run_id}"


def model_url(tracking_uri: str, experiment_id: str, model_id: str) -> str:
    """Return the address of a logged model's page."""
    return f"{_experiment_url(tracking_uri, experiment_id)}/models/{model_id}"
