"""One typed record per kind of operation; each field names the attribute that it becomes, once.

A record holds what is known of a call: the integration's ``begin`` fills what was asked, its ``observe`` what came
back. None means unknown, and becomes no attribute.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal, TypeVar

from opentelemetry.trace import SpanContext, SpanKind

from . import semconv as sc
from .fields import Fields, attr, new
from .messages import Draft, Message, Part, Pieces, ToolDefinition

R = TypeVar("R", bound="Record")

Observe = Callable[[R, Any], object]  # (record, answer or chunk of one); HIDE keeps a chunk from the caller
HIDE = object()


def sees_errors(observe: Observe[R]) -> Observe[R]:
    """Mark an ``observe`` that is also to be given the exception of a call that failed: some carry an answer."""
    observe.sees_errors = True  # type: ignore[attr-defined]
    return observe


class Record(Fields):
    """What every operation has. Its span ends with :attr:`stream_end` set if a stream was left early."""

    kind: ClassVar[SpanKind] = SpanKind.INTERNAL
    linked: ClassVar[bool] = True  # whether one of its kind may have asked for, or been asked for by, another
    stream_end: Literal["closed", "abandoned"] | None = attr(sc.STREAM_END)
    extra: dict[str, Any] = new(dict)  # attributes of one framework only, by their full name
    failure: tuple[str, str] | None = None  # error type and message, where an answer rather than an exception tells

    @property
    def span_name(self) -> str:
        raise NotImplementedError

    def describe(self, attributes: Mapping[str, Any]) -> None:
        """Take over *attributes* by their names: those that we have a field for, and any others."""
        own = {one.name: field for field, one in self.attrs.items()}
        for name, value in attributes.items():
            if name in own:
                setattr(self, own[name], value)
            else:
                self.extra[name] = value

    def settle(self) -> None:
        """Fill the fields that only the end can know."""

    def call_ids(self) -> list[str]:
        """The ids of the tool calls that this asked for."""
        return []

    def causes(self) -> Mapping[str, SpanContext]:
        """Spans elsewhere that led to this, each by the kind of its link."""
        return {}

    def opening(self) -> dict[str, Any]:
        """The attributes of the start."""
        own, said = vars(self), {}
        for field, name in self._starts:
            if (value := own.get(field)) is not None:
                said[name] = value
        return said

    def closing(self) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        """Return content that is yet to be written, other attributes of the end, those of the start as they are now."""
        said: dict[str, Any] = {}
        others: dict[str, Any] = {}
        starts: dict[str, Any] = {}
        attrs, own = self.attrs, vars(self)
        for field, value in own.items():
            if value is not None and field in attrs:
                name, when, _ = attrs[field]
                if when == "end":
                    others[name] = value
                elif when == "start":
                    starts[name] = value
                else:
                    said[name] = value
        if "extra" in own:
            others.update(self.extra)
        return said, others, starts


class ModelCall(Record):
    """A request to a model: what inference and embeddings share."""

    kind: ClassVar[SpanKind] = SpanKind.CLIENT
    operation: str = attr(sc.OPERATION, "start")
    provider: str | None = attr(sc.PROVIDER, "start")
    model: str | None = attr(sc.REQUEST_MODEL, "start")
    server_address: str | None = attr(sc.SERVER_ADDRESS, "start")
    server_port: int | None = attr(sc.SERVER_PORT, "start")
    encoding_formats: list[str] | None = attr(sc.REQUEST_ENCODING_FORMATS)
    response_model: str | None = attr(sc.RESPONSE_MODEL)
    input_tokens: int | None = attr(sc.USAGE_INPUT_TOKENS)
    outer: bool = False  # a framework's: a client's hook below adds what it knows, rather than a span of its own

    @property
    def span_name(self) -> str:
        return f"{self.operation} {self.model}" if self.model else self.operation

    def absorb(self, inner: list[ModelCall]) -> None:
        """Take over what the client's own requests know, which is nearer to the truth; both are settled."""
        for call in inner:
            for name, value in vars(call).items():
                if name in self.attrs and value is not None:
                    setattr(self, name, value)
            self.extra.update(call.extra)


class Chat(ModelCall):
    """One inference, retries of the client included. Token counts are those billed: input includes cached tokens,
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
    """An answer that was made elsewhere or earlier, looked up. It counts no tokens: whoever made it has."""

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
    """Texts turned into vectors; the vectors themselves are never recorded."""

    operation: str = attr(sc.OPERATION, "start", default=sc.EMBEDDINGS)
    dimensions: int | None = attr(sc.EMBEDDINGS_DIMENSION_COUNT)
    input: Any = attr(sc.INPUT, "content")

    def absorb(self, inner: list[ModelCall]) -> None:
        said, counts = self.input, [call.input_tokens for call in inner if call.input_tokens is not None]
        ModelCall.absorb(self, inner)
        self.input = said or self.input  # each request has its batch of the texts alone
        self.input_tokens = sum(counts) if counts else self.input_tokens


class Retrieval(Record):
    """A search in a data source. Documents are dicts with ``id`` and ``score``, and what else the source gives."""

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
    """An operation known by its own name rather than a model's."""

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
    """A run whose control flow the application decides. *name* has few values: no ids in it."""

    operation: str = attr(sc.OPERATION, "start", default=sc.INVOKE_WORKFLOW)
    name: str | None = attr(sc.WORKFLOW_NAME, "start")
    conversation: str | None = attr(sc.CONVERSATION_ID)


class Request(Named):
    """A request to a provider that is no call to a model, such as an upload. *type* says what it is about."""

    kind: ClassVar[SpanKind] = SpanKind.CLIENT
    type: str = attr(sc.KIND, "start", default="request")
    provider: str | None = attr(sc.PROVIDER, "start")
    model: str | None = attr(sc.REQUEST_MODEL, "start")
    server_address: str | None = attr(sc.SERVER_ADDRESS, "start")
    server_port: int | None = attr(sc.SERVER_PORT, "start")


class Step(Named):
    """What has no convention: a chain, a node, a parser, or a function that the user traces. *type* says which."""

    type: str = attr(sc.KIND, "start", default="step")
