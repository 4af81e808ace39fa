"""The report on integrations for ``tracing.doctor()``. It is made in ``hooks``, which ``tracing`` may not import."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple


class IntegrationReport(NamedTuple):
    """Lines about the integrations that are on, the other tracers that are on, and what is wrong with the first."""

    integrations: tuple[str, ...] = ()
    other_tracers: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()


_readers: Final[list[Callable[[], IntegrationReport]]] = []


def set_report_reader(read: Callable[[], IntegrationReport]) -> None:
    """Have *read* make the report from now on."""
    _readers[:] = [read]


def read_integration_report() -> IntegrationReport:
    """Return the report; an empty one in a process that has imported no integration."""
    return _readers[0]() if _readers else IntegrationReport()
