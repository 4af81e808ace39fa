"""Messages and their parts, ready for JSON.

The shapes are those of the GenAI conventions' message schemas (``gen-ai-input-messages.json`` and its neighbours).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, TypedDict

import orjson

if TYPE_CHECKING:
    from typing_extensions import NotRequired  # Python 3.10 lacks it


class TextPart(TypedDict):
    """Text that was said; *annotations* are its citations, as the provider gives them."""

    type: Literal["text"]
    content: str
    annotations: NotRequired[list[Any]]


class ReasoningPart(TypedDict):
    """The model's reasoning as text."""

    type: Literal["reasoning"]
    content: str


class ToolCallPart(TypedDict, total=False):
    """A tool call that the model requests."""

    type: Literal["tool_call"]
    name: str
    id: str
    arguments: object


class ToolCallResponsePart(TypedDict, total=False):
    """The result of a tool call."""

    type: Literal["tool_call_response"]
    response: object
    id: str


class BlobPart(TypedDict, total=False):
    """Data inside the message, such as a picture, in base64."""

    type: Literal["blob"]
    modality: str
    content: str  # base64
    mime_type: str


class FilePart(TypedDict, total=False):
    """A file that the provider stores, by its id."""

    type: Literal["file"]
    modality: str
    file_id: str
    mime_type: str


class UriPart(TypedDict, total=False):
    """Data elsewhere, by its address; never a data URL."""

    type: Literal["uri"]
    modality: str
    uri: str
    mime_type: str


class ServerToolCallPart(TypedDict, total=False):
    """A call of a tool that the provider runs, such as a web search; *server_tool_call* has the tool's name as type."""

    type: Literal["server_tool_call"]
    name: str
    server_tool_call: dict[str, object]
    id: str


class ServerToolCallResponsePart(TypedDict, total=False):
    """The result of such a call."""

    type: Literal["server_tool_call_response"]
    server_tool_call_response: dict[str, object]
    id: str


class GenericPart(TypedDict):
    """A part that the conventions have no shape for: its own type and its content."""

    type: str
    content: object


Part = (
    TextPart
    | ReasoningPart
    | ToolCallPart
    | ToolCallResponsePart
    | ServerToolCallPart
    | ServerToolCallResponsePart
    | BlobPart
    | FilePart
    | UriPart
    | GenericPart
)


class Message(TypedDict, total=False):
    """One message: a role and its parts."""

    role: str
    parts: list[Part]
    name: str
    finish_reason: str


class ToolDefinition(TypedDict, total=False):
    """The definition of a tool that the model may call; *parameters* is a JSON schema."""

    type: str
    name: str
    description: str
    parameters: object


def make_tool_call(name: str, arguments: object = None, id: str | None = None) -> ToolCallPart:
    """Return a tool call part. *arguments* in JSON become the object that they describe; other text stays text."""
    part: ToolCallPart = {"type": "tool_call", "name": name}
    if id is not None:
        part["id"] = id
    if arguments is not None:
        part["arguments"] = parse_json(arguments) if isinstance(arguments, str) else arguments
    return part


def make_tool_call_response(response: object, id: str | None = None) -> ToolCallResponsePart:
    """Return the part for the result of a tool call."""
    part: ToolCallResponsePart = {"type": "tool_call_response", "response": response}
    if id is not None:
        part["id"] = id
    return part


def make_server_tool_call(
    name: str, details: Mapping[str, object], id: str | None = None, *, kind: str | None = None
) -> ServerToolCallPart:
    """Return the part for a call of a tool that the provider runs; *kind* is the tool's type, if that is not *name*."""
    called = {"type": kind or name, **details}
    part: ServerToolCallPart = {"type": "server_tool_call", "name": name, "server_tool_call": called}
    if id is not None:
        part["id"] = id
    return part


def make_server_tool_response(
    kind: str, details: Mapping[str, object], id: str | None = None
) -> ServerToolCallResponsePart:
    """Return the part for the result of such a call; *kind* is the tool's type."""
    told = {"type": kind, **details}
    part: ServerToolCallResponsePart = {"type": "server_tool_call_response", "server_tool_call_response": told}
    if id is not None:
        part["id"] = id
    return part


def make_media_part(modality: str, url: str) -> BlobPart | UriPart:
    """Return a blob for a data URL, and a reference for any other URL."""
    if not url.startswith("data:"):
        return {"type": "uri", "modality": modality, "uri": url}
    head, _, content = url[5:].partition(",")
    part: BlobPart = {"type": "blob", "modality": modality, "content": content}
    if mime_type := head.partition(";")[0]:
        part["mime_type"] = mime_type
    return part


def find_modality(mime_type: str | None) -> str:
    """Return the modality of a mime type; ``document`` for anything but pictures, sounds and films."""
    kind = (mime_type or "").partition("/")[0]
    return kind if kind in {"image", "audio", "video"} else "document"


def add_mime_type(part: BlobPart | UriPart, mime_type: str | None) -> BlobPart | UriPart:
    """Return *part* with the mime type, if that is known and the part tells none."""
    if mime_type:
        part.setdefault("mime_type", mime_type)
    return part


def parse_json(text: str) -> object:
    """Return the value that the JSON *text* describes, or *text* itself if it is not JSON."""
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return text


def is_complete_json(text: str) -> bool:
    """Return whether *text* is a JSON object to its end."""
    return text.endswith("}") and isinstance(parse_json(text), dict)
