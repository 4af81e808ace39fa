"""Records of calls to models that run in this process: the conventions' kind of their spans is INTERNAL."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from opentelemetry.trace import SpanKind

from .messages import Message
from .records import Chat, Embeddings, ModelCall


class LocalChat(Chat):
    """A generation by a model in this process. One call may have many prompts and many answers.

    It is one span: the prompts of a batch share their passes through the model, so none of them has times of its own.
    Its tokens are those of all prompts and of all answers; there is a message and a finish reason for each answer.
    """

    kind: ClassVar[SpanKind] = SpanKind.INTERNAL
    takes_many: ClassVar[bool] = True
    outer: bool = True
    adds_calls: bool = False  # whether the calls inside are parts of this one; else they help it, as drafting models do

    def merge_inner_calls(self, inner: list[ModelCall]) -> None:
        """Add up the calls inside that are parts of this one. What this call has told itself stays."""
        parts = [call for call in inner if isinstance(call, Chat)] if self.adds_calls else []
        told = {name: value for name, value in vars(self).items() if name in self.attrs and value is not None}
        super().merge_inner_calls([*parts])
        vars(self).update(told)
        for field in ("input_tokens", "output_tokens", "cache_read_tokens"):
            counts = [count for count in (getattr(call, field) for call in parts) if count is not None]
            if counts:
                setattr(self, field, sum(counts))
        if reasons := [reason for call in parts for reason in call.finish_reasons or ()]:
            self.finish_reasons = reasons
            self.output = _tell_reasons(self.output, reasons) if self.output else self.output


def _tell_reasons(messages: list[Message], reasons: Iterable[str]) -> list[Message]:
    """Return *messages* with these finish reasons, if there is one for each; else as they are."""
    reasons = list(reasons)
    if len(reasons) != len(messages):
        return messages
    return [{**message, "finish_reason": reason} for message, reason in zip(messages, reasons, strict=True)]


class LocalEmbeddings(Embeddings):
    """Vectors that a model in this process makes."""

    kind: ClassVar[SpanKind] = SpanKind.INTERNAL
