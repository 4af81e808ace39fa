"""What was said: messages and their parts, ready for JSON, and a draft that grows as chunks arrive.

The shapes are those of the GenAI conventions' message schemas (``gen-ai-input-messages.json`` and its neighbours).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal, TypedDict

import orjson


class Text(TypedDict):
    type: Literal["text"]
    content: str


class Reasoning(TypedDict):
    type: Literal["reasoning"]
    content: str


class ToolCall(TypedDict, total=False):
    type: Literal["tool_call"]
    name: str
    id: str
    arguments: Any


class ToolCallResponse(TypedDict, total=False):
    type: Literal["tool_call_response"]
    response: Any
    id: str


class Blob(TypedDict, total=False):
    type: Literal["blob"]
    modality: str
    content: str  # base64
    mime_type: str


class File(TypedDict, total=False):
    type: Literal["file"]
    modality: str
    file_id: str
    mime_type: str


class Uri(TypedDict, total=False):
    type: Literal["uri"]
    modality: str
    uri: str
    mime_type: str


class Generic(TypedDict):
    """A part that the conventions have no shape for: its own type, and what came with it."""

    type: str
    content: Any


Part = Text | Reasoning | ToolCall | ToolCallResponse | Blob | File | Uri | Generic


class Message(TypedDict, total=False):
    role: str
    parts: list[Part]
    name: str
    finish_reason: str


class ToolDefinition(TypedDict, total=False):
    type: str
    name: str
    description: str
    parameters: Any


def tool_call(name: str, arguments: object = None, id: str | None = None) -> ToolCall:
    """*arguments* as the model gave them: JSON text becomes the object that it stands for, other text stays text."""
    part: ToolCall = {"type": "tool_call", "name": name}
    if id is not None:
        part["id"] = id
    if arguments is not None:
        part["arguments"] = loads(arguments) if isinstance(arguments, str) else arguments
    return part


def tool_call_response(response: object, id: str | None = None) -> ToolCallResponse:
    part: ToolCallResponse = {"type": "tool_call_response", "response": response}
    if id is not None:
        part["id"] = id
    return part


def media(modality: str, url: str) -> Blob | Uri:
    """A data URL becomes a blob with its bytes, any other URL a reference (a ``uri`` part is never a data URL)."""
    if not url.startswith("data:"):
        return {"type": "uri", "modality": modality, "uri": url}
    head, _, content = url[5:].partition(",")
    part: Blob = {"type": "blob", "modality": modality, "content": content}
    if mime_type := head.partition(";")[0]:
        part["mime_type"] = mime_type
    return part


def loads(text: str) -> Any:
    """The value that JSON *text* stands for, or *text* itself where it is no JSON."""
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return text


class Pieces(list[str]):
    """Text that arrives piece by piece."""

    __slots__ = ()


class _Call:
    """A tool call under construction: its arguments arrive in pieces."""

    __slots__ = ("id", "name", "pieces")

    def __init__(self) -> None:
        self.id: str | None = None
        self.name: str | None = None
        self.pieces: list[str] = []

    def part(self) -> Part:
        return tool_call(self.name or "", "".join(self.pieces) or None, self.id)


class Choice:
    """One answer under construction. A whole answer is a stream of one chunk; a chunk costs an append."""

    __slots__ = ("_call_ids", "_calls", "_parts", "_pieces", "_saying", "finish_reason", "kept")

    def __init__(self, *, kept: bool, call_ids: list[str]) -> None:
        self.kept, self._call_ids = kept, call_ids
        self.finish_reason: str | None = None
        self._parts: list[Any] = []
        self._calls: dict[int, _Call] = {}
        self._saying: str | None = None  # the type of the last part, if that is text that may go on
        self._pieces: list[str] = []  # of it

    def say(self, text: str, kind: Literal["text", "reasoning"] = "text") -> None:
        if not self.kept:
            return
        if self._saying == kind:
            self._pieces.append(text)
            return
        self._join()
        self._saying, self._pieces = kind, [text]
        self._parts.append({"type": kind, "content": text})

    def _join(self) -> None:
        """Put the text that has come in pieces into its part."""
        if len(self._pieces) > 1:
            self._parts[-1]["content"] = "".join(self._pieces)
            self._pieces = [self._parts[-1]["content"]]

    def _close(self) -> None:
        self._join()
        self._saying, self._pieces = None, []

    def call(self, slot: int, id: str | None, name: str | None, arguments: str | None) -> None:
        """The next piece of the tool call in *slot*; its name and id come with the first piece."""
        if id:
            self._call_ids.append(id)
        if not self.kept:
            return
        call = self._calls.get(slot)
        if call is None:
            self._close()
            call = self._calls[slot] = _Call()
            self._parts.append(call)
        call.id, call.name = call.id or id, call.name or name
        if arguments:
            call.pieces.append(arguments)

    def add(self, part: Part) -> None:
        """A part that arrives whole."""
        if part["type"] == "tool_call" and (id := part.get("id")):
            self._call_ids.append(str(id))
        if self.kept:
            self._close()
            self._parts.append(part)

    def reason(self) -> str:
        return self.finish_reason or "error"

    def message(self) -> Message:
        self._join()
        calls = self._calls
        parts = [part.part() if isinstance(part, _Call) else part for part in self._parts] if calls else [*self._parts]
        # The schema says tool_call where OpenAI says tool_calls, and error where no reason arrived.
        reason = self.reason()
        reason = "tool_call" if reason == "tool_calls" else reason
        return {"role": "assistant", "parts": parts, "finish_reason": reason}


class Draft:
    """The output choices of one call, under construction."""

    __slots__ = ("_choices", "call_ids", "kept")

    def __init__(self, *, kept: bool = True) -> None:
        self.kept = kept  # False: count the choices and their finish reasons, keep nothing that was said
        self.call_ids: list[str] = []  # of the tool calls, kept or not: they tie a tool's span to this one
        self._choices: dict[int, Choice] = {}

    def choice(self, index: int = 0) -> Choice:
        found = self._choices.get(index)
        if found is None:
            found = self._choices[index] = Choice(kept=self.kept, call_ids=self.call_ids)
        return found

    def messages(self) -> list[Message]:
        return list(map(Choice.message, self._in_order())) if self.kept else []

    def finish_reasons(self) -> list[str] | None:
        """One per choice, "error" where none arrived; None where there is no choice at all."""
        return list(map(Choice.reason, self._in_order())) or None

    def _in_order(self) -> Iterable[Choice]:
        return map(self._choices.__getitem__, sorted(self._choices))
