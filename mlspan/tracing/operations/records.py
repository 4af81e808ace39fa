"""Records: one typed class per kind of operation, each field of which names its span attribute.

A record holds the known facts of a call. The integration's ``begin`` fills in the request, its ``observe`` the
response. None means unknown, and becomes no attribute.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal, TypeVar

from opentelemetry.trace import SpanContext, SpanKind

from . import semconv as sc
from .fields import Fields, attr, new
from .messages import Draft, Message, Part, Pieces, ToolDefinition

R = TypeVar("R", bound="Record")

Observe = Callable[[R, Any], object]  # (record, answer or chunk); returns HIDE_CHUNK to hide the chunk from the caller
HIDE = object()


def sees_errors(observe: Observe[R]) -> Observe[R]:
    """Mark *observe* as also taking the exception of a failed call, because some exceptions carry an answer."""
    observe.sees_errors = True  # type: ignore[attr-defined]
    return observe


class Record(Fields):
    """The fields of every operation. :attr:`stream_end` is set if a stream was left early."""

    kind: ClassVar[SpanKind] = SpanKind.INTERNAL
    linked: ClassVar[bool] = True  # whether such an operation may request tool calls, or have links
    stream_end: Literal["closed", "abandoned"] | None = attr(sc.STREAM_END)
    extra: dict[str, Any] = new(dict)  # attributes of a single framework, by their full name
    failure: tuple[str, str] | None = None  # error type and message, if the answer itself reports a failure

    @property
    def span_name(self) -> str:
        """The name of the span, made from the fields known so far."""
        raise NotImplementedError

    def describe(self, attributes: Mapping[str, Any]) -> None:
        """Set *attributes* by their full names: in the field that has the name, else in :attr:`extra`."""
        fields = {attribute.name: field for field, attribute in self.attrs.items()}
        for name, value in attributes.items():
            if name in fields:
                setattr(self, fields[name], value)
            else:
                self.extra[name] = value

    def settle(self) -> None:
        """Fill in the fields that are only known at the end."""

    def call_ids(self) -> list[str]:
        """Return the ids of the tool calls that this operation requested."""
        return []

    def causes(self) -> Mapping[str, SpanContext]:
        """Return spans elsewhere that caused this operation, by the kind of link."""
        return {}

    def opening(self) -> dict[str, Any]:
        """Return the attributes that are written when the span starts."""
        values, attributes = vars(self), {}
        for field, name in self._starts:
            if (value := values.get(field)) is not None:
                attributes[name] = value
        return attributes

    def closing(self) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        """Return content that is yet to be written, other attributes of the end, those of the start as they are now."""
        content: dict[str, Any] = {}
        others: dict[str, Any] = {}
        starts: dict[str, Any] = {}
        attrs, values = self.attrs, vars(self)
        for field, value in values.items():
            if value is not None and field in attrs:
                name, when, _ = attrs[field]
                if when == "end":
                    others[name] = value
                elif when == "start":
                    starts[name] = value
                else:
                    content[name] = value
        if "extra" in values:
            others.update(self.extra)
        return content, others, starts


class ModelCall(Record):
    """A request to a model: the fields that inference and embeddings share."""

    kind: ClassVar[SpanKind] = SpanKind.CLIENT
    operation: str = attr(sc.OPERATION, "start")
    provider: str | None = attr(sc.PROVIDER, "start")
    model: str | None = attr(sc.REQUEST_MODEL, "start")
    server_address: str | None = attr(sc.SERVER_ADDRESS, "start")
    server_port: int | None = attr(sc.SERVER_PORT, "start")
    encoding_formats: list[str] | None = attr(sc.REQUEST_ENCODING_FORMATS)
    response_model: str | None = attr(sc.RESPONSE_MODEL)
    input_tokens: int | None = attr(sc.USAGE_INPUT_TOKENS)
    outer: bool = False  # a framework's call: the client's request inside becomes an inner call, without a span

    @property
    def span_name(self) -> str:
        return f"{self.operation} {self.model}" if self.model else self.operation

    def absorb(self, inner: list[ModelCall]) -> None:
        """Take over the fields of the client's own requests, which are closer to the truth. Both sides are complete."""
        for call in inner:
            for name, value in vars(call).items():
                if name in self.attrs and value is not None:
                    setattr(self, name, value)
            self.extra.update(call.extra)


