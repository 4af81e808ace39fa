"""The destination of a trace in a form that another process can use, without credentials.

``mlflow_state/runs.py`` lists the steps that decide which run a trace belongs to; :func:`fill_destination` is one.
"""

from __future__ import annotations

import os
import re
from dataclasses import fields, replace
from pathlib import Path
from typing import Final

import orjson

from ..operations.call_context import TraceOrigin
from .shown_addresses import drop_secret_parameters
from .trusted_hosts import trust_host

_USER_INFO: Final = re.compile(r"^([a-zA-Z][\w+.-]*://)[^/?#]*@")
_SQLITE_PATH: Final = re.compile(r"^(sqlite(?:\+\w+)?:///)([^/:?][^?]*)")
_uris_with_credentials: dict[str, str] = {}  # URIs with credentials, by the same URI without them


def strip_credentials(uri: str) -> str:
    """Return *uri* without credentials. :func:`restore_credentials` adds those that this process has seen again.

    Removed are the user, the password, and query parameters with names such as ``token``.
    """
    remaining = drop_secret_parameters(_USER_INFO.sub(r"\1", uri))
    if remaining != uri:
        _uris_with_credentials[remaining] = uri
    return remaining


def restore_credentials(uri: str) -> str:
    """Return *uri* with the credentials that this process knows, from its settings or ``MLFLOW_TRACKING_URI``."""
    if uri not in _uris_with_credentials and (named := os.environ.get("MLFLOW_TRACKING_URI")):
        strip_credentials(make_store_path_absolute(named))
    return _uris_with_credentials.get(uri, uri)


def make_store_path_absolute(uri: str) -> str:
    """Return *uri* with the path of a SQLite file or of a folder made absolute for other working directories.

    An empty *uri*, of a process that sends nothing to MLflow, stays empty.
    """
    if not uri:
        return uri
    if ":" not in uri and uri != "databricks":
        return Path(uri).absolute().as_uri()
    if (relative := _SQLITE_PATH.match(uri)) is None or relative[2] == ":memory:":
        return uri
    return f"{relative[1]}{Path(relative[2]).absolute()}{uri[relative.end() :]}"


def fill_destination(origin: TraceOrigin, uri: str, experiment: str | None, run: str | None) -> TraceOrigin:
    """Return *origin* with its gaps filled from the settings of this process, as another process has other settings."""
    named = origin.experiment_id or origin.experiment_name or experiment
    trust_host("mlflow", origin.tracking_uri)
    uri = make_store_path_absolute(origin.tracking_uri or uri)
    return replace(
        origin,
        tracking_uri=uri,
        experiment_id=origin.experiment_id or ("0" if uri and not named else None),
        experiment_name=origin.experiment_name or (None if origin.experiment_id else experiment),
        run_id=origin.run_id or run or os.environ.get("MLFLOW_RUN_ID"),
    )


_ORIGIN_FIELDS: Final = tuple(field.name for field in fields(TraceOrigin))


def origin_to_json(origin: TraceOrigin) -> str:
    """Return *origin* as JSON, without credentials."""
    fields_set = {name: value for name in _ORIGIN_FIELDS if (value := getattr(origin, name))}
    if origin.tracking_uri:
        fields_set["tracking_uri"] = strip_credentials(origin.tracking_uri)
    return orjson.dumps(fields_set, default=str).decode()


def origin_from_json(text: str) -> TraceOrigin:
    """Return the origin that *text* describes, with the credentials that this process knows."""
    values = orjson.loads(text)
    if "tracking_uri" in values:
        values["tracking_uri"] = restore_credentials(values["tracking_uri"])
    return TraceOrigin(**values)
