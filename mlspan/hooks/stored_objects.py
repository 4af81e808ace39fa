"""Objects that a provider stores, such as files and batches: what a request about one says of it."""

from __future__ import annotations

from typing import Final

from .._shape import get_field, get_nested, is_a
from ..tracing.operations.raw_response import BodySize
from ..tracing.operations.records import ProviderRequest
from .openai_format import dump_model

_COUNT_FIELDS: Final = ("file_counts", "request_counts", "result_counts")


def read_stored_object(record: ProviderRequest, got: object, *, status: str = "status", size: str = "bytes") -> None:
    """Read id, status, size and counts of an object, a list of objects, or a downloaded file into *record*.

    Args:
        record: the record of the request.
        got: what the client returns.
        status: the provider's name for the status.
        size: the provider's name for the number of bytes.
    """
    extra = record.extra
    if isinstance(got, BodySize):
        extra["mlspan.response.bytes"] = int(got)
        return
    for attribute, key in (("mlspan.response.id", "id"), ("mlspan.response.status", status)):
        if value := get_nested(got, key, str):
            extra[attribute] = value
    if is_a(told := get_field(got, size), int):
        extra["mlspan.response.bytes"] = told
    if isinstance(data := get_field(got, "data"), list):
        extra["mlspan.response.count"] = len(data)
    for key in _COUNT_FIELDS:
        counts = dump_model(get_field(got, key))
        for what, number in counts.items() if isinstance(counts, dict) else ():
            if is_a(number, int):
                extra[f"mlspan.{key}.{what}"] = number
    if isinstance(content := get_field(got, "content"), bytes):
        extra["mlspan.response.bytes"] = len(content)
