"""Records: one typed class per kind of operation, each field of which names its span attribute.

A record holds the known facts of a call. The integration's ``begin`` fills in the request, its ``observe`` the
response. None means unknown, and becomes no attribute.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, TypeVar

from opentelemetry.trace import SpanContext, SpanKind

from . import semconv as sc
from .agent_calls import AgentCalls, CallSums
from .fields import RecordFields, lazy_field, span_attribute
from .links import Cause, Offer
from .message_drafts import OutputDraft, TextPieces
from .messages import Message, Part, ToolDefinition
from .response_proxy import StreamEnd

R = TypeVar("R", bound="Record")

Observe = Callable[[R, Any], object]  # (record, answer or chunk); returns HIDE_CHUNK to hide the chunk from the caller
HIDE_CHUNK = object()


def sees_errors(observe: Observe[R]) -> Observe[R]:
    """Mark *observe* as also taking the exception of a failed call, because some exceptions carry an answer."""
    observe.sees_errors = True  # type: ignore[attr-defined]
    return observe


class Record(RecordFields):
    """The fields of every operation. :attr:`stream_end` is set if a stream was left early."""

    kind: ClassVar[SpanKind] = SpanKind.INTERNAL
    duration_metric: ClassVar[str | None] = None  # the histogram that a call's duration goes to
    can_link: bool = True  # whether there may be links, which most steps of a framework have none of
    stream_end: StreamEnd | None = span_attribute(sc.STREAM_END)
    extra: dict[str, Any] = lazy_field(dict)  # attributes of a single framework, by their full name
    failure: tuple[str, str] | None = None  # error type and message, if the answer itself reports a failure
    causes: list[Cause] = lazy_field(list)
    offers: list[Offer] = lazy_field(list)

    @property
    def span_name(self) -> str:
        """The name of the span, made from the fields known so far."""
        raise NotImplementedError

    def apply_attributes(self, attributes: Mapping[str, object]) -> None:
        """Set *attributes* by their full names: in the field that has the name, else in :attr:`extra`."""
        fields = {attribute.name: field for field, attribute in self.attrs.items()}
        for name, value in attributes.items():
            if name in fields:
                setattr(self, fields[name], value)
            else:
                self.extra[name] = value

    def complete_fields(self) -> None:
        """Fill in the fields that are only known at the end."""

    def add_cause(self, kind: str, origin: SpanContext | str, *, once: bool = False) -> None:
        """Have the span linked to the one that caused this operation.

        Args:
            kind: of the link, such as ``handed_off_by``.
            origin: that span, or the key of an offer of the same kind, which that span's record has made.
            once: whether the offer ends with this operation. It is then looked for in the own trace only.
        """
        self.causes.append(Cause(kind, origin, once))
        self.can_link = True

    def add_offer(self, kind: str, key: str, *, anywhere: bool = True) -> None:
        """Offer *key* to later operations, whose spans are linked to this one if they name it as their cause.

        *anywhere* says whether operations of other traces may do so.
        """
        self.offers.append(Offer(kind, key, anywhere))
        self.can_link = True

    def copy_links(self, other: Record) -> None:
        """Add the causes and the offers that were added to *other*, a record of the same operation."""
        self.causes.extend(other.causes)
        self.offers.extend(other.offers)
        self.can_link = self.can_link or other.can_link

    def list_causes(self) -> Sequence[Cause]:
        """Return what caused this operation."""
        causes: Sequence[Cause] = vars(self).get("causes", ())  # not self.causes, which would make a list
        return causes

    def list_offers(self) -> Sequence[Offer]:
        """Return what later operations may refer to."""
        offers: Sequence[Offer] = vars(self).get("offers", ())
        return offers

    def build_start_attributes(self) -> dict[str, object]:
        """Return the attributes that are written when the span starts, or written anew at the end."""
        values = zip(self._start_names.values(), self.read_start_values(self))  # noqa: B905  # the keyword would double its cost
        return {name: value for name, value in values if value is not None}

    def build_end_attributes(self) -> tuple[dict[str, object], dict[str, object]]:
        """Return content that is yet to be written, and the other attributes of the end."""
        content_names, late_names, values = self._content_names, self._late_names, vars(self)
        content: dict[str, object] = {}
        end: dict[str, object] = {}
        for field in filter(late_names.__contains__, values):  # in C: not each field becomes an attribute
            if (value := values[field]) is not None:
                (content if field in content_names else end)[late_names[field]] = value
        if "extra" in values:
            end.update(self.extra)
        return content, end


class ModelCall(Record):
    """A request to a model: the fields that inference and embeddings share."""

    can_link: bool = False
    duration_metric: ClassVar[str | None] = sc.METRIC_OPERATION_DURATION
    kind: ClassVar[SpanKind] = SpanKind.CLIENT
    operation: str = span_attribute(sc.OPERATION, "start")
    provider: str | None = span_attribute(sc.PROVIDER, "start")
    model: str | None = span_attribute(sc.REQUEST_MODEL, "start")
    server_address: str | None = span_attribute(sc.SERVER_ADDRESS, "start")
    server_port: int | None = span_attribute(sc.SERVER_PORT, "start")
    encoding_formats: list[str] | None = span_attribute(sc.REQUEST_ENCODING_FORMATS)
    response_model: str | None = span_attribute(sc.RESPONSE_MODEL)
    input_tokens: int | None = span_attribute(sc.USAGE_INPUT_TOKENS)
    outer: bool = False  # a framework's call: the client's request inside becomes an inner call, without a span
    takes_many: ClassVar[bool] = (
        False  # whether all such calls inside are parts of this one, or but a first and retries
    )

    name: str | None = None  # the caller's own name of this call
    content_withheld: bool = False  # whether the caller has asked the framework not to record content

    @property
    def span_name(self) -> str:
        return self.name or (f"{self.operation} {self.model}" if self.model else self.operation)

    def merge_inner_calls(self, inner: list[ModelCall]) -> None:
        """Take over the fields of the client's own requests, which are closer to the truth. Both sides are complete."""
        keep = not self.content_withheld
        for call in inner:
            for name, value in vars(call).items():
                if name in self.attrs and value is not None and (keep or self.attrs[name].when != "content"):
                    setattr(self, name, value)
            self.extra.update(call.extra)