class Chat(ModelCall):
    """One inference, including the client's retries. Token counts are those billed: input includes cached tokens,
    output includes reasoning. Times are in seconds.
    """

    operation: str = attr(sc.OPERATION, "start", default=sc.CHAT)
    conversation: str | None = attr(sc.CONVERSATION_ID)
    previous_response: str | None = attr(sc.REQUEST_PREVIOUS_RESPONSE_ID)
    output_type: str | None = attr(sc.OUTPUT_TYPE)
    choice_count: int | None = attr(sc.REQUEST_CHOICE_COUNT)
    frequency_penalty: float | None = attr(sc.REQUEST_FREQUENCY_PENALTY)
    max_tokens: int | None = attr(sc.REQUEST_MAX_TOKENS)
    presence_penalty: float | None = attr(sc.REQUEST_PRESENCE_PENALTY)
    reasoning_level: str | None = attr(sc.REQUEST_REASONING_LEVEL)
    seed: int | None = attr(sc.REQUEST_SEED)
    stop_sequences: list[str] | None = attr(sc.REQUEST_STOP_SEQUENCES)
    stream: bool | None = attr(sc.REQUEST_STREAM)
    temperature: float | None = attr(sc.REQUEST_TEMPERATURE)
    top_k: int | None = attr(sc.REQUEST_TOP_K)
    top_p: float | None = attr(sc.REQUEST_TOP_P)
    response_id: str | None = attr(sc.RESPONSE_ID)
    finish_reasons: list[str] | None = attr(sc.RESPONSE_FINISH_REASONS)
    time_to_first_chunk: float | None = attr(sc.RESPONSE_TIME_TO_FIRST_CHUNK)
    output_tokens: int | None = attr(sc.USAGE_OUTPUT_TOKENS)
    cache_read_tokens: int | None = attr(sc.USAGE_CACHE_READ_INPUT_TOKENS)
    cache_write_tokens: int | None = attr(sc.USAGE_CACHE_WRITE_INPUT_TOKENS)
    reasoning_tokens: int | None = attr(sc.USAGE_REASONING_OUTPUT_TOKENS)
    text_input_tokens: int | None = attr(sc.USAGE_TEXT_INPUT_TOKENS)
    image_input_tokens: int | None = attr(sc.USAGE_IMAGE_INPUT_TOKENS)
    audio_input_tokens: int | None = attr(sc.USAGE_AUDIO_INPUT_TOKENS)
    audio_output_tokens: int | None = attr(sc.USAGE_AUDIO_OUTPUT_TOKENS)
    system: list[Part] | None = attr(sc.SYSTEM_INSTRUCTIONS, "content")
    input: list[Message] | None = attr(sc.INPUT_MESSAGES, "content")
    output: list[Message] | None = attr(sc.OUTPUT_MESSAGES, "content")
    tools: list[ToolDefinition] | None = attr(sc.TOOL_DEFINITIONS, "content")
    draft: Draft = new(Draft)

    def settle(self) -> None:
        self.output = self.draft.messages() or self.output
        self.finish_reasons = self.draft.finish_reasons() or self.finish_reasons

    def call_ids(self) -> list[str]:
        return self.draft.call_ids

    def absorb(self, inner: list[ModelCall]) -> None:
        ModelCall.absorb(self, inner)
        for call in inner:
            self.draft.call_ids.extend(call.call_ids())


class Fetch(ModelCall):
    """An answer that was produced elsewhere or earlier and is fetched.

    It has no token counts: the call that produced it has them.
    """

    operation: str = attr(sc.OPERATION, "start", default=sc.FETCH_RESPONSE)
    response_id: str | None = attr(sc.RESPONSE_ID)
    status: str | None = attr(sc.RESPONSE_STATUS)
    finish_reasons: list[str] | None = attr(sc.RESPONSE_FINISH_REASONS)
    output: list[Message] | None = attr(sc.OUTPUT_MESSAGES, "content")
    draft: Draft = new(Draft)

    @property
    def span_name(self) -> str:
        return self.operation

    def settle(self) -> None:
        self.output = self.draft.messages() or self.output


