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

_GZIP: Final = b"\x1f\x8b"
_ZSTD: Final = b"\x28\xb5\x2f\xfd"
_RAW_PROTOBUF: Final = 0x0A  # tag of TracesData's first field; a framed file begins with a length instead
_OTHER_SIGNALS: Final = ("resourceMetrics", "resourceLogs", "resourceProfiles")
_MOST_WHOLE: Final = 512 * 1024 * 1024  # size of the largest document that is read at once


@dataclass(frozen=True)
class Piece:
    """A line of JSON, or a protobuf message. If it could not be read, *traces* is None and *error* says why."""

    number: int  # from 1
    traces: Any  # opentelemetry.proto.trace.v1.TracesData
    read: int  # bytes of the file up to the end of this message
    why: str = ""


class NeedsZstd(Exception):  # noqa: N818  # a state of the installation
    """Error for a file that is compressed by zstd, if no module that reads it is installed."""


def pieces(file: IO[bytes]) -> Iterator[Piece]:
    """Yield all messages of *file*, which must be seekable.

    A message that cannot be read is yielded with its error.

    Raises:
        ZstdNotInstalled: if the file is compressed by zstd, and no module that reads it is installed.
    """
    start = file.read(4)
    file.seek(0)
    if start.startswith(_GZIP):
        yield from _plain(gzip.GzipFile(fileobj=file), file)
    else:
        yield from _plain(file, file)


def _plain(data: IO[bytes] | gzip.GzipFile, file: IO[bytes]) -> Iterator[Piece]:
    """Yield the messages of *data*, whose format is found by its first bytes. *file* tells how much was read."""
    try:
        start = data.read(64)
        data.seek(0)
        if start[:4] == _ZSTD:
            yield from _document(_unzstd(data.read(), len(start)), file)
        elif start.lstrip()[:1] in {b"{", b"[", b""} or not start:
            yield from _json(data, file)
        elif start[0] == _RAW_PROTOBUF:
            yield _message(1, data.read(), file)
        else:
            yield from _framed(data, file)
    except (OSError, EOFError) as error:  # a compressed file that is cut off or damaged
        yield Piece(0, None, file.tell(), f"the file is damaged: {error}")


def _json(data: Any, file: IO[bytes]) -> Iterator[Piece]:
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
        document = data.read(_MOST_WHOLE)
        try:
            orjson.loads(document)
        except orjson.JSONDecodeError:
            data.seek(0)
            for _ in range(number):
                data.readline()
        else:
            yield from _document(document, file)
            return
    yield _line(number, line, file)
    for number, line in enumerate(data, number + 1):  # noqa: B020  # goes on where the first loop stopped
        if line.strip():
            yield _line(number, line, file)


def _document(document: bytes, file: IO[bytes]) -> Iterator[Piece]:
    """Yield the messages of one JSON document, of a list or lines of them, or of one protobuf message."""
    if document.lstrip()[:1] not in {b"{", b"["}:
        yield _message(1, document, file)
        return
    try:
        found = orjson.loads(document)
    except orjson.JSONDecodeError:
        for number, line in enumerate(document.splitlines(), 1):
            if line.strip():
                yield _line(number, line, file)
        return
    for number, item in enumerate(found if isinstance(found, list) else [found], 1):
        yield _parsed(number, item, file)


def _line(number: int, line: bytes, file: IO[bytes]) -> Piece:
    """Return the message of one line of JSON."""
    try:
        return _parsed(number, orjson.loads(line), file)
    except orjson.JSONDecodeError:
        return Piece(number, None, file.tell(), "not JSON, or cut off")


def _parsed(number: int, found: Any, file: IO[bytes]) -> Piece:
    """Return the message of a parsed JSON object. One with metrics or logs only is a message without spans."""
    if not isinstance(found, dict):
        return Piece(number, None, file.tell(), "not an object of OTLP")
    if "resourceSpans" not in found and "resource_spans" not in found:
        is_other_signal = any(name in found for name in _OTHER_SIGNALS)
        return Piece(
            number,
            TracesData() if is_other_signal else None,
            file.tell(),
            "" if is_other_signal else "no resourceSpans in it",
        )
    try:
        return Piece(number, ParseDict(_with_bytes(found), TracesData(), ignore_unknown_fields=True), file.tell())
    except (ParseError, ValueError, TypeError, AttributeError, KeyError) as error:
        return Piece(number, None, file.tell(), f"not OTLP: {str(error).splitlines()[0][:120]}")


def _with_bytes(found: dict[str, Any]) -> dict[str, Any]:
    """Change ids from hexadecimal digits, as OTLP's JSON has them, to base64, as protobuf's parser expects them."""
    for of_resource in found.get("resourceSpans", found.get("resource_spans", ())):
        for of_scope in of_resource.get("scopeSpans", of_resource.get("scope_spans", ())):
            for span in of_scope.get("spans", ()):
                for holder in (span, *span.get("links", ())):
                    for name in ("traceId", "spanId", "parentSpanId", "trace_id", "span_id", "parent_span_id"):
                        if len(digits := holder.get(name) or "") in {16, 32}:
                            holder[name] = base64.b64encode(bytes.fromhex(digits)).decode()
    return found


def _framed(data: Any, file: IO[bytes]) -> Iterator[Piece]:
    """Yield messages that each follow their length in four bytes (big endian). Each may be compressed by zstd."""
    number = 0
    while head := data.read(4):
        number += 1
        size = struct.unpack(">I", head)[0] if len(head) == 4 else 0
        body = data.read(size)
        if len(head) < 4 or len(body) < size:
            yield Piece(number, None, file.tell(), "cut off, or no OTLP")
            return
        body = _unzstd(body, number) if body[:4] == _ZSTD else body
        if body[:1] == b"{":
            yield _line(number, body, file)
        else:
            yield _message(number, body, file)


def _message(number: int, body: bytes, file: IO[bytes]) -> Piece:
    """Return the message of a serialized TracesData."""
    try:
        return Piece(number, TracesData.FromString(body), file.tell())
    except DecodeError:
        return Piece(number, None, file.tell(), "not a message of OTLP")


def _unzstd(body: bytes, number: int) -> bytes:
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
            return bytes(module.decompress(body) if name == "compression.zstd" else _stream(module, body))
        except Exception as error:
            raise EOFError(f"message {number} cannot be decompressed: {error}") from error
    raise NeedsZstd


def _stream(zstandard: Any, body: bytes) -> bytes:
    return bytes(
        zstandard.ZstdDecompressor().decompressobj().decompress(body)
    )  # unlike decompress(), this does not need a size in the header
