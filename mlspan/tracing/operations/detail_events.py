"""The conventions' event for a call to a model, on demand: request, answer and content, in OpenTelemetry's logs.

It goes through the LoggerProvider that the application has set; without one nothing is written.
"""

from __future__ import annotations

from typing import Any, Final

import orjson
from opentelemetry.context import Context

try:
    from opentelemetry import _logs as logs
except ImportError:
    logs = None  # type: ignore[assignment]

from ..._guard import guard, warn_once
from ..._private_names import report_missing_name
from . import semconv as sc
from .attribute_redaction import AttributeRedactor
from .content import ContentPolicy, to_attribute
from .late_queue import LateQueue
from .records import Chat

# Private names that some versions lack, each with what is then left out. OpenTelemetry's logs have no other name.
PRIVATE_NAMES: Final[dict[str, str]] = {
    "_logs": "the events that content_events asks for",
}

_MOST_WAITING: Final = 1_000  # events of calls that have ended in finalizers


class DetailEvents:
    """Writes the events, with content as *policy* allows it: redacted, cut, and structured rather than as JSON text.

    Other attributes are redacted as those of spans are before they are sent.
    """

    def __init__(self, policy: ContentPolicy, version: str) -> None:
        self._policy, self._others = policy, AttributeRedactor(policy.redact)
        self._logger = None if logs is None else logs.get_logger("mlspan", version)
        if logs is None:
            report_missing_name("OpenTelemetry", "_logs", PRIVATE_NAMES["_logs"])
        self._late = LateQueue(self._emit_event, most=_MOST_WAITING)

    def emit_details(self, record: Chat, context: Context, error_type: str | None, *, collecting: bool) -> None:
        """Write the event of a call that has ended.

        Args:
            record: the call's record.
            context: the context that has the call's span.
            error_type: the type of its error, if it failed.
            collecting: True in a finalizer, where the SDK's locks may not be taken; the event is then written later.
        """
        if self._logger is None:
            return
        self._late.add_item((record, context, error_type), collecting=collecting)

    def emit_late_events(self) -> None:
        """Write the events of calls that have ended in finalizers."""
        self._late.write_items()

    def _emit_event(self, ended: tuple[Chat, Context, str | None]) -> None:
        record, context, error_type = ended
        with guard("writing an event"):
            self._emit(self._build_attributes(record, error_type), context)

    def _emit(self, attributes: dict[str, Any], context: Context) -> None:
        if self._logger is None:
            return
        try:
            event = logs.LogRecord(context=context, event_name=sc.DETAILS_EVENT, attributes=attributes)
        except TypeError:
            warn_once("mlspan: this version of OpenTelemetry has no events: content_events writes none")
            return
        self._logger.emit(event)

    def _build_attributes(self, record: Chat, error_type: str | None) -> dict[str, object]:
        content, others = record.build_end_attributes()
        others = {name: to_attribute(value) for name, value in {**record.build_start_attributes(), **others}.items()}
        attributes = dict(self._others.redact_attributes(others) or {})
        if error_type := error_type or (record.failure and record.failure[0]) or None:
            attributes[sc.ERROR_TYPE] = error_type
        for name, value in content.items():
            text = self._policy.render_string(value)
            attributes[name] = text if isinstance(value, str) else orjson.loads(text)
        return attributes
