"""Attachments: pictures and sounds of a span, stored as files of the trace that MLflow's viewer loads."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlencode

from ...operations import semconv as sc
from ...operations.content import to_json
from ..dialects.dialect import parse_attribute
from .messages import DEFAULT_MIME_TYPES

_CONTENT_ATTRIBUTES: Final = frozenset(
    {sc.INPUT_MESSAGES, sc.OUTPUT_MESSAGES, sc.SYSTEM_INSTRUCTIONS, sc.INPUT, sc.OUTPUT}
    | {sc.TOOL_CALL_ARGUMENTS, sc.TOOL_CALL_RESULT}
)
_DATA_URI: Final = re.compile(r"data:([\w.+-]+/[\w.+-]+)(?:;[\w=.+-]+)*;base64,([A-Za-z0-9+/=\s]+)")


@dataclass(frozen=True, slots=True)
class Attachment:
    """A file of a trace.

    Its id is a hash of the content, so that a picture repeated in a conversation is stored once.
    """

    id: str
    content: bytes


AttachmentsById = dict[str, Attachment]  # by id


def extract_attachments(attributes: Mapping[str, Any], trace_id: str, into: AttachmentsById) -> Mapping[str, Any]:
    """Return *attributes* with a reference for every base64 blob and data URI. The files are added to *into*."""
    changed: dict[str, Any] = {}
    for name in _CONTENT_ATTRIBUTES & attributes.keys():
        text = attributes[name]
        if isinstance(text, str) and ('"blob"' in text or ";base64," in text):
            value = parse_attribute(text)
            replaced = _replace_blobs(value, trace_id, into)
            if replaced != value:
                changed[name] = replaced if replaced is not None and value is text else to_json(replaced)
    return {**attributes, **changed} if changed else attributes


def _replace_blobs(value: Any, trace_id: str, into: AttachmentsById) -> Any:
    """Return *value* with a reference for each blob and data URI, at any depth. The files are added to *into*."""
    if isinstance(value, str):
        found = _DATA_URI.fullmatch(value) if value.startswith("data:") else None
        return (_add_attachment(found[2], found[1], trace_id, into) or value) if found else value
    if isinstance(value, list):
        return [_replace_blobs(item, trace_id, into) for item in value]
    if not isinstance(value, dict):
        return value
    if value.get("type") == "blob" and isinstance(data := value.get("content"), str) and data:
        mime_type = value.get("mime_type") or DEFAULT_MIME_TYPES.get(
            str(value.get("modality")), "application/octet-stream"
        )
        reference = _add_attachment(data, str(mime_type), trace_id, into)
        if reference is not None:
            rest = {key: item for key, item in value.items() if key not in {"type", "content"}}
            return {"type": "uri", **rest, "uri": reference, "mime_type": mime_type}
        return value
    return {key: _replace_blobs(item, trace_id, into) for key, item in value.items()}


def _add_attachment(data: str, mime_type: str, trace_id: str, into: AttachmentsById) -> str | None:
    """Decode base64 *data*, add the file to *into* and return its reference. Return None if it is not base64."""
    try:
        content = base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError):
        return None
    id = str(uuid.uuid5(uuid.NAMESPACE_OID, trace_id + hashlib.sha256(content).hexdigest()))
    into[id] = Attachment(id, content)
    query = {"content_type": mime_type, "trace_id": trace_id, "size": len(content)}
    return f"mlflow-attachment://{id}?{urlencode(query)}"
