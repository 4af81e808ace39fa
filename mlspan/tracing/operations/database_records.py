"""Records of vector databases: a search is a retrieval, and what is written or deleted is counted."""

from __future__ import annotations

from typing import ClassVar

from opentelemetry.trace import SpanKind

from . import semconv as sc
from .fields import span_attribute
from .records import Record, Retrieval


class DatabaseSearch(Retrieval):
    """A search in a database. Of vectors only their number and dimension are recorded."""

    system: str | None = span_attribute(sc.DB_SYSTEM, "start")
    action: str | None = span_attribute(sc.DB_OPERATION, "start")
    collection: str | None = span_attribute(sc.DB_COLLECTION, "start")
    namespace: str | None = span_attribute(sc.DB_NAMESPACE, "start")
    server_address: str | None = span_attribute(sc.SERVER_ADDRESS, "start")
    server_port: int | None = span_attribute(sc.SERVER_PORT, "start")
    vector_count: int | None = span_attribute(sc.VECTOR_COUNT)
    dimension: int | None = span_attribute(sc.VECTOR_DIMENSION)
    returned: int | None = span_attribute(sc.DB_RETURNED_ROWS)
    filter: object = span_attribute(sc.RETRIEVAL_FILTER, "content")


class DatabaseWrite(Record):
    """Records that are written to a database, or deleted from it: how many, and not what they hold."""

    kind: ClassVar[SpanKind] = SpanKind.CLIENT
    can_link: bool = False
    type: str = span_attribute(sc.KIND, "start", default="database")
    action: str = span_attribute(sc.DB_OPERATION, "start")
    system: str | None = span_attribute(sc.DB_SYSTEM, "start")
    collection: str | None = span_attribute(sc.DB_COLLECTION, "start")
    namespace: str | None = span_attribute(sc.DB_NAMESPACE, "start")
    server_address: str | None = span_attribute(sc.SERVER_ADDRESS, "start")
    server_port: int | None = span_attribute(sc.SERVER_PORT, "start")
    dimension: int | None = span_attribute(sc.VECTOR_DIMENSION)
    count: int | None = span_attribute(sc.RECORD_COUNT)
    filter: object = span_attribute(sc.INPUT, "content")

    @property
    def span_name(self) -> str:
        return f"{self.action} {self.collection}" if self.collection else self.action
