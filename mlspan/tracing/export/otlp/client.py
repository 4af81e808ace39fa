"""The OTLP client: it sends encoded spans from the spool to a receiver by HTTP or gRPC."""

from __future__ import annotations

import gzip
import os
import zlib
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

import requests
import urllib3
from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from ...._guard import warn_once
from ...otel.compat import find_grpc_call
from ..answers import (
    EndlessAnswer,
    is_foreign_answer,
    parse_object,
    parse_retry_after,
    quote_answer,
    read_answer,
)
from ..bounded_heads import BoundedHeadsAdapter
from ..sending.request_size import RequestLimit, describe_hung_up, describe_too_large, may_be_size, warn_of_cut
from ..shown_addresses import hide_user_info
from ..types import BackendUnavailable, EncodedSpan, Refusal
from .codec import (
    build_export_request,
    decode_span,
    iterate_cuts,
    split_export_request,
)
from .environment import TRACES_PATH, read_variable
from .log_filter import silence_own_threads
from .receiver_names import add_receiver_names, find_receiver_names

_FOREIGN_MESSAGE: Final = (
    "{where} answers success, but not as an OTLP receiver does ({kind}): another server is behind this address, "
    "or a sign-in page"
)
_NO_CREDENTIALS: Final = (("x-mlspan-credentials", "none"),)  # the stock exporter reads the environment if given none
_MAX_DIGITS: Final = 18  # of a number in an answer: Python refuses to read one of thousands
_MAX_REQUEST_BYTES: Final = 16 * 1024 * 1024  # more than a batch holds: only a receiver's own limit makes it less


class _ReceiverRejected(Exception):  # noqa: N818  # an answer, not an error in the program
    """The receiver refuses a request.

    *too_large*: it might take a smaller one; *keep*: it might accept other credentials.
    """

    def __init__(self, reason: str, *, where: str = "", too_large: bool = False, keep: bool = False) -> None:
        super().__init__(reason)
        self.reason, self.where, self.too_large, self.keep = reason, where, too_large, keep


