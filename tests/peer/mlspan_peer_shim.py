"""A plugin of pytest for MLflow's own tests: a call of MLflow's ``autolog`` is a call of mlspan's.

``MLSPAN_PEER_SHIM=off`` leaves MLflow as it is. ``MLSPAN_PEER_OUTCOMES`` names a file that gets a line for each test:
its outcome and its id.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import os
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

FLAVORS = {  # MLflow's module that logs a library, and ours that records it
    "sklearn": "sklearn",
    "xgboost": "xgboost",
    "lightgbm": "lightgbm",
    "statsmodels": "statsmodels",
    "pyspark.ml": "spark",
    "keras": "keras",
    "tensorflow": "tensorflow",
    "pytorch": "lightning",
    "paddle": "paddle",
}
_ours = threading.local()


def replace_autolog(module: Any, call_ours: Callable[..., None]) -> None:
    """Let ``module.autolog`` call ours, whose own call of MLflow's goes through."""
    autolog = module.autolog

    @functools.wraps(autolog)
    def shim(*args: object, **kwargs: object) -> None:
        if getattr(_ours, "on", False):
            autolog(*args, **kwargs)
            return
        bound = inspect.signature(autolog).bind(*args, **kwargs)
        given = dict(bound.arguments)
        given |= given.pop("kwargs", {})
        _ours.on = True
        try:
            call_ours(**given)
        finally:
            _ours.on = False

    module.autolog = shim


def replace_all() -> None:
    """Replace the autolog of each flavor whose library is here, and MLflow's general one."""
    import mlflow

    import mlspan

    for flavor, name in FLAVORS.items():
        try:
            module = importlib.import_module(f"mlflow.{flavor}")
        except ImportError:
            continue
        replace_autolog(module, importlib.import_module(f"mlspan.integrations.{name}").autolog)
    replace_autolog(mlflow, mlspan.autolog)


def infer_once_a_flavor() -> None:
    """Start MLflow's process that finds a model's requirements for the first model of each flavor alone: it is slow."""
    utilities = importlib.import_module("mlflow.utils.requirements_utils")
    capture = utilities._capture_imported_modules
    known: dict[str, list[str]] = {}

    def capture_once(model_uri: str, flavor: str, *args: Any, **kwargs: Any) -> list[str]:
        if flavor not in known:
            known[flavor] = capture(model_uri, flavor, *args, **kwargs)
        return known[flavor]

    utilities._capture_imported_modules = capture_once


def migrate_once() -> None:
    """Give each SQLite database after the first one a copy of its tables: MLflow's migrations take seconds."""
    utilities = importlib.import_module("mlflow.store.db.utils")
    initialize = utilities._initialize_tables
    migrated = sqlite3.connect(":memory:", check_same_thread=False)
    lock = threading.Lock()

    def initialize_or_copy(engine: Any) -> None:
        if engine.dialect.name != "sqlite" or not utilities._is_empty_database(engine):
            initialize(engine)
            return
        with lock:
            if not migrated.execute("SELECT name FROM sqlite_master").fetchall():
                initialize(engine)
                copy_database(engine, lambda database: database.backup(migrated))
            else:
                copy_database(engine, migrated.backup)

    utilities._initialize_tables = initialize_or_copy


def copy_database(engine: Any, copy: Callable[[sqlite3.Connection], None]) -> None:
    connection = engine.raw_connection()
    try:
        copy(connection.driver_connection)
    finally:
        connection.close()


infer_once_a_flavor()
migrate_once()
if os.environ.get("MLSPAN_PEER_SHIM") != "off":
    replace_all()


def pytest_collection() -> None:
    """Let no test ask PyPI which versions there are: what is installed is what is tested."""
    helpers = importlib.import_module("tests.helper_functions")
    helpers._is_available_on_pypi = lambda *_args, **_kwargs: False


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Write one line for each part of a test that tells how it went."""
    if report.when != "call" and report.outcome == "passed":
        return
    with Path(os.environ["MLSPAN_PEER_OUTCOMES"]).open("a", encoding="utf-8") as file:
        file.write(f"{report.outcome} {report.nodeid}\n")
