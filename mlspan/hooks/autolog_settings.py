"""The arguments of ``autolog``: the one place that says which there are, and their defaults.

``Hook.autolog``, those of trainings and of workers, ``mlspan.autolog``, what is sent with a task, and the tables in the
docs follow it; ``tests/test_autolog_arguments.py`` fails where one does not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from types import MappingProxyType
from typing import Any, Final


@dataclass(frozen=True)
class AutologSettings:
    """The arguments of the last call of ``autolog``.

    Attributes:
        log_traces: record spans.
        exclusive: record nothing while the caller has an MLflow run active.
        silent: write no log line about the integration.
        any_version: trace versions of the library that the tests have not seen, too; as an argument it is the opposite,
            ``disable_for_unsupported_versions``.
        options: options that only this integration has.
    """

    log_traces: bool = True
    exclusive: bool = False
    silent: bool = False
    any_version: bool = False
    options: Mapping[str, object] = field(default_factory=dict)
    named: frozenset[str] | None = field(default=None, compare=False)  # the arguments that were given; None: all


FLAG_NAMES: Final = tuple(one.name for one in fields(AutologSettings) if one.name not in {"options", "named"})
TRAINING_OPTIONS: Final[Mapping[str, Any]] = MappingProxyType(  # what every integration that logs trainings takes, too
    {
        "log_input_examples": False,
        "log_model_signatures": True,
        "log_models": True,
        "log_datasets": True,
        "extra_tags": None,
        "registered_model_name": None,
    }
)