class Inference(ModelCall):
    """The output of a model: the fields that an inference and its later fetch share.

    Token counts are those billed: input includes cached tokens, output includes reasoning.
    """

    response_id: str | None = span_attribute(sc.RESPONSE_ID)
    finish_reasons: list[str] | None = span_attribute(sc.RESPONSE_FINISH_REASONS)
    output_tokens: int | None = span_attribute(sc.USAGE_OUTPUT_TOKENS)
    cache_read_tokens: int | None = span_attribute(sc.USAGE_CACHE_READ_INPUT_TOKENS)
    cache_write_tokens: int | None = span_attribute(sc.USAGE_CACHE_WRITE_INPUT_TOKENS)
    reasoning_tokens: int | None = span_attribute(sc.USAGE_REASONING_OUTPUT_TOKENS)
    text_input_tokens: int | None = span_attribute(sc.USAGE_TEXT_INPUT_TOKENS)
    image_input_tokens: int | None = span_attribute(sc.USAGE_IMAGE_INPUT_TOKENS)
    audio_input_tokens: int | None = span_attribute(sc.USAGE_AUDIO_INPUT_TOKENS)
    audio_output_tokens: int | None = span_attribute(sc.USAGE_AUDIO_OUTPUT_TOKENS)
    text_output_tokens: int | None = span_attribute(sc.USAGE_TEXT_OUTPUT_TOKENS)
    image_output_tokens: int | None = span_attribute(sc.USAGE_IMAGE_OUTPUT_TOKENS)
    text_cache_read_tokens: int | None = span_attribute(sc.USAGE_TEXT_CACHE_READ_INPUT_TOKENS)
    image_cache_read_tokens: int | None = span_attribute(sc.USAGE_IMAGE_CACHE_READ_INPUT_TOKENS)
    audio_cache_read_tokens: int | None = span_attribute(sc.USAGE_AUDIO_CACHE_READ_INPUT_TOKENS)
    accepted_prediction_tokens: int | None = span_attribute(sc.USAGE_ACCEPTED_PREDICTION_TOKENS)
    rejected_prediction_tokens: int | None = span_attribute(sc.USAGE_REJECTED_PREDICTION_TOKENS)
    output: list[Message] | None = span_attribute(sc.OUTPUT_MESSAGES, "content")
    draft: OutputDraft = lazy_field(OutputDraft)
    # What the chunks have told and nobody has read yet, and what reads it: all at once, when the answer has ended.
    unread: Any = None
    read_rest: Callable[[Any, Any], None] | None = None

    def complete_fields(self) -> None:
        try:
            self.output = self.draft.build_messages() or self.output
            self.finish_reasons = self.draft.list_finish_reasons() or self.finish_reasons
            if self.unread is not None and self.read_rest is not None:
                self.read_rest(self, self.unread)
        finally:  # an odd answer may fail above, and what is read last may name tool calls
            if self.draft.call_ids:
                self.can_link = True


