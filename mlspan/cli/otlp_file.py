"""Reader of files with OTLP traces: JSON lines or protobuf, as an OpenTelemetry collector's file exporter writes them.

The formats: https://github.com/open-telemetry/opentelemetry-collector-contrib/tree/main/exporter/fileexporter#file-format
"""

from __future__ import annotations

import base64
import gzip
import importlib
import io
import json
import struct
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Any, Final

import orjson
from google.protobuf.json_format import ParseDict, ParseError
from google.protobuf.message import DecodeError
from opentelemetry.proto.trace.v1.trace_pb2 import TracesData

from ..tracing.operations.content import replace_surrogates

_GZIP_MAGIC: Final = b"\x1f\x8b"
_ZSTD_MAGIC: Final = b"\x28\xb5\x2f\xfd"
_UNFRAMED_FIRST_BYTE: Final = 0x0A  # tag of TracesData's first field; a framed file begins with a length instead
_OTHER_SIGNALS: Final = ("resourceMetrics", "resourceLogs", "resourceProfiles")
_MAX_DOCUMENT_BYTES: Final = 128 * 1024 * 1024  # size of the largest document over many lines
_MAX_MESSAGE_BYTES: Final = 64 * 1024 * 1024  # size of the largest line or message
_MAX_RATIO: Final = 300  # of the sizes of a large file without and with compression, above which it is no file of spans
_CHUNK_BYTES: Final = 1024 * 1024


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
            with tempfile.TemporaryFile() as plain:
                _decompress_file(data, plain)
                plain.seek(0)
                yield from _read_uncompressed(plain, file)
        elif start.lstrip()[:1] in {b"{", b"[", b""} or not start:
            yield from _read_json(data, file)
        elif start[0] == _UNFRAMED_FIRST_BYTE:
            body = data.read(_MAX_DOCUMENT_BYTES + 1)
            yield _parse_protobuf(1, body, file) if len(body) <= _MAX_DOCUMENT_BYTES else _refuse_size(1, file)
        else:
            yield from _read_framed(data, file)
    except (OSError, EOFError) as error:  # a compressed file that is cut off or damaged
        yield OtlpMessage(0, None, file.tell(), f"the file is damaged: {error}")


def _read_json(data: Any, file: IO[bytes]) -> Iterator[OtlpMessage]:
    """Yield the messages of JSON lines, or of one document over many lines, as some tools reformat them."""
    number = 0
    lines = _read_lines(data)
    number, line = next(((number, line) for number, line in lines if line is None or line.strip()), (0, b""))
    if not number:
        return
    if line is not None and _parse_json(line) is None:
        data.seek(0)
        document = data.read(_MAX_DOCUMENT_BYTES + 1)
        found = _parse_json(document) if len(document) <= _MAX_DOCUMENT_BYTES else None
        del document
        if found is not None:
            for place, item in enumerate(found if isinstance(found, list) else [found], 1):
                yield from _parse_json_object(place, item, file)
            return
        data.seek(0)
        lines = _read_lines(data)
    else:
        yield from _parse_json_line(number, line, file)
    for number, line in lines:
        if line is None or line.strip():
            yield from _parse_json_line(number, line, file)


def _read_lines(data: Any) -> Iterator[tuple[int, bytes | None]]:
    """Yield each line and its number, from 1 on; None for a line that is too long, which is passed over."""
    number = 0
    while line := data.readline(_MAX_MESSAGE_BYTES + 1):
        number += 1
        if len(line) <= _MAX_MESSAGE_BYTES:
            yield number, line
            continue
        while line and not line.endswith(b"\n"):
            line = data.readline(_CHUNK_BYTES)
        yield number, None


def _parse_json(text: bytes) -> Any:
    """Return parsed JSON, with characters that are none (lone surrogates, bytes that are not UTF-8) replaced.

    Return None if it is no JSON.
    """
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        pass
    try:
        return _replace_surrogates(json.loads(text.decode("utf-8", "replace")))
    except (ValueError, RecursionError):
        return None


def _replace_surrogates(found: Any) -> Any:
    if isinstance(found, str):
        return replace_surrogates(found)
    if isinstance(found, list):
        return [_replace_surrogates(item) for item in found]
    if isinstance(found, dict):
        return {_replace_surrogates(key): _replace_surrogates(item) for key, item in found.items()}
    return found


def _refuse_size(number: int, file: IO[bytes]) -> OtlpMessage:
    return OtlpMessage(number, None, file.tell(), f"larger than {_MAX_MESSAGE_BYTES // 1024 // 1024} MiB")


def _parse_json_line(number: int, line: bytes | None, file: IO[bytes]) -> Iterator[OtlpMessage]:
    """Yield the messages of one line of JSON; None is a line that is too long."""
    if line is None:
        yield _refuse_size(number, file)
        return
    found = _parse_json(line)
    if found is None:
        yield OtlpMessage(number, None, file.tell(), "not JSON, or cut off")
    else:
        yield from _parse_json_object(number, found, file)