class OtlpClient:
    """Sends to *endpoint*. *named* is the endpoint as the user has set it, which the stock gRPC exporter interprets.

    *names* are those that spans get beside their own: OPENINFERENCE, LANGFUSE, ``none``; None: by the receiver.

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
        self._endpoint, self._names = endpoint, names or find_receiver_names(endpoint)
        if not with_credentials and read_variable("HEADERS"):
            line = "mlspan: %s gets no OTEL_EXPORTER_OTLP_HEADERS, as OTEL_EXPORTER_OTLP_ENDPOINT names another host"
            warn_once(line, hide_user_info(endpoint), place=endpoint)
        make_post = _make_grpc_post if protocol == "grpc" else _make_http_post
        self._limit = RequestLimit(_MAX_REQUEST_BYTES)
        self._post = make_post(named if protocol == "grpc" else endpoint, with_credentials=with_credentials)

    def export_spans(self, spans: Sequence[EncodedSpan]) -> list[Refusal]:
        """Send all spans and return the refused ones. Raise BackendUnavailable, which names those that were taken.

        A refused request is sent in halves, so that one span causes no loss of others.
        """
        refused: list[Refusal] = []
        done: list[EncodedSpan] = []
        waiting = list(self._limit.split(spans, _measure_span, len(spans)))
        waiting.reverse()
        try:
            while waiting:
                part = waiting.pop()
                found = self._export_part(part)
                if found is None:  # a lower limit makes several parts of it, else it is halved
                    parts = list(self._limit.split(part, _measure_span, -(-len(part) // 2)))
                    waiting += reversed(parts)
                else:
                    refused += found
                    done += part
        except BackendUnavailable as away:
            left = {id(refusal.item) for refusal in refused}
            away.taken = [span for span in done if id(span) not in left]
            raise
        return refused

    def _export_part(self, spans: Sequence[EncodedSpan]) -> list[Refusal] | None:
        """Send *spans* in one request and return the refused ones; None if they are to be sent in smaller ones."""
        try:
            return self._read_partial_success(self._post(self._build_request(spans)), spans)
        except _ReceiverRejected as rejected:
            if rejected.keep:
                return [Refusal(span, rejected.reason, keep=True) for span in spans]
            if len(spans) == 1:
                return self._export_cut(spans[0], rejected)
            if rejected.too_large:
                self._limit.lower(sum(map(_measure_span, spans)))
        except BackendUnavailable as away:
            if away.too_slow:
                self._limit.lower_for_time(sum(map(_measure_span, spans)))
            if not away.may_be_size or len(spans) == 1:
                raise
            self._limit.lower(sum(map(_measure_span, spans)))
        return None

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
        for cut in iterate_cuts(encoded) if rejected.too_large else ():
            try:
                answer = self._post(self._build_request([cut]))
            except _ReceiverRejected as again:
                if not again.too_large:
                    return [Refusal(encoded, again.reason)]
            else:
                warn_of_cut(rejected.where, len(encoded.span))
                return self._read_partial_success(answer, [encoded])
        return [Refusal(encoded, rejected.reason)]

    def _read_partial_success(self, answer: _Answer, spans: Sequence[EncodedSpan]) -> list[Refusal]:
        """Return what the receiver has rejected of a request that it has taken. It does not say which spans."""
        if not (answer.rejected or answer.message):
            return []
        where = f"the OTLP receiver {hide_user_info(self._endpoint)}"
        if answer.rejected <= 0:
            warn_once("mlspan: %s warns: %s", where, answer.message, place=self._endpoint)
            return []
        reason = f"{where} has rejected spans: {answer.message}"
        if answer.rejected >= len(spans):
            return [Refusal(span, reason) for span in spans]
        return [Refusal(None, reason, spans=answer.rejected)]


def _measure_span(encoded: EncodedSpan) -> int:
    return len(encoded.span)


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
        digits = str(rejected)
        if len(digits) > _MAX_DIGITS:
            raise _ReceiverRejected(_FOREIGN_MESSAGE.format(where=where, kind="no number of spans"), keep=True)
        count = int(digits) if digits.isdecimal() else 0
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
    for scheme in ("http://", "https://"):
        session.mount(scheme, BoundedHeadsAdapter())
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

    where = f"the OTLP receiver ({hide_user_info(url)})"

    def post_http(data: bytes) -> _Answer:
        body = squeeze(data) if squeeze else data
        try:
            answer = session.post(url, data=body, timeout=patience, allow_redirects=False, stream=True)
            content = read_answer(answer.raw)
        except EndlessAnswer as endless:
            raise _ReceiverRejected(_FOREIGN_MESSAGE.format(where=where, kind=endless), keep=True) from endless
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
            hung_up = _is_hang_up(error) and may_be_size(len(body))
            why = describe_hung_up(len(body)) if hung_up else type(error).__name__
            message = f"{where} takes no spans ({why})"
            too_slow = isinstance(error, (requests.ReadTimeout, urllib3.exceptions.ReadTimeoutError))
            raise BackendUnavailable(message, may_be_size=hung_up, too_slow=too_slow) from error
        _raise_for_status(where, answer, content, len(body))
        return _parse_answer(where, answer.headers.get("Content-Type", ""), content)

    return post_http


def _is_hang_up(error: Exception) -> bool:
    """Return whether the receiver has closed a connection that it had accepted."""
    causes = error, *error.args
    return any(isinstance(one, (ConnectionError, urllib3.exceptions.ProtocolError)) for one in causes)


def _raise_for_status(where: str, answer: requests.Response, content: bytes, sent: int) -> None:
    """Raise BackendUnavailable or _ReceiverRejected, as the status demands of a request of *sent* bytes."""
    status = answer.status_code
    if status < 300:
        return
    message = f"{where} answers {status}"
    if status in {408, 429} or status >= 500:
        retry_after = parse_retry_after(answer.headers.get("Retry-After"))
        raise BackendUnavailable(message, retry_after, may_be_item=status == 500, too_slow=status in {408, 504})
    if status in {401, 403, 404, 405} or status < 400:
        raise _ReceiverRejected(
            f"{message}: check its address, OTEL_EXPORTER_OTLP_HEADERS and the permissions", keep=True
        )
    if status == 413:
        raise _ReceiverRejected(describe_too_large(where, sent), where=where, too_large=True)
    raise _ReceiverRejected(f"{message}: {quote_answer(content)}")


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
                raise _ReceiverRejected(f"{where}: {details}", where=where, too_large=True) from error
            if status in keep:
                raise _ReceiverRejected(f"{where} answers {status.name}: {details}", keep=True) from error
            if status in refuse:
                raise _ReceiverRejected(f"{where} answers {status.name}: {details}") from error
            opened.pop().shutdown()  # a lost channel does not always reconnect
            message = f"{where} takes no spans ({status.name})"
            too_slow = status is code.DEADLINE_EXCEEDED
            raise BackendUnavailable(message, may_be_item=status is code.UNKNOWN, too_slow=too_slow) from error
        return _Answer(answer.partial_success.rejected_spans, quote_answer(answer.partial_success.error_message))

    return post_grpc


def _export_by_stock_exporter(exporter: Any, data: bytes) -> _Answer:
    """Send a request by the exporter's public method, which says nothing but whether it succeeded."""
    if exporter.export([decode_span(one) for one in split_export_request(data)]).name != "SUCCESS":
        raise BackendUnavailable("the OTLP receiver takes no spans")
    return _Answer()