class Chat(Inference):
    """One inference, including the client's retries. Times are in seconds."""

    sound_type: str | None = None  # the mime type of the sounds that were asked for
    has_prediction: bool = False  # whether the request says what much of the answer will be
    operation: str = span_attribute(sc.OPERATION, "start", default=sc.CHAT)
    conversation: str | None = span_attribute(sc.CONVERSATION_ID)
    previous_response: str | None = span_attribute(sc.REQUEST_PREVIOUS_RESPONSE_ID)
    output_type: str | None = span_attribute(sc.OUTPUT_TYPE)
    choice_count: int | None = span_attribute(sc.REQUEST_CHOICE_COUNT)
    frequency_penalty: float | None = span_attribute(sc.REQUEST_FREQUENCY_PENALTY)
    max_tokens: int | None = span_attribute(sc.REQUEST_MAX_TOKENS)
    presence_penalty: float | None = span_attribute(sc.REQUEST_PRESENCE_PENALTY)
    reasoning_level: str | None = span_attribute(sc.REQUEST_REASONING_LEVEL)
    seed: int | None = span_attribute(sc.REQUEST_SEED)
    stop_sequences: list[str] | None = span_attribute(sc.REQUEST_STOP_SEQUENCES)
    stream: bool | None = span_attribute(sc.REQUEST_STREAM)
    temperature: float | None = span_attribute(sc.REQUEST_TEMPERATURE)
    top_k: int | None = span_attribute(sc.REQUEST_TOP_K)
    top_p: float | None = span_attribute(sc.REQUEST_TOP_P)
    time_to_first_chunk: float | None = span_attribute(sc.RESPONSE_TIME_TO_FIRST_CHUNK)
    system: list[Part] | None = span_attribute(sc.SYSTEM_INSTRUCTIONS, "content")
    input: list[Message] | None = span_attribute(sc.INPUT_MESSAGES, "content")
    tools: list[ToolDefinition] | None = span_attribute(sc.TOOL_DEFINITIONS, "content")
    output_schema: object = span_attribute(sc.OUTPUT_SCHEMA, "content")

    def withhold_content(self) -> None:
        """Record no content of this call, whoever else knows it; tools are still linked to it by their ids."""
        self.content_withheld = True
        self.system = self.input = self.output = self.tools = self.output_schema = None
        self.draft, before = OutputDraft(kept=False), self.draft
        self.draft.call_ids.extend(before.call_ids)

    def list_offers(self) -> Sequence[Offer]:
        """Return the ids of the tool calls that this operation requested, and what was added."""
        if not (call_ids := self.draft.call_ids):  # as for most calls
            added: Sequence[Offer] = vars(self).get("offers", ())
            return added
        return (*(Offer("asked_by", id) for id in call_ids), *super().list_offers())

    def merge_inner_calls(self, inner: list[ModelCall]) -> None:
        ModelCall.merge_inner_calls(self, inner)
        for call in inner:
            self.draft.call_ids.extend(call.draft.call_ids if isinstance(call, Chat) else ())
            self.can_link = self.can_link or call.can_link


