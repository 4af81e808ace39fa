"""Spans of the user's own: ``with span(...)``; what ``@trace`` does is in :mod:`.decorator`."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Any, cast

from .._guard import guard
from .operations import semconv as sc
from .operations.agent_records import AgentCreation, Memory, Plan
from .operations.content import as_text, to_attribute, to_plain_data
from .operations.messages import Message
from .operations.operation import Operation, start_operation
from .operations.records import Agent, Chat, Embeddings, Record, Retrieval, Step, Tool, Workflow
from .operations.suppression import is_suppressed
from .runtime import get_runtime

_RECORD_TYPES: dict[str, tuple[type[Record], str]] = {  # kind -> record, and its field for the span's name
    "agent": (Agent, "name"),
    "chat": (Chat, "model"),
    "create_agent": (AgentCreation, "name"),
    "chat_model": (Chat, "model"),
    "embedding": (Embeddings, "model"),
    "embeddings": (Embeddings, "model"),
    "llm": (Chat, "model"),
    "plan": (Plan, "name"),
    "retrieval": (Retrieval, "source"),
    "retriever": (Retrieval, "source"),
    "tool": (Tool, "name"),
    "workflow": (Workflow, "name"),
}


def record_of(name: Any, kind: object) -> Record:
    """Return the record of a span of this kind; what is no text becomes the text of it."""
    name, kind = as_text(name), "step" if kind is None else as_text(kind).lower()
    if kind in sc.MEMORY_OPERATIONS:
        return Memory(operation=kind, store=name)
    found = _RECORD_TYPES.get(kind)
    return Step(name=name, type=kind) if found is None else found[0](**{found[1]: name})


class span:  # noqa: N801  # users read it as a function
    """Record a block of code: ``with span("look up", kind="tool") as looking: ...; looking.output = found``.

    *kind* is ``tool``, ``agent``, ``workflow``, ``retrieval``, ``chat`` or ``embeddings``; MLflow's span types are
    understood too, and so are the conventions' operations for agents and memory: ``create_agent``, ``plan``,
    ``search_memory`` and its kin. *name* is then the name of the tool, agent, workflow, data source, memory store or
    model. Any other word is a step of that kind. A tool whose *attributes* name the call that it answers
    (``gen_ai.tool.call.id``) is linked to the span that requested it. An exception that leaves the block marks the span
    as failed and is raised as usual.
    """

    def __init__(
        self, name: str, kind: str = "step", *, input: object = None, attributes: Mapping[str, object] | None = None
    ) -> None:
        self.record = record_of(name, kind)  # its fields may be set until the block ends
        if attributes:
            with guard("reading a span's attributes"):
                self.record.apply_attributes({as_text(name): to_attribute(it) for name, it in attributes.items()})
        self._operation: Operation | None = None
        self._given: tuple[Any, Any] | None = None  # the caller's own input, and what is recorded of it
        if input is not None:
            self.input = input

    @property
    def input(self) -> Any:
        """The input: any value that JSON can hold; for a chat, text or messages."""
        recorded = getattr(self.record, "input", None)
        return self._given[0] if self._given is not None and self._given[1] is recorded else recorded

    @input.setter
    def input(self, value: object) -> None:
        with guard("reading a span's input"):
            put(self.record, "input", to_plain_data(value))
            self._given = value, getattr(self.record, "input", None)

    @property
    def output(self) -> Any:
        """Return the output, in the same forms as :attr:`input`."""
        return getattr(self.record, "output", None)

    @output.setter
    def output(self, value: object) -> None:
        with guard("reading a span's output"):
            put(self.record, "output", value)

    def __enter__(self) -> span:
        self._operation = begin(self.record)
        if self._operation is not None:
            self._operation.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._operation is not None:
            self._operation.__exit__(kind, error, trace)


def put(record: Record, field: str, value: object) -> None:
    """Set the *field* of a record, ``input`` or ``output``, if it has one."""
    if isinstance(record, Chat):
        value = _to_messages(value, "user" if field == "input" else "assistant")
    if hasattr(record, field):  # embeddings have no output: vectors are not recorded
        setattr(record, field, value)


def _to_messages(value: object, role: str) -> list[Message]:
    """Return *value* as messages: it may be messages already, text, or any other value."""
    kind = type(value)  # isinstance would ask the value itself
    if issubclass(kind, list) and all(map(_is_message, list.__iter__(cast("list[Any]", value)))):
        return cast("list[Message]", value)
    message: Message = {"role": role, "parts": [{"type": "text", "content": cast("str", value)}]}
    if not issubclass(kind, str):
        message["parts"] = [{"type": "json", "content": value}]
    if role == "assistant":
        message["finish_reason"] = "stop"
    return [message]


def _is_message(item: Any) -> bool:
    return issubclass(type(item), dict) and dict.__contains__(item, "parts")


def begin(record: Record, observe: Any = None) -> Operation | None:
    """Start the operation of *record*; return None where nothing is to be recorded."""
    if not is_suppressed():
        with guard("starting a span"):
            if (now := get_runtime()) is not None:
                return start_operation(now, record, observe)
    return None
