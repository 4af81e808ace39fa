"""One call of Bedrock's API: its parameters, and what every answer and every error says of the request."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Final, NamedTuple

from ..._shape import get_count, get_field, get_integer, get_nested, get_text
from ...hooks.call import Call
from ...hooks.requests import read_host_and_port
from ...tracing.operations import semconv as sc
from ...tracing.operations.records import Inference, Record

INTERVENED: Final = frozenset({"INTERVENED", "GUARDRAIL_INTERVENED"})


class BedrockRequest(NamedTuple):
    """One call, as the ``begin`` of an operation reads it.

    Attributes:
        client: the client that makes the call.
        params: the parameters of the call.
        capture_content: whether messages and other content are recorded.
    """

    client: Any
    params: dict[str, Any]
    capture_content: bool

    @classmethod
    def from_call(cls, call: Call) -> BedrockRequest:
        """Return the request that a call of ``_make_api_call`` makes."""
        params = call.args[2] if len(call.args) > 2 else call.kwargs.get("api_params")
        return cls(call.args[0], params if isinstance(params, dict) else {}, call.capture_content)

    def read_server_fields(self) -> dict[str, Any]:
        """Return the record's fields ``provider``, ``server_address`` and ``server_port``."""
        return _find_server_fields(getattr(self.client.meta, "endpoint_url", None))

    def set_texts(self, record: Record, **paths: str) -> None:
        """Copy texts of the parameters, each at its path, into attributes of *record*, by :data:`_ATTRIBUTES`."""
        for name, path in paths.items():
            if path.partition(".")[0] in self.params and (text := get_nested(self.params, path, str)):
                record.extra[_ATTRIBUTES[name]] = text


@lru_cache(maxsize=64)
def _find_server_fields(url: str | None) -> dict[str, Any]:
    host, port = read_host_and_port(url)
    return {"provider": "aws.bedrock", "server_address": host, "server_port": port}


_ATTRIBUTES: Final = {
    "guardrail": sc.AWS_GUARDRAIL_ID,
    "knowledge_base": sc.AWS_KNOWLEDGE_BASE_ID,
    "agent_version": sc.AGENT_VERSION,
}


def read_metadata(record: Record, metadata: object) -> None:
    """Read ``ResponseMetadata``: the id of the request, and how often botocore has sent it again."""
    if not isinstance(metadata, dict):
        return
    if request_id := get_text(metadata, "RequestId"):
        record.extra[sc.AWS_REQUEST_ID] = request_id
    if retries := get_integer(metadata, "RetryAttempts"):
        record.extra[sc.REQUEST_RETRIES] = retries


def read_service_error(record: Record, error: Exception) -> None:
    """Read an error of the service: its code is the type, as botocore has one class for all that it does not know."""
    answer = getattr(error, "response", None)
    if code := get_nested(answer, "Error.Code", str):
        record.extra[sc.ERROR_TYPE] = code
    read_metadata(record, get_field(answer, "ResponseMetadata"))


def note_guardrail(record: Inference, action: object) -> None:
    """Note whether a guardrail has replaced the answer."""
    if action in INTERVENED:
        record.draft.get_choice().finish_reason = "content_filter"


def set_counts(record: Inference, counts: dict[str, Any], names: tuple[str, str, str, str]) -> None:
    """Read token counts under *names*: input, output, and read from and written to the cache.

    Bedrock leaves the last two out of the input. A count that is missing changes nothing, nor do any where one
    is impossible.
    """
    given, output, read, written = found = [get_count(counts, name) for name in names]
    if any(count is None and counts.get(name) is not None for count, name in zip(found, names, strict=True)):
        return
    if given is not None:
        record.input_tokens = given + (read or 0) + (written or 0)
    if output is not None:
        record.output_tokens = output
    if read:
        record.cache_read_tokens = read
    if written:
        record.cache_write_tokens = written
