"""Reader of files with OTLP traces: JSON lines or protobuf, as an OpenTelemetry collector's file exporter writes them.

The formats: https://github.com/open-telemetry/opentelemetry-collector-contrib/tree/main/exporter/fileexporter#file-format
"""

from __future__ import annotations

import base64
import gzip
import importlib
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Any, Final

import orjson
from google.protobuf.json_format import ParseDict, ParseError
from google.protobuf.message import DecodeError
from opentelemetry.proto.trace.v1.trace_pb2 import TracesData

_GZIP_MAGIC: Final = b"\x1f\x8b"
_ZSTD_MAGIC: Final = b"\x28\xb5\x2f\xfd"
_UNFRAMED_FIRST_BYTE: Final = 0x0A  # tag of TracesData's first field; a framed file begins with a length instead
_OTHER_SIGNALS: Final = ("resourceMetrics", "resourceLogs", "resourceProfiles")
_MAX_DOCUMENT_BYTES: Final = 512 * 1024 * 1024  # size of the largest document that is read at once


@dataclass(frozen=True)
class OtlpMessage:
    """A line of JSON, or a protobuf message. If it could not be read, *traces* is None and *error* says why."""

    number: int  # from 1
    traces: object  # opentelemetry.proto.trace.v1.TracesData
    bytes_read: int  # bytes of the file up to the end of this message
    error: str = ""


class ZstdNotInstalled(Exception):  # noqa: N818  # a state of the installation
    """Error for a file that is compressed by zstd, if no module that reads it is installed."""


def read_otlp_messages(file: IO[bytes]) -> Iterator[OtlpMessage]:
    """Yield all messages of *file*, which must be seekable.

    A message that cannot be read is yielded with its error.

    Raises:
        ZstdNotInstalled: if the file is compressed by zstd, and no module that reads it is installed.
    """
    start = file.read(4)
    file.seek(0)
    if start.startswith(_GZIP_MAGIC):
        yield from _read_uncompressed(gzip.GzipFile(fileobj=file), file)
    else:
        yield from _read_uncompressed(file, file)


def _read_uncompressed(data: IO[bytes] | gzip.GzipFile, file: IO[bytes]) -> Iterator[OtlpMessage]:
    """Yield the messages of *data*, whose format is found by its first bytes. *file* tells how much was read."""
    try:
        start = data.read(64)
        data.seek(0)
        if start[:4] == _ZSTD_MAGIC:
            yield from _read_document(_decompress_zstd(data.read(), len(start)), file)
        elif start.lstrip()[:1] in {b"{", b"[", b""} or not start:
            yield from _read_json(data, file)
        elif start[0] == _UNFRAMED_FIRST_BYTE:
            yield _parse_protobuf(1, data.read(), file)
        else:
            yield from _read_framed(data, file)
    except (OSError, EOFError) as error:  # a compressed file that is cut off or damaged
        yield OtlpMessage(0, None, file.tell(), f"the file is damaged: {error}")


def _read_json(data: Any, file: IO[bytes]) -> Iterator[OtlpMessage]:
    """Yield the messages of JSON lines, or of one document over many lines, as some tools reformat them."""
    number = 0
    for number, line in enumerate(data, 1):  # noqa: B007  # used after the loop
        if line.strip():
            break
    else:
        return
    try:
        orjson.loads(line)
    except orjson.JSONDecodeError:
        data.seek(0)
        document = data.read(_MAX_DOCUMENT_BYTES)
        try:
            orjson.loads(document)
        except orjson.JSONDecodeError:
            data.seek(0)
            for _ in range(number):
                data.readline()
        else:
            yield from _read_document(document, file)
            return
    yield _parse_json_line(number, line, file)
    for number, line in enumerate(data, number + 1):  # noqa: B020  # goes on where the first loop stopped
        if line.strip():
            yield _parse_json_line(number, line, file)


def _read_document(document: bytes, file: IO[bytes]) -> Iterator[OtlpMessage]:
    """Yield the messages of one JSON document, of a list or lines of them, or of one protobuf message."""
    if document.lstrip()[:1] not in {b"{", b"["}:
        yield _parse_protobuf(1, document, file)
        return
    try:
        found = orjson.loads(document)
    except orjson.JSONDecodeError:
        for number, line in enumerate(document.splitlines(), 1):
            if line.strip():
                yield _parse_json_line(number, line, file)
        return
    for number, item in enumerate(found if isinstance(found, list) else [found], 1):
        yield _parse_json_object(number, item, file)