class Fetch(Inference):
    """An answer that was produced elsewhere or earlier and is fetched.

    It has token counts only if it is the first to see the end of what this process has asked for; else the call that
    produced the answer has them.
    """

    operation: str = span_attribute(sc.OPERATION, "start", default=sc.FETCH_RESPONSE)
    status: str | None = span_attribute(sc.RESPONSE_STATUS)
    is_first: bool = False  # to see the end of what this process has asked for

    @property
    def span_name(self) -> str:
        return self.operation

    def list_offers(self) -> Sequence[Offer]:
        """Return the ids of the tool calls in the answer, and what was added."""
        again = not self.is_first
        return (*(Offer("asked_by", id, is_repeated=again) for id in self.draft.call_ids), *super().list_offers())


class Embeddings(ModelCall):
    """Texts turned into vectors. The vectors are never recorded."""

    takes_many: ClassVar[bool] = True
    operation: str = span_attribute(sc.OPERATION, "start", default=sc.EMBEDDINGS)
    dimensions: int | None = span_attribute(sc.EMBEDDINGS_DIMENSION_COUNT)
    input: object = span_attribute(sc.INPUT, "content")

    def merge_inner_calls(self, inner: list[ModelCall]) -> None:
        """Take over the fields of the client's requests; each embeds a batch of the texts, so tokens are added up."""
        own_input, counts = self.input, [call.input_tokens for call in inner if call.input_tokens is not None]
        ModelCall.merge_inner_calls(self, inner)
        self.input = own_input or self.input  # a single request has only its batch of the texts
        self.input_tokens = sum(counts) if counts else self.input_tokens


class Retrieval(Record):
    """A search in a data source. Documents are dicts with ``id``, ``score`` and whatever else the source returns."""

    kind: ClassVar[SpanKind] = SpanKind.CLIENT
    operation: str = span_attribute(sc.OPERATION, "start", default=sc.RETRIEVAL)
    source: str | None = span_attribute(sc.DATA_SOURCE_ID, "start")
    provider: str | None = span_attribute(sc.PROVIDER, "start")
    top_k: int | None = span_attribute(sc.RETRIEVAL_TOP_K)
    input: object = span_attribute(sc.RETRIEVAL_QUERY, "content")
    output: Any = span_attribute(sc.RETRIEVAL_DOCUMENTS, "content")

    @property
    def span_name(self) -> str:
        return f"{self.operation} {self.source}" if self.source else self.operation


class NamedRecord(Record):
    """An operation with a name of its own, rather than a model's."""

    can_link: bool = False
    operation: str | None = span_attribute(sc.OPERATION, "start")
    name: str | None = None
    input: object = span_attribute(sc.INPUT, "content")
    output: object = span_attribute(sc.OUTPUT, "content")

    @property
    def span_name(self) -> str:
        return " ".join(filter(None, (self.operation, self.name)))

    def complete_fields(self) -> None:
        if type(self.output) is TextPieces:  # isinstance would ask the value itself
            self.output = "".join(self.output)


class Tool(NamedRecord):
    """A call of a tool."""

    duration_metric: ClassVar[str | None] = sc.METRIC_TOOL_DURATION
    can_link: bool = True
    operation: str = span_attribute(sc.OPERATION, "start", default=sc.EXECUTE_TOOL)
    name: str | None = span_attribute(sc.TOOL_NAME, "start")
    type: str | None = span_attribute(sc.TOOL_TYPE, "start")
    description: str | None = span_attribute(sc.TOOL_DESCRIPTION)
    call_id: str | None = span_attribute(sc.TOOL_CALL_ID)
    agent: str | None = span_attribute(sc.AGENT_NAME, "start")
    input: object = span_attribute(sc.TOOL_CALL_ARGUMENTS, "content")
    output: Any = span_attribute(sc.TOOL_CALL_RESULT, "content")

    def list_causes(self) -> Sequence[Cause]:
        """Return the call's id, which the model's answer offers, and what was added."""
        added = super().list_causes()
        return added if self.call_id is None else (*added, Cause("asked_by", self.call_id))