def _parse_json_object(number: int, found: Any, file: IO[bytes]) -> Iterator[OtlpMessage]:
    """Yield the message of a parsed JSON object. One with metrics or logs only is a message without spans.

    If it is no OTLP as a whole, its spans are messages by themselves, and only those that are none are lost.
    """
    if not isinstance(found, dict):
        yield OtlpMessage(number, None, file.tell(), "not an object of OTLP")
        return
    if "resourceSpans" not in found and "resource_spans" not in found:
        is_other_signal = any(name in found for name in _OTHER_SIGNALS)
        error = "" if is_other_signal else "no resourceSpans in it"
        yield OtlpMessage(number, TracesData() if is_other_signal else None, file.tell(), error)
        return
    whole = _parse_traces(number, found, file)
    parts = [] if whole.traces is not None else list(_split_spans(found))
    if len(parts) < 2:
        yield whole
    for part in parts if len(parts) > 1 else ():
        yield _parse_traces(number, part, file)


def _parse_traces(number: int, found: dict[str, Any], file: IO[bytes]) -> OtlpMessage:
    try:
        return OtlpMessage(number, ParseDict(_encode_ids(found), TracesData(), ignore_unknown_fields=True), file.tell())
    except (ParseError, ValueError, TypeError, AttributeError, KeyError, RecursionError) as error:
        return OtlpMessage(number, None, file.tell(), f"not OTLP: {(str(error).splitlines() or [''])[0][:120]}")


def _split_spans(found: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield an object of OTLP for each span, as far as *found* has the shape of one."""
    for resource in _list_dicts(found, "resourceSpans", "resource_spans"):
        for scope in _list_dicts(resource, "scopeSpans", "scope_spans"):
            for span in _list_dicts(scope, "spans", "spans"):
                of_resource = {} if "resource" not in resource else {"resource": resource["resource"]}
                of_scope = {} if "scope" not in scope else {"scope": scope["scope"]}
                yield {"resourceSpans": [{**of_resource, "scopeSpans": [{**of_scope, "spans": [span]}]}]}


def _list_dicts(holder: dict[str, Any], *names: str) -> list[dict[str, Any]]:
    found = next((holder[name] for name in names if name in holder), ())
    return [item for item in found if isinstance(item, dict)] if isinstance(found, list) else []


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
        body = data.read(min(size, _MAX_MESSAGE_BYTES + 1))
        if len(head) < 4 or len(body) < size:
            is_cut = len(body) <= _MAX_MESSAGE_BYTES
            yield (
                OtlpMessage(number, None, file.tell(), "cut off, or no OTLP") if is_cut else _refuse_size(number, file)
            )
            return
        try:
            body = _decompress_zstd(body, number) if body[:4] == _ZSTD_MAGIC else body
        except EOFError as error:  # damaged, or too large; the next message may be fine
            yield OtlpMessage(number, None, file.tell(), str(error))
            continue
        if body[:1] == b"{":
            yield from _parse_json_line(number, body, file)
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
        EOFError: if it is damaged or too large; *number* is the message's number, for the error.
        ZstdNotInstalled: if neither Python's nor the zstandard package's module is there.
    """
    try:
        with _open_zstd(io.BytesIO(body)) as plain:
            found = bytes(plain.read(_MAX_MESSAGE_BYTES + 1))
    except ZstdNotInstalled:
        raise
    except Exception as error:
        raise EOFError(f"message {number} cannot be decompressed: {error}") from error
    if len(found) > _MAX_MESSAGE_BYTES:
        raise EOFError(f"message {number} is larger than {_MAX_MESSAGE_BYTES // 1024 // 1024} MiB")
    return found


def _decompress_file(data: Any, plain: IO[bytes]) -> None:
    """Write what *data* holds to *plain*, decompressed.

    Raises:
        EOFError: if it is damaged, or grows by so much that it is no file of spans.
        ZstdNotInstalled: see above.
    """
    size = data.seek(0, 2)
    data.seek(0)
    most = max(_MAX_MESSAGE_BYTES, _MAX_RATIO * size)
    try:
        with _open_zstd(data) as reader:
            while chunk := reader.read(_CHUNK_BYTES):
                most -= plain.write(chunk)
                if most < 0:
                    break
    except ZstdNotInstalled:
        raise
    except Exception as error:
        raise EOFError(f"it cannot be decompressed: {error}") from error
    if most < 0:
        raise EOFError(f"it is more than {_MAX_RATIO} times as large as it is compressed")


def _open_zstd(file: Any) -> Any:
    """Return a reader of what *file* holds, decompressed, by Python's own module or the zstandard package's."""
    for name in ("compression.zstd", "zstandard"):
        try:
            module: Any = importlib.import_module(name)
        except ImportError:
            continue
        if name == "zstandard":  # unlike decompress(), this does not need a size in the header
            return module.ZstdDecompressor().stream_reader(file, read_across_frames=True, closefd=False)
        return module.ZstdFile(file)
    raise ZstdNotInstalled