def _parse_json_line(number: int, line: bytes, file: IO[bytes]) -> OtlpMessage:
    """Return the message of one line of JSON."""
    try:
        return _parse_json_object(number, orjson.loads(line), file)
    except orjson.JSONDecodeError:
        return OtlpMessage(number, None, file.tell(), "not JSON, or cut off")


def _parse_json_object(number: int, found: object, file: IO[bytes]) -> OtlpMessage:
    """Return the message of a parsed JSON object. One with metrics or logs only is a message without spans."""
    if not isinstance(found, dict):
        return OtlpMessage(number, None, file.tell(), "not an object of OTLP")
    if "resourceSpans" not in found and "resource_spans" not in found:
        is_other_signal = any(name in found for name in _OTHER_SIGNALS)
        return OtlpMessage(
            number,
            TracesData() if is_other_signal else None,
            file.tell(),
            "" if is_other_signal else "no resourceSpans in it",
        )
    try:
        return OtlpMessage(number, ParseDict(_encode_ids(found), TracesData(), ignore_unknown_fields=True), file.tell())
    except (ParseError, ValueError, TypeError, AttributeError, KeyError) as error:
        return OtlpMessage(number, None, file.tell(), f"not OTLP: {str(error).splitlines()[0][:120]}")


def _encode_ids(found: dict[str, Any]) -> dict[str, object]:
    """Change ids from hexadecimal digits, as OTLP's JSON has them, to base64, as protobuf's parser expects them."""
    for of_resource in found.get("resourceSpans", found.get("resource_spans", ())):
        for of_scope in of_resource.get("scopeSpans", of_resource.get("scope_spans", ())):
            for span in of_scope.get("spans", ()):
                for holder in (span, *span.get("links", ())):
                    for name in ("traceId", "spanId", "parentSpanId", "trace_id", "span_id", "parent_span_id"):
                        if len(digits := holder.get(name) or "") in {16, 32}:
                            holder[name] = base64.b64encode(bytes.fromhex(digits)).decode()
    return found


def _read_framed(data: Any, file: IO[bytes]) -> Iterator[OtlpMessage]:
    """Yield messages that each follow their length in four bytes (big endian). Each may be compressed by zstd."""
    number = 0
    while head := data.read(4):
        number += 1
        size = struct.unpack(">I", head)[0] if len(head) == 4 else 0
        body = data.read(size)
        if len(head) < 4 or len(body) < size:
            yield OtlpMessage(number, None, file.tell(), "cut off, or no OTLP")
            return
        body = _decompress_zstd(body, number) if body[:4] == _ZSTD_MAGIC else body
        if body[:1] == b"{":
            yield _parse_json_line(number, body, file)
        else:
            yield _parse_protobuf(number, body, file)


def _parse_protobuf(number: int, body: bytes, file: IO[bytes]) -> OtlpMessage:
    """Return the message of a serialized TracesData."""
    try:
        return OtlpMessage(number, TracesData.FromString(body), file.tell())
    except DecodeError:
        return OtlpMessage(number, None, file.tell(), "not a message of OTLP")


def _decompress_zstd(body: bytes, number: int) -> bytes:
    """Return *body* decompressed.

    Raises:
        EOFError: if it is damaged; *number* is the message's number, for the error.
        ZstdNotInstalled: if neither Python's nor the zstandard package's module is there.
    """
    for name in ("compression.zstd", "zstandard"):
        try:
            module: Any = importlib.import_module(name)
        except ImportError:
            continue
        try:
            return bytes(
                module.decompress(body) if name == "compression.zstd" else _decompress_with_zstandard(module, body)
            )
        except Exception as error:
            raise EOFError(f"message {number} cannot be decompressed: {error}") from error
    raise ZstdNotInstalled


def _decompress_with_zstandard(zstandard: Any, body: bytes) -> bytes:
    return bytes(
        zstandard.ZstdDecompressor().decompressobj().decompress(body)
    )  # unlike decompress(), this does not need a size in the header
