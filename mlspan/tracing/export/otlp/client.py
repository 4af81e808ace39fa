"""The OTLP client: it sends encoded spans from the spool to a receiver by HTTP or gRPC."""

from __future__ import annotations

import gzip
import os
import zlib
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

import requests
from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from ...._guard import warn_once
from ...otel.compat import find_grpc_call
from ..answers import is_foreign_answer, parse_object, parse_retry_after, quote_answer
from ..types import BackendUnavailable, EncodedSpan, Refusal
from .codec import (
    UnencodableSpan,
    build_export_request,
    cut_span,
    decode_span,
    split_export_request,
)
from .environment import TRACES_PATH, read_variable
from .log_filter import silence_own_threads
from .receiver_names import add_receiver_names

_FOREIGN_MESSAGE: Final = (
    "{where} answers success, but not as an OTLP receiver does ({kind}): another server is behind this address, "
    "or a sign-in page"
)
_NO_CREDENTIALS: Final = (("x-mlspan-credentials", "none"),)  # the stock exporter reads the environment if given none
_MIN_CUT_BYTES: Final = 4096  # bytes: the smallest size to which a span is cut for a receiver that finds it too large


class _ReceiverRejected(Exception):  # noqa: N818  # an answer, not an error in the program
    """The receiver refuses a request.

    *too_large*: it might take a smaller one; *keep*: it might accept other credentials.
    """

    def __init__(self, reason: str, *, too_large: bool = False, keep: bool = False) -> None:
        super().__init__(reason)
        self.reason, self.too_large, self.keep = reason, too_large, keep


class OtlpClient:
    """Sends to *endpoint*. *named* is the endpoint as the user has set it, which the stock gRPC exporter interprets.

    *names* are those that spans get beside their own: OPENINFERENCE or None.

    *with_credentials*: False sends no headers and no client certificate of the environment, which names another host.
    """

    def __init__(
        self,
        endpoint: str,
        named: str | None,
        protocol: str,
        *,
        with_credentials: bool = True,
        names: str | None = None,
    ) -> None:
        self._endpoint, self._names = endpoint, names
        if not with_credentials and read_variable("HEADERS"):
            line = "mlspan: %s gets no OTEL_EXPORTER_OTLP_HEADERS, as OTEL_EXPORTER_OTLP_ENDPOINT names another host"
            warn_once(line, endpoint, place=endpoint)
        make_post = _make_grpc_post if protocol == "grpc" else _make_http_post
        self._post = make_post(named if protocol == "grpc" else endpoint, with_credentials=with_credentials)

    def export_spans(self, spans: Sequence[EncodedSpan]) -> list[Refusal]:
        """Send all spans and return the refused ones. Raise BackendUnavailable.

        A refused request is sent in halves, so that one span causes no loss of others.
        """
        try:
            return self._read_partial_success(self._post(self._build_request(spans)), spans)
        except _ReceiverRejected as rejected:
            if rejected.keep:
                return [Refusal(span, rejected.reason, keep=True) for span in spans]
            if len(spans) == 1:
                return self._export_cut(spans[0], rejected)
            half = len(spans) // 2
            return self.export_spans(spans[:half]) + self.export_spans(spans[half:])

    def _build_request(self, spans: Sequence[EncodedSpan]) -> bytes:
        return build_export_request(add_receiver_names(span, self._names) for span in spans)

    def check(self) -> str | None:
        """Send a request without spans; return why it is not taken, or None. Raise BackendUnavailable."""
        try:
            self._post(build_export_request(()))
        except _ReceiverRejected as rejected:
            return rejected.reason
        return None

    def _export_cut(self, encoded: EncodedSpan, rejected: _ReceiverRejected) -> list[Refusal]:
        """Send one span that is too large, cut to half its size and again to half."""
        size = len(encoded.span) // 2
        while rejected.too_large and size >= _MIN_CUT_BYTES:
            try:
                answer = self._post(self._build_request([cut_span(encoded, size)]))
            except _ReceiverRejected as again:
                size, rejected = size // 2, again
            except UnencodableSpan:
                break
            else:
                return self._read_partial_success(answer, [encoded])
        return [Refusal(encoded, rejected.reason)]

    def _read_partial_success(self, answer: _Answer, spans: Sequence[EncodedSpan]) -> list[Refusal]:
        """Return what the receiver has rejected of a request that it has taken. It does not say which spans."""
        if not (answer.rejected or answer.message):
            return []
        where = f"the OTLP receiver {self._endpoint}"
        if answer.rejected <= 0:
            warn_once("mlspan: %s warns: %s", where, answer.message, place=self._endpoint)
            return []
        reason = f"{where} has rejected spans: {answer.message}"
        if answer.rejected >= len(spans):
            return [Refusal(span, reason) for span in spans]
        return [Refusal(None, reason, spans=answer.rejected)]


class _Answer(NamedTuple):
    """The answer of a receiver that has accepted a request."""

    rejected: int = 0  # spans
    message: str = ""  # escaped


def _parse_answer(where: str, content_type: str, content: bytes) -> _Answer:
    """Return what an answer of a receiver says, in the protobuf or the JSON form.

    Raise _ReceiverRejected if no OTLP receiver answers so.
    """
    if is_foreign_answer(content_type, content):
        raise _ReceiverRejected(_FOREIGN_MESSAGE.format(where=where, kind=quote_answer(content_type)), keep=True)
    if (found := parse_object(content)) is not None:
        partial = found.get("partialSuccess") or found.get("partial_success") or {}
        partial = partial if isinstance(partial, dict) else {}
        rejected = partial.get("rejectedSpans", partial.get("rejected_spans"))
        message = partial.get("errorMessage", partial.get("error_message"))
        count = int(str(rejected)) if str(rejected).isdecimal() else 0
        return _Answer(count, quote_answer(message if isinstance(message, str) else ""))
    try:
        said = ExportTraceServiceResponse.FromString(content if "protobuf" in content_type else b"").partial_success
    except DecodeError:
        raise _ReceiverRejected(_FOREIGN_MESSAGE.format(where=where, kind="no protobuf"), keep=True) from None
    return _Answer(said.rejected_spans, quote_answer(said.error_message))


