"""The OTLP client: it sends encoded spans from the spool to a receiver by HTTP or gRPC."""

from __future__ import annotations

import gzip
import os
import zlib
from collections.abc import Callable, Sequence
from typing import Any, Final

import requests
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from ...._guard import tell_once
from ..types import Away, Packed, Refused
from .codec import Unfit, cut, quieten, request
from .environment import SIGNAL, variable

_SMALLEST: Final = 4096  # bytes: the smallest size to which a span is cut for a receiver that finds it too large


class _Rejected(Exception):  # noqa: N818  # an answer, not an error in the program
    """The receiver refuses a request.

    *too_large*: it might take a smaller one; *keep*: it might accept other credentials.
    """

    def __init__(self, reason: str, *, too_large: bool = False, keep: bool = False) -> None:
        super().__init__(reason)
        self.reason, self.too_large, self.keep = reason, too_large, keep


class Sender:
    """Sends to *endpoint*. *named* is the endpoint as the user has set it, which the stock gRPC exporter interprets."""

    def __init__(self, endpoint: str, named: str | None, protocol: str) -> None:
        self._endpoint = endpoint
        self._post = _grpc(named) if protocol == "grpc" else _http(endpoint)

    def send(self, parcels: Sequence[Packed]) -> list[Refused]:
        """Send all spans and return the refused ones. Raise BackendUnavailable.

        A refused request is sent in halves, so that one span causes no loss of others.
        """
        try:
            self._export(request(parcels))
        except _Rejected as rejected:
            if rejected.keep:
                return [Refused(packed, rejected.reason, keep=True) for packed in parcels]
            if len(parcels) == 1:
                return self._last_try(parcels[0], rejected)
            half = len(parcels) // 2
            return self.send(parcels[:half]) + self.send(parcels[half:])
        return []

    def _last_try(self, packed: Packed, rejected: _Rejected) -> list[Refused]:
        """Send one span that is too large, cut to half its size and again to half."""
        size = len(packed.span) // 2
        while rejected.too_large and size >= _SMALLEST:
            try:
                self._export(request([cut(packed, size)]))
            except _Rejected as again:
                size, rejected = size // 2, again
            except Unfit:
                break
            else:
                return []
        return [Refused(packed, rejected.reason)]

    def _export(self, data: bytes) -> None:
        """Send one request. If the receiver reports rejected spans, log it once."""
        partial_success = ExportTraceServiceResponse.FromString(self._post(data)).partial_success
        if partial_success.rejected_spans:  # the receiver does not say which ones
            tell_once(
                "mlspan: the OTLP receiver %s has rejected spans: %s",
                self._endpoint,
                partial_success.error_message[:200],
            )


def _http(endpoint: str) -> Callable[[bytes], bytes]:
    """Return a function that posts a request body and returns the receiver's answer."""
    from opentelemetry.util.re import parse_env_headers

    exact = endpoint == os.environ.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
    url = endpoint if exact or endpoint.rstrip("/").endswith(SIGNAL) else endpoint.rstrip("/") + SIGNAL
    session = requests.Session()
    session.headers.update(parse_env_headers(variable("HEADERS") or "", liberal=True))
    session.headers["Content-Type"] = "application/x-protobuf"
    session.verify = variable("CERTIFICATE") or True
    certificate, key = variable("CLIENT_CERTIFICATE"), variable("CLIENT_KEY")
    session.cert = (certificate, key) if certificate and key else certificate
    seconds = float(variable("TIMEOUT") or 10)
    patience = (min(2.0, seconds), seconds)
    encoding = (variable("COMPRESSION") or "").lower()
    squeeze: Any = {"gzip": gzip.compress, "deflate": zlib.compress}.get(encoding)
    session.headers.update({"Content-Encoding": encoding} if squeeze else {})

    def post_http(data: bytes) -> bytes:
        body = squeeze(data) if squeeze else data
        try:
            answer = session.post(url, data=body, timeout=patience, allow_redirects=False)
        except requests.RequestException as error:
            raise Away(f"the OTLP receiver ({url}) takes no spans ({type(error).__name__})") from error
        _judge(url, answer)
        return answer.content if "protobuf" in answer.headers.get("Content-Type", "") else b""

    return post_http


def _judge(url: str, answer: requests.Response) -> None:
    """Raise BackendUnavailable or _ReceiverRejected, as the status demands."""
    status = answer.status_code
    if status < 300:
        return
    message = f"the OTLP receiver ({url}) answers {status}"
    if status in {408, 429} or status >= 500:
        raise Away(message, _seconds(answer.headers.get("Retry-After")))
    if status in {401, 403, 404, 405} or status < 400:
        raise _Rejected(f"{message}: check its address, OTEL_EXPORTER_OTLP_HEADERS and the permissions", keep=True)
    raise _Rejected(f"{message}: {answer.text[:200]}", too_large=status == 413)


def _seconds(retry_after: str | None) -> float | None:
    """Return the seconds of a ``Retry-After`` header; None without one or for a date."""
    try:
        return None if retry_after is None else float(retry_after)
    except ValueError:  # a date: our own backoff is used
        return None


def import_grpc() -> None:
    from opentelemetry.exporter.otlp.proto.grpc import trace_exporter  # noqa: F401


def _grpc(endpoint: str | None) -> Callable[[bytes], bytes]:
    """Return a function that sends a request through the channel and headers of the stock exporter.

    The exporter reads them from the environment. Retries are our own.
    """
    import grpc
    from opentelemetry.exporter.otlp.proto.grpc import exporter, trace_exporter

    quieten(exporter.__name__)
    code = grpc.StatusCode
    keep = {code.UNAUTHENTICATED, code.PERMISSION_DENIED, code.UNIMPLEMENTED, code.NOT_FOUND}
    refuse = {code.INVALID_ARGUMENT, code.OUT_OF_RANGE, code.FAILED_PRECONDITION, code.ALREADY_EXISTS, code.INTERNAL}
    opened: list[Any] = []

    def post_grpc(data: bytes) -> bytes:
        if not opened:
            opened.append(trace_exporter.OTLPSpanExporter(endpoint=endpoint))
        stock = opened[0]
        where = f"the OTLP receiver ({stock._endpoint})"
        try:
            sent = ExportTraceServiceRequest.FromString(data)
            answer = stock._client.Export(request=sent, metadata=stock._headers, timeout=min(stock._timeout, 10))
        except grpc.RpcError as error:
            status, details = error.code(), (error.details() or "")[:200]
            if status is code.RESOURCE_EXHAUSTED and "larger than max" in details:
                raise _Rejected(f"{where}: {details}", too_large=True) from error
            if status in keep:
                raise _Rejected(f"{where} answers {status.name}: {details}", keep=True) from error
            if status in refuse:
                raise _Rejected(f"{where} answers {status.name}: {details}") from error
            opened.pop().shutdown()  # a lost channel does not always reconnect
            raise Away(f"{where} takes no spans ({status.name})") from error
        return bytes(answer.SerializeToString())

    return post_grpc
