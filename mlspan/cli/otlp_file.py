"""Files of OTLP traces: JSON lines or protobuf, as an OpenTelemetry collector's file exporter writes them.

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
_RAW_PROTOBUF: Final = 0x0A  # the first field of TracesData; of what is framed, the first byte of a length
_OTHER_SIGNALS: Final = ("resourceMetrics", "resourceLogs", "resourceProfiles")
_MOST_WHOLE: Final = 512 * 1024 * 1024  # bytes of a document that is read at once


@dataclass(frozen=True)
class Piece:
    """A line of JSON, or a protobuf message. *traces* is None where it could not be read, and *why* says why."""

    number: int  # from 1
    traces: Any  # opentelemetry.proto.trace.v1.TracesData
    read: int  # bytes of the file up to its end
    why: str = ""


class NeedsZstd(Exception):  # noqa: N818  # a state of the installation
    """The file is compressed by zstd, and nothing that reads it is installed."""


def pieces(file: IO[bytes]) -> Iterator[Piece]:
    """All that *file*, which must be seekable, holds. Raises NeedsZstd."""
    start = file.read(4)
    file.seek(0)
    if start.startswith(_GZIP):
        yield from _plain(gzip.GzipFile(fileobj=file), file)
    else:
        yield from _plain(file, file)


def _plain(data: IO[bytes] | gzip.GzipFile, file: IO[bytes]) -> Iterator[Piece]:
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
    except (OSError, EOFError) as error:  # a compressed file that ends too soon
        yield Piece(0, None, file.tell(), f"the file is damaged: {error}")


def _json(data: Any, file: IO[bytes]) -> Iterator[Piece]:
    """JSON lines; or one document over many lines, which is what some tools make of them."""
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
        whole = data.read(_MOST_WHOLE)
        try:
            orjson.loads(whole)
        except orjson.JSONDecodeError:
            data.seek(0)
            for _ in range(number):
                data.readline()
        else:
            yield from _document(whole, file)
            return
    yield _line(number, line, file)
    for number, line in enumerate(data, number + 1):  # noqa: B020  # goes on where the first left off
        if line.strip():
            yield _line(number, line, file)


def _document(whole: bytes, file: IO[bytes]) -> Iterator[Piece]:
    """One JSON document, a list of them, lines of them, or one message of protobuf."""
    if whole.lstrip()[:1] not in {b"{", b"["}:
        yield _message(1, whole, file)
        return
    try:
        found = orjson.loads(whole)
    except orjson.JSONDecodeError:
        for number, line in enumerate(whole.splitlines(), 1):
            if line.strip():
                yield _line(number, line, file)
        return
    for number, one in enumerate(found if isinstance(found, list) else [found], 1):
        yield _parsed(number, one, file)


def _line(number: int, line: bytes, file: IO[bytes]) -> Piece:
    try:
        return _parsed(number, orjson.loads(line), file)
    except orjson.JSONDecodeError:
        return Piece(number, None, file.tell(), "not JSON, or cut off")


def _parsed(number: int, found: Any, file: IO[bytes]) -> Piece:
    if not isinstance(found, dict):
        return Piece(number, None, file.tell(), "not an object of OTLP")
    if "resourceSpans" not in found and "resource_spans" not in found:
        other = any(name in found for name in _OTHER_SIGNALS)
        return Piece(number, TracesData() if other else None, file.tell(), "" if other else "no resourceSpans in it")
    try:
        return Piece(number, ParseDict(_with_bytes(found), TracesData(), ignore_unknown_fields=True), file.tell())
    except (ParseError, ValueError, TypeError, AttributeError, KeyError) as error:
        return Piece(number, None, file.tell(), f"not OTLP: {str(error).splitlines()[0][:120]}")


def _with_bytes(found: dict[str, Any]) -> dict[str, Any]:
    """OTLP writes ids in hexadecimal digits, where protobuf's JSON has base64."""
    for of_resource in found.get("resourceSpans", found.get("resource_spans", ())):
        for of_scope in of_resource.get("scopeSpans", of_resource.get("scope_spans", ())):
            for span in of_scope.get("spans", ()):
                for holder in (span, *span.get("links", ())):
                    for name in ("traceId", "spanId", "parentSpanId", "trace_id", "span_id", "parent_span_id"):
                        if len(digits := holder.get(name) or "") in {16, 32}:
                            holder[name] = base64.b64encode(bytes.fromhex(digits)).decode()
    return found


def _framed(data: Any, file: IO[bytes]) -> Iterator[Piece]:
    """Messages, each after four bytes that say how long it is; each may be compressed."""
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
    try:
        return Piece(number, TracesData.FromString(body), file.tell())
    except DecodeError:
        return Piece(number, None, file.tell(), "not a message of OTLP")


def _unzstd(body: bytes, number: int) -> bytes:
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
    return bytes(zstandard.ZstdDecompressor().decompressobj().decompress(body))  # sizes need not be in the header
