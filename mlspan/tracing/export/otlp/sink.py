"""The OTLP sink and its environment variables.

It imports little; the client is imported when there is something to send.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..sending.executor import BoundedExecutor
from ..trusted_hosts import is_trusted, trust_host
from ..types import EncodedSpan, Refusal
from .environment import _default_endpoint, read_variable

if TYPE_CHECKING:
    from .client import OtlpClient


class OtlpSink:
    """Sends spans by OTLP.

    Args:
        endpoint: as in ``OTEL_EXPORTER_OTLP_ENDPOINT``: for HTTP the receiver's base address, to which ``/v1/traces``
            is added unless it ends so. None: from the environment.
        protocol: ``http/protobuf`` or ``grpc``. None: from the environment, else ``http/protobuf``.
        names: a dialect whose names our spans get beside their own: ``openinference``, ``langfuse`` or ``none``. None:
            that of the receiver, if its address tells.
        of_spool: True if *endpoint* is what a spool says, and no setting of this process.

    Headers, certificates, compression and timeouts come from the ``OTEL_EXPORTER_OTLP_*`` variables. The stock
    exporters are not used, as they retry by themselves for ten seconds and more and do not distinguish an outage from a
    refusal.
    """

    exit_grace = 3.5
    local = False
    at_once = 1

    def __init__(
        self, endpoint: str | None, protocol: str | None, *, of_spool: bool = False, names: str | None = None
    ) -> None:
        self.executor = BoundedExecutor(1)
        self.protocol = protocol or read_variable("PROTOCOL") or "http/protobuf"
        self.endpoint = endpoint or _default_endpoint(self.protocol)
        if not of_spool:
            trust_host("otlp", self.endpoint)
        self._named, self.names = endpoint, names
        self._sender: OtlpClient | None = None

    def prepare(self) -> None:
        from . import client

        if self.protocol == "grpc":
            client.import_grpc()

    def send(self, spans: Sequence[EncodedSpan]) -> list[Refusal]:
        if self._sender is None:
            from .client import OtlpClient

            trusted = is_trusted("otlp", self.endpoint)
            self._sender = OtlpClient(
                self.endpoint, self._named, self.protocol, with_credentials=trusted, names=self.names
            )
        return self._sender.export_spans(spans)

    def close(self) -> None:
        self._sender = None