def _make_http_post(endpoint: str | None, *, with_credentials: bool) -> Callable[[bytes], _Answer]:
    """Return a function that posts a request body and returns the receiver's answer."""
    from opentelemetry.util.re import parse_env_headers

    endpoint = endpoint or ""
    exact = endpoint == os.environ.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
    url = endpoint if exact or endpoint.rstrip("/").endswith(TRACES_PATH) else endpoint.rstrip("/") + TRACES_PATH
    session = requests.Session()
    if with_credentials:
        session.headers.update(parse_env_headers(read_variable("HEADERS") or "", liberal=True))
    session.headers["Content-Type"] = "application/x-protobuf"
    session.verify = read_variable("CERTIFICATE") or True
    certificate, key = read_variable("CLIENT_CERTIFICATE"), read_variable("CLIENT_KEY")
    if with_credentials:
        session.cert = (certificate, key) if certificate and key else certificate
    seconds = float(read_variable("TIMEOUT") or 10)
    patience = (min(2.0, seconds), seconds)
    encoding = (read_variable("COMPRESSION") or "").lower()
    squeeze: Any = {"gzip": gzip.compress, "deflate": zlib.compress}.get(encoding)
    session.headers.update({"Content-Encoding": encoding} if squeeze else {})

    def post_http(data: bytes) -> _Answer:
        body = squeeze(data) if squeeze else data
        try:
            answer = session.post(url, data=body, timeout=patience, allow_redirects=False)
        except requests.RequestException as error:
            raise BackendUnavailable(f"the OTLP receiver ({url}) takes no spans ({type(error).__name__})") from error
        _raise_for_status(url, answer)
        return _parse_answer(f"the OTLP receiver ({url})", answer.headers.get("Content-Type", ""), answer.content)

    return post_http


def _raise_for_status(url: str, answer: requests.Response) -> None:
    """Raise BackendUnavailable or _ReceiverRejected, as the status demands."""
    status = answer.status_code
    if status < 300:
        return
    message = f"the OTLP receiver ({url}) answers {status}"
    if status in {408, 429} or status >= 500:
        retry_after = parse_retry_after(answer.headers.get("Retry-After"))
        raise BackendUnavailable(message, retry_after, may_be_item=status == 500)
    if status in {401, 403, 404, 405} or status < 400:
        raise _ReceiverRejected(
            f"{message}: check its address, OTEL_EXPORTER_OTLP_HEADERS and the permissions", keep=True
        )
    raise _ReceiverRejected(f"{message}: {quote_answer(answer.content)}", too_large=status == 413)


def import_grpc() -> None:
    from opentelemetry.exporter.otlp.proto.grpc import trace_exporter  # noqa: F401


def _make_grpc_post(endpoint: str | None, *, with_credentials: bool) -> Callable[[bytes], _Answer]:
    """Return a function that sends a request through the channel and headers of the stock exporter.

    The exporter reads them from the environment. Retries are our own.
    """
    import grpc
    from opentelemetry.exporter.otlp.proto.grpc import exporter, trace_exporter

    silence_own_threads(exporter.__name__)
    code = grpc.StatusCode
    keep = {code.UNAUTHENTICATED, code.PERMISSION_DENIED, code.UNIMPLEMENTED, code.NOT_FOUND}
    refuse = {code.INVALID_ARGUMENT, code.OUT_OF_RANGE, code.FAILED_PRECONDITION, code.ALREADY_EXISTS, code.INTERNAL}
    opened: list[Any] = []

    def post_grpc(data: bytes) -> _Answer:
        if not opened:
            headers = None if with_credentials else _NO_CREDENTIALS
            opened.append(trace_exporter.OTLPSpanExporter(endpoint=endpoint, headers=headers))
        if (found := find_grpc_call(opened[0])) is None:
            return _export_by_stock_exporter(opened[0], data)
        address, export = found
        where = f"the OTLP receiver ({address})"
        try:
            answer = export(ExportTraceServiceRequest.FromString(data))
        except grpc.RpcError as error:
            status, details = error.code(), quote_answer(error.details() or "")
            if status is code.RESOURCE_EXHAUSTED and "larger than max" in details:
                raise _ReceiverRejected(f"{where}: {details}", too_large=True) from error
            if status in keep:
                raise _ReceiverRejected(f"{where} answers {status.name}: {details}", keep=True) from error
            if status in refuse:
                raise _ReceiverRejected(f"{where} answers {status.name}: {details}") from error
            opened.pop().shutdown()  # a lost channel does not always reconnect
            message = f"{where} takes no spans ({status.name})"
            raise BackendUnavailable(message, may_be_item=status is code.UNKNOWN) from error
        return _Answer(answer.partial_success.rejected_spans, quote_answer(answer.partial_success.error_message))

    return post_grpc


def _export_by_stock_exporter(exporter: Any, data: bytes) -> _Answer:
    """Send a request by the exporter's public method, which says nothing but whether it succeeded."""
    if exporter.export([decode_span(one) for one in split_export_request(data)]).name != "SUCCESS":
        raise BackendUnavailable("the OTLP receiver takes no spans")
    return _Answer()
