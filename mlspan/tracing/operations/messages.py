"""Messages and their parts, ready for JSON, and drafts of them that grow as chunks arrive.

The shapes are those of the GenAI conventions' message schemas (``gen-ai-input-messages.json`` and its neighbours).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final, Literal, TypedDict

import orjson

from .plain_values import KeptList

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
    server_tool_call: dict[str, Any]
    id: str


class ServerToolCallResponsePart(TypedDict, total=False):
    """The result of such a call."""

    type: Literal["server_tool_call_response"]
    server_tool_call_response: dict[str, Any]
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


class TextPieces(list[str]):
    """Text that arrives in pieces; a record joins them when it is complete."""

    __slots__ = ()


class _ToolCallDraft:
    """A tool call under construction, whose arguments arrive in pieces."""

    __slots__ = ("id", "name", "pieces")

    def __init__(self) -> None:
        self.id: str | None = None
        self.name: str | None = None
        self.pieces: list[str] = []

    def build_part(self) -> Part:
        """Return the tool call so far."""
        return make_tool_call(self.name or "", "".join(self.pieces) or None, self.id)

    def is_another(self, id: str | None, name: str | None) -> bool:
        """Return whether a piece with this id and name starts another call, although the server gives it this slot.

        Ollama gives all calls the slot 0. A server may repeat the name in each piece, or make a new id for each.
        """
        if not name or not self.name:
            return False
        if id and self.id:
            return id != self.id
        return is_complete_json("".join(self.pieces))


class ChoiceDraft:
    """One answer under construction. A whole answer is a stream of one chunk; a chunk costs an append."""

    __slots__ = ("_call_ids", "_calls", "_open_type", "_parts", "_pieces", "finish_reason", "holds_objects", "kept")

    def __init__(self, *, kept: bool, call_ids: list[str]) -> None:
        self.kept, self._call_ids = kept, call_ids
        self.holds_objects = False  # whether there is a part that may hold anything, rather than texts alone
        self.finish_reason: str | None = None
        self._parts: list[Any] = []
        self._calls: dict[int, _ToolCallDraft] = {}
        self._open_type: str | None = None  # the type of the last part, if more text may follow
        self._pieces: list[str] = []  # the pieces of that part

    def add_text(self, text: str, kind: Literal["text", "reasoning"] = "text") -> None:
        """Add a piece of text or reasoning; pieces of the same kind become one part."""
        if not self.kept:
            return
        if self._open_type == kind:
            self._pieces.append(text)
            return
        self._join_pieces()
        self._open_type, self._pieces = kind, [text]
        self._parts.append({"type": kind, "content": text})

    def _join_pieces(self) -> None:
        """Join the pieces of the open text into its part."""
        if len(self._pieces) > 1:
            self._parts[-1]["content"] = "".join(self._pieces)
            self._pieces = [self._parts[-1]["content"]]

    def _close_text(self) -> None:
        """Join the open text; the next piece starts a part of its own."""
        self._join_pieces()
        self._open_type, self._pieces = None, []

    def add_tool_call(self, slot: int | None, id: str | None, name: str | None, arguments: str | None) -> None:
        """Add a piece of the tool call in *slot*. The first piece brings the call's name and id.

        Without a slot, a piece with a name starts a call, and any other belongs to the last one.
        """
        if id and id not in self._call_ids:
            self._call_ids.append(id)
        if not self.kept:
            return
        if slot is None:
            slot = -1 - len(self._calls) if name else next(reversed(self._calls), 0)
        call = self._calls.get(slot)
        if call is None or call.is_another(id, name):
            self._close_text()
            call = self._calls[slot] = _ToolCallDraft()
            self._parts.append(call)
        call.id, call.name = call.id or id, call.name or name
        if arguments:
            call.pieces.append(arguments)

    def add_annotations(self, found: list[Any]) -> None:
        """Add citations to the text that they belong to: the last one, or a new one that is empty so far."""
        if not self.kept or not found:
            return
        if self._open_type != "text":
            self.add_text("")
        self._parts[-1].setdefault("annotations", []).extend(found)
        self.holds_objects = True

    def add_part(self, part: Part) -> None:
        """Add a part that arrives whole."""
        if part["type"] == "tool_call" and (id := part.get("id")):
            self._call_ids.append(str(id))
        if self.kept:
            self._close_text()
            self._parts.append(part)
            if part["type"] != "text" or type(part.get("content")) is not str or "annotations" in part:
                self.holds_objects = True

    def get_finish_reason(self) -> str:
        """Return the finish reason, or "error" if none has arrived."""
        return self.finish_reason or "error"

    def build_message(self) -> Message:
        """Return the answer as a message."""
        self._join_pieces()
        calls = self._calls
        parts = (
            [part.build_part() if isinstance(part, _ToolCallDraft) else part for part in self._parts]
            if calls
            else [*self._parts]
        )
        # The message schema has tool_call for OpenAI's tool_calls.
        reason = self.get_finish_reason()
        reason = "tool_call" if reason == "tool_calls" else reason
        return {"role": "assistant", "parts": parts, "finish_reason": reason}


UNTOLD_REASON: Final = "unknown"  # the finish reason of an answer that came whole, of which the library says no reason
_HOLDS_OBJECTS = attrgetter("holds_objects")


class OutputDraft:
    """The output of one call under construction: a draft of each choice, by index.

    Args:
        kept: False to count the choices and their finish reasons only, and to keep no content.
    """

    __slots__ = ("_choices", "call_ids", "kept")

    def __init__(self, *, kept: bool = True) -> None:
        self.kept = kept  # whether content is kept
        self.call_ids: list[str] = []  # of tool calls, even if content is not kept: tools' spans are linked by them
        self._choices: dict[int, ChoiceDraft] = {}

    def get_choice(self, index: int = 0) -> ChoiceDraft:
        """Return the draft of the choice *index*, a new one on first use."""
        draft = self._choices.get(index)
        if draft is None:
            draft = self._choices[index] = ChoiceDraft(kept=self.kept, call_ids=self.call_ids)
        return draft

    def build_messages(self) -> list[Message]:
        """Return one message per choice, in order of index; none if content is not kept."""
        if not self.kept:
            return []
        messages = KeptList(map(ChoiceDraft.build_message, self._list_choices()))
        return [*messages] if any(map(_HOLDS_OBJECTS, self._list_choices())) else messages

    def list_finish_reasons(self) -> list[str] | None:
        """Return one finish reason per choice, "error" if none arrived.

        Return None if there is no choice at all, or if all came whole and none was told a reason.
        """
        told = list(map(ChoiceDraft.get_finish_reason, self._list_choices()))
        return (told if UNTOLD_REASON not in told or len({*told}) > 1 else None) or None

    def _list_choices(self) -> Iterable[ChoiceDraft]:
        return map(self._choices.__getitem__, sorted(self._choices))
