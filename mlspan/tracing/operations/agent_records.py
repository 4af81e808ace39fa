"""Records of what agents do besides their turns: they are created, they plan, and they remember."""

from __future__ import annotations

from typing import Any, ClassVar

from opentelemetry.trace import SpanKind

from . import semconv as sc
from .fields import span_attribute
from .records import NamedRecord


class AgentCreation(NamedRecord):
    """An agent that is created at a provider's service, which gives it an id and a version."""

    kind: ClassVar[SpanKind] = SpanKind.CLIENT
    operation: str = span_attribute(sc.OPERATION, "start", default=sc.CREATE_AGENT)
    name: str | None = span_attribute(sc.AGENT_NAME, "start")
    provider: str | None = span_attribute(sc.PROVIDER, "start")
    model: str | None = span_attribute(sc.REQUEST_MODEL, "start")
    id: str | None = span_attribute(sc.AGENT_ID)
    description: str | None = span_attribute(sc.AGENT_DESCRIPTION)
    version: str | None = span_attribute(sc.AGENT_VERSION)


class Plan(NamedRecord):
    """A plan that an agent makes before it acts. In no release of the conventions yet."""

    operation: str = span_attribute(sc.OPERATION, "start", default=sc.PLAN)
    name: str | None = span_attribute(sc.AGENT_NAME, "start")
    conversation: str | None = span_attribute(sc.CONVERSATION_ID)


class Memory(NamedRecord):
    """A request to a memory store: what was looked for or *given*, and the records. In no released convention."""

    kind: ClassVar[SpanKind] = SpanKind.CLIENT
    store: str | None = span_attribute(sc.MEMORY_STORE_ID, "start")
    provider: str | None = span_attribute(sc.PROVIDER, "start")
    server_address: str | None = span_attribute(sc.SERVER_ADDRESS, "start")
    server_port: int | None = span_attribute(sc.SERVER_PORT, "start")
    record_id: str | None = span_attribute(sc.MEMORY_RECORD_ID)
    record_count: int | None = span_attribute(sc.MEMORY_RECORD_COUNT)
    input: object = span_attribute(sc.MEMORY_QUERY, "content")
    given: object = span_attribute(sc.INPUT, "content")
    output: Any = span_attribute(sc.MEMORY_RECORDS, "content")

    @property
    def span_name(self) -> str:
        return self.operation or "memory"

    def complete_fields(self) -> None:
        super().complete_fields()
        if self.record_count is None and type(self.output) is list:
            self.record_count = len(self.output)