class Agent(NamedRecord):
    """A turn of an agent that runs in this process: a model drives its control flow."""

    duration_metric: ClassVar[str | None] = sc.METRIC_AGENT_DURATION
    operation: str = span_attribute(sc.OPERATION, "start", default=sc.INVOKE_AGENT)
    name: str | None = span_attribute(sc.AGENT_NAME, "start")
    description: str | None = span_attribute(sc.AGENT_DESCRIPTION)
    conversation: str | None = span_attribute(sc.CONVERSATION_ID)
    model: str | None = span_attribute(sc.REQUEST_MODEL)
    finish_reasons: list[str] | None = span_attribute(sc.RESPONSE_FINISH_REASONS)
    input_tokens: int | None = span_attribute(sc.USAGE_INPUT_TOKENS)
    output_tokens: int | None = span_attribute(sc.USAGE_OUTPUT_TOKENS)
    calls: AgentCalls = lazy_field(AgentCalls)  # of the calls to models in this turn, and in those of agents below
    outer_agent: Agent | None = None
    adds_usage: bool = False  # whether the tokens of the calls are added up

    def note_call(self, call: Record) -> None:
        """Note a call to a model that has ended inside this turn. No lock is taken: this may run in a finalizer."""
        if isinstance(call, Inference):
            facts = call.model, call.finish_reasons, call.input_tokens, call.output_tokens
            self.calls.add_sums(CallSums.from_call(*facts))

    def complete_fields(self) -> None:
        """Fill in what the calls to models of this turn say together."""
        super().complete_fields()
        sums = self.calls.read_sums()
        if sums is None:
            return
        if self.outer_agent is not None:
            self.outer_agent.calls.add_sums(sums)
        if self.model is None and len(sums.models) == 1:
            (self.model,) = sums.models
        self.finish_reasons = self.finish_reasons or sums.finish_reasons
        if self.adds_usage and self.input_tokens is None and self.output_tokens is None:
            self.input_tokens, self.output_tokens = sums.input_tokens, sums.output_tokens
            self.extra[sc.COUNTED_BY] = sc.CALLS_BELOW


class RemoteAgent(Agent):
    """A turn of an agent that runs at a provider."""

    kind: ClassVar[SpanKind] = SpanKind.CLIENT
    id: str | None = span_attribute(sc.AGENT_ID, "start")
    provider: str | None = span_attribute(sc.PROVIDER, "start")
    server_address: str | None = span_attribute(sc.SERVER_ADDRESS, "start")
    server_port: int | None = span_attribute(sc.SERVER_PORT, "start")


class Workflow(NamedRecord):
    """A run whose control flow the application decides. *name* must have few values, so it contains no ids."""

    duration_metric: ClassVar[str | None] = sc.METRIC_WORKFLOW_DURATION
    operation: str = span_attribute(sc.OPERATION, "start", default=sc.INVOKE_WORKFLOW)
    name: str | None = span_attribute(sc.WORKFLOW_NAME, "start")
    conversation: str | None = span_attribute(sc.CONVERSATION_ID)


class ProviderRequest(NamedRecord):
    """A request to a provider that is no call to a model, such as an upload. *type* is what it is about."""

    kind: ClassVar[SpanKind] = SpanKind.CLIENT
    type: str = span_attribute(sc.KIND, "start", default="request")
    provider: str | None = span_attribute(sc.PROVIDER, "start")
    model: str | None = span_attribute(sc.REQUEST_MODEL, "start")
    server_address: str | None = span_attribute(sc.SERVER_ADDRESS, "start")
    server_port: int | None = span_attribute(sc.SERVER_PORT, "start")


class Step(NamedRecord):
    """An operation without a convention: a chain, node, parser, or traced function. *type* is its kind."""

    type: str = span_attribute(sc.KIND, "start", default="step")