class Embeddings(ModelCall):
    """Texts turned into vectors. The vectors are never recorded."""

    operation: str = attr(sc.OPERATION, "start", default=sc.EMBEDDINGS)
    dimensions: int | None = attr(sc.EMBEDDINGS_DIMENSION_COUNT)
    input: Any = attr(sc.INPUT, "content")

    def absorb(self, inner: list[ModelCall]) -> None:
        """Take over the fields of the client's requests; each embeds a batch of the texts, so tokens are added up."""
        own_input, counts = self.input, [call.input_tokens for call in inner if call.input_tokens is not None]
        ModelCall.absorb(self, inner)
        self.input = own_input or self.input  # a single request has only its batch of the texts
        self.input_tokens = sum(counts) if counts else self.input_tokens


class Retrieval(Record):
    """A search in a data source. Documents are dicts with ``id``, ``score`` and whatever else the source returns."""

    kind: ClassVar[SpanKind] = SpanKind.CLIENT
    operation: str = attr(sc.OPERATION, "start", default=sc.RETRIEVAL)
    source: str | None = attr(sc.DATA_SOURCE_ID, "start")
    provider: str | None = attr(sc.PROVIDER, "start")
    top_k: int | None = attr(sc.RETRIEVAL_TOP_K)
    input: Any = attr(sc.RETRIEVAL_QUERY, "content")
    output: Any = attr(sc.RETRIEVAL_DOCUMENTS, "content")

    @property
    def span_name(self) -> str:
        return f"{self.operation} {self.source}" if self.source else self.operation


class Named(Record):
    """An operation with a name of its own, rather than a model's."""

    linked: ClassVar[bool] = False
    operation: str | None = attr(sc.OPERATION, "start")
    name: str | None = None
    input: Any = attr(sc.INPUT, "content")
    output: Any = attr(sc.OUTPUT, "content")

    @property
    def span_name(self) -> str:
        return " ".join(filter(None, (self.operation, self.name)))

    def settle(self) -> None:
        if isinstance(self.output, Pieces):
            self.output = "".join(self.output)


class Tool(Named):
    """A call of a tool."""

    linked: ClassVar[bool] = True
    operation: str = attr(sc.OPERATION, "start", default=sc.EXECUTE_TOOL)
    name: str | None = attr(sc.TOOL_NAME, "start")
    type: str | None = attr(sc.TOOL_TYPE, "start")
    description: str | None = attr(sc.TOOL_DESCRIPTION)
    call_id: str | None = attr(sc.TOOL_CALL_ID)
    agent: str | None = attr(sc.AGENT_NAME, "start")
    input: Any = attr(sc.TOOL_CALL_ARGUMENTS, "content")
    output: Any = attr(sc.TOOL_CALL_RESULT, "content")


class Agent(Named):
    """A turn of an agent that runs in this process: a model drives its control flow."""

    operation: str = attr(sc.OPERATION, "start", default=sc.INVOKE_AGENT)
    name: str | None = attr(sc.AGENT_NAME, "start")
    description: str | None = attr(sc.AGENT_DESCRIPTION)
    conversation: str | None = attr(sc.CONVERSATION_ID)


class Workflow(Named):
    """A run whose control flow the application decides. *name* must have few values, so it contains no ids."""

    operation: str = attr(sc.OPERATION, "start", default=sc.INVOKE_WORKFLOW)
    name: str | None = attr(sc.WORKFLOW_NAME, "start")
    conversation: str | None = attr(sc.CONVERSATION_ID)


class Request(Named):
    """A request to a provider that is no call to a model, such as an upload. *type* is what it is about."""

    kind: ClassVar[SpanKind] = SpanKind.CLIENT
    type: str = attr(sc.KIND, "start", default="request")
    provider: str | None = attr(sc.PROVIDER, "start")
    model: str | None = attr(sc.REQUEST_MODEL, "start")
    server_address: str | None = attr(sc.SERVER_ADDRESS, "start")
    server_port: int | None = attr(sc.SERVER_PORT, "start")


class Step(Named):
    """An operation without a convention: a chain, node, parser, or traced function. *type* is its kind."""

    type: str = attr(sc.KIND, "start", default="step")
