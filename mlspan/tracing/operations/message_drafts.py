"""Drafts of messages, which grow as the chunks of an answer arrive."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, Literal

from .messages import Message, Part, ReasoningPart, TextPart, is_complete_json, make_tool_call
from .plain_values import KeptList


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


class TextDraft:
    """A block of text or reasoning under construction, whose pieces may arrive between those of other blocks."""

    __slots__ = ("annotations", "kind", "pieces")

    def __init__(self, kind: Literal["text", "reasoning"]) -> None:
        self.kind = kind
        self.pieces: list[str] = []
        self.annotations: list[Any] = []

    def build_part(self) -> TextPart | ReasoningPart:
        """Return the text so far, with its citations."""
        content = "".join(self.pieces)
        if self.kind == "reasoning":
            return {"type": "reasoning", "content": content}
        part: TextPart = {"type": "text", "content": content}
        if self.annotations:
            part["annotations"] = self.annotations
        return part


class ChoiceDraft:
    """One answer under construction. A whole answer is a stream of one chunk; a chunk costs an append."""

    __slots__ = (
        "_call_ids",
        "_calls",
        "_parts",
        "_texts",
        "finish_reason",
        "holds_objects",
        "kept",
        "open_type",
        "pieces",
    )

    def __init__(self, *, kept: bool, call_ids: list[str]) -> None:
        self.kept, self._call_ids = kept, call_ids
        self.holds_objects = False  # whether there is a part that may hold anything, rather than texts alone
        self.finish_reason: str | None = None
        self._parts: list[Any] = []
        self._calls: dict[int, _ToolCallDraft] = {}
        self._texts: dict[int, TextDraft] = {}
        self.open_type: str | None = None  # the type of the last part, if more text may follow
        self.pieces: list[str] = []  # the pieces of that part

    def add_text(self, text: str, kind: Literal["text", "reasoning"] = "text") -> None:
        """Add a piece of text or reasoning; pieces of the same kind become one part."""
        if not self.kept:
            return
        if self.open_type == kind:
            self.pieces.append(text)
            return
        if len(self.pieces) > 1:
            self._join_pieces()
        self.open_type, self.pieces = kind, [text]
        self._parts.append({"type": kind, "content": text})

    def _join_pieces(self) -> None:
        """Join the pieces of the open text into its part."""
        if len(self.pieces) > 1:
            self._parts[-1]["content"] = "".join(self.pieces)
            self.pieces = [self._parts[-1]["content"]]

    def _close_text(self) -> None:
        """Join the open text; the next piece starts a part of its own."""
        self._join_pieces()
        self.open_type, self.pieces = None, []

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

    def open_text(self, slot: int, kind: Literal["text", "reasoning"]) -> None:
        """Open the block in *slot*: its pieces are one text, which keeps its place among the parts."""
        if self.kept and slot not in self._texts:
            self._close_text()
            self._texts[slot] = TextDraft(kind)
            self._parts.append(self._texts[slot])

    def add_block_text(self, slot: int, text: str, kind: Literal["text", "reasoning"] = "text") -> None:
        """Add a piece to the block in *slot*; where no block was opened, to the last text."""
        if slot in self._texts:
            self._texts[slot].pieces.append(text)
        else:
            self.add_text(text, kind)

    def add_block_annotation(self, slot: int, found: object) -> None:
        """Add a citation to the block in *slot*; where no block was opened, to the last text."""
        if slot in self._texts:
            self._texts[slot].annotations.append(found)
            self.holds_objects = True
        else:
            self.add_annotations([found])

    def add_annotations(self, found: list[Any]) -> None:
        """Add citations to the text that they belong to: the last one, or a new one that is empty so far."""
        if not self.kept or not found:
            return
        if self.open_type != "text":
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

    def has_text(self) -> bool:
        """Return whether any text of the answer is kept; reasoning is none."""
        return any(
            (part.kind if isinstance(part, TextDraft) else part["type"]) == "text"
            for part in self._parts
            if not isinstance(part, _ToolCallDraft)
        )

    def _build_parts(self) -> list[Part]:
        """Return the parts, drafts built. Blocks of text next to each other are one, unless one of them is cited."""
        parts: list[Any] = []
        is_open = False  # whether the last part is a block that the next may continue
        for draft in self._parts:
            part: Any = draft.build_part() if isinstance(draft, (_ToolCallDraft, TextDraft)) else draft
            if not isinstance(draft, TextDraft):
                parts.append(part)
                is_open = False
            elif part["content"] or draft.annotations:
                if is_open and not draft.annotations and parts[-1]["type"] == part["type"]:
                    part = {**part, "content": parts.pop()["content"] + part["content"]}
                parts.append(part)
                is_open = not draft.annotations
        return parts

    def build_message(self) -> Message:
        """Return the answer as a message."""
        if len(self.pieces) > 1:
            self._join_pieces()
        parts = self._build_parts() if self._calls or self._texts else [*self._parts]
        # The message schema has tool_call for OpenAI's tool_calls.
        reason = self.finish_reason or _NO_REASON
        return {
            "role": "assistant",
            "parts": parts,
            "finish_reason": "tool_call" if reason == "tool_calls" else reason,
        }


UNTOLD_REASON: Final = "unknown"  # the finish reason of an answer that came whole, of which the library says no reason
_NO_REASON: Final = "error"  # the finish reason of an answer that has brought none


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

    def append_text(self, text: str, index: int = 0) -> None:
        """Add a piece of text to the choice *index*, as its ``add_text`` does: quickly where text is open."""
        choice = self._choices.get(index)
        if choice is not None and choice.open_type == "text":
            choice.pieces.append(text)
        else:
            self.get_choice(index).add_text(text)

    def continue_text(self, text: str) -> bool:
        """Append a piece to the open text of the first choice; return False, and do nothing, where none is open.

        Of a choice whose content is not kept, nothing is there to be opened.
        """
        choice = self._choices.get(0)
        if choice is None:
            return False
        if choice.open_type == "text":
            choice.pieces.append(text)
            return True
        return not choice.kept

    def build_messages(self) -> list[Message]:
        """Return one message per choice, in order of index; none if content is not kept."""
        if not self.kept:
            return []
        messages, holds_objects = KeptList(), False
        for choice in self._choices.values() if len(self._choices) < 2 else self._list_in_order():
            messages.append(choice.build_message())
            holds_objects = holds_objects or choice.holds_objects
        return [*messages] if holds_objects else messages

    def list_finish_reasons(self) -> list[str] | None:
        """Return one finish reason per choice, "error" if none arrived.

        Return None if there is no choice at all, or if all came whole and none was told a reason.
        """
        if len(self._choices) == 1:  # as nearly always
            for choice in self._choices.values():
                reason = choice.finish_reason or _NO_REASON
                return None if reason == UNTOLD_REASON else [reason]
        told = [choice.finish_reason or _NO_REASON for choice in self._list_in_order()]
        return (told if UNTOLD_REASON not in told or len({*told}) > 1 else None) or None

    def _list_in_order(self) -> Iterable[ChoiceDraft]:
        return map(self._choices.__getitem__, sorted(self._choices))
