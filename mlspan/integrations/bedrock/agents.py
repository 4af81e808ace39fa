"""Agents, knowledge bases, guardrails and rerankings: the operations of Bedrock that are no plain call of a model."""

from __future__ import annotations

from typing import Any

from ..._shape import get_field, get_list, get_nested
from ...hooks.call import Call
from ...hooks.requests import FieldMapping, set_parameters
from ...tracing.operations import semconv as sc
from ...tracing.operations.message_drafts import UNTOLD_REASON, OutputDraft, TextPieces
from ...tracing.operations.records import Chat, Observe, ProviderRequest, Record, RemoteAgent, Retrieval, sees_errors
from ._request import INTERVENED, BedrockRequest, note_guardrail, read_metadata, read_service_error
from .contents import make_plain, read_blocks

_PARAMETERS: FieldMapping = {
    "maxTokens": ("max_tokens", int),
    "temperature": ("temperature", float),
    "topP": ("top_p", float),
}


def begin_agent(call: Call) -> tuple[RemoteAgent, Observe[RemoteAgent]]:
    """Begin the record of a turn of an agent, one that Bedrock knows or one that the request describes."""
    ask = BedrockRequest.from_call(call)
    agent = RemoteAgent(
        id=get_nested(ask.params, "agentId", str),
        name=get_nested(ask.params, "agentName", str),
        conversation=get_nested(ask.params, "sessionId", str),
        **ask.read_server_fields(),
    )
    ask.set_texts(agent, agent_version="agentAliasId", guardrail="guardrailConfiguration.guardrailIdentifier")
    if model := get_nested(ask.params, "foundationModel", str):
        agent.extra[sc.REQUEST_MODEL] = model
    if ask.capture_content:
        results = get_nested(ask.params, "sessionState.returnControlInvocationResults", list)
        agent.input = get_nested(ask.params, "inputText", str) or make_plain(results)
    return agent, observe_agent


@sees_errors
def observe_agent(agent: RemoteAgent, got: object) -> None:
    """Read the client's dict, an event of the agent's stream, or an error."""
    if isinstance(got, Exception):
        read_service_error(agent, got)
    elif not isinstance(got, dict):
        return
    elif isinstance(data := get_field(got.get("chunk"), "bytes"), bytes):
        _add_agent_text(agent, data.decode("utf-8", "replace"))
    elif (asked := got.get("returnControl")) is not None:
        _add_agent_field(agent, "returnControl", make_plain(asked))
    elif files := get_nested(got, "files.files", list):
        _add_agent_field(agent, "files", make_plain(files))
    elif (trace := got.get("trace")) is not None:
        _read_agent_trace(agent, get_field(trace, "trace"))
    read_metadata(agent, got.get("ResponseMetadata") if isinstance(got, dict) else None)


def _add_agent_text(agent: RemoteAgent, piece: str) -> None:
    """Add a piece to the agent's answer: the output itself, or its ``text`` where the agent gives more than that."""
    output: Any = agent.output
    if isinstance(output, dict):
        output["text"] = output.get("text", "") + piece
    else:
        agent.output = output if type(output) is TextPieces else TextPieces()
        agent.output.append(piece)


def _add_agent_field(agent: RemoteAgent, name: str, value: Any) -> None:
    """Add to what the agent gives besides text; files may come in several events."""
    output: Any = agent.output
    if not isinstance(output, dict):
        agent.output = output = {"text": "".join(output)} if type(output) is TextPieces else {}
    before = output.get(name)
    output[name] = [*before, *value] if isinstance(before, list) and isinstance(value, list) else value


def _read_agent_trace(agent: RemoteAgent, trace: object) -> None:
    """Add up the tokens of the agent's calls to models, which a request with ``enableTrace`` gets told one by one.

    A guardrail is told of each text that it sees: what it has stopped counts more than what it has let pass.
    """
    action = get_nested(trace, "guardrailTrace.action", str)
    if action is not None and agent.extra.get(sc.GUARDRAIL_ACTION) not in INTERVENED:
        agent.extra[sc.GUARDRAIL_ACTION] = action
    for step in trace.values() if isinstance(trace, dict) else ():
        if model := get_nested(step, "modelInvocationInput.foundationModel", str):
            same = agent.extra.setdefault(sc.REQUEST_MODEL, model) == model
            agent.extra[sc.REQUEST_MODEL] = model if same else "several"  # of which nobody knows one price
        usage = get_nested(step, "modelInvocationOutput.metadata.usage", dict)
        counts = ((sc.USAGE_INPUT_TOKENS, "inputTokens"), (sc.USAGE_OUTPUT_TOKENS, "outputTokens"))
        for attribute, name in counts:
            if tokens := get_nested(usage, name, int):
                agent.extra[attribute] = agent.extra.get(attribute, 0) + tokens


def begin_retrieve(call: Call) -> tuple[Retrieval, Observe[Retrieval]]:
    """Begin the record of a search in a knowledge base."""
    ask = BedrockRequest.from_call(call)
    server = ask.read_server_fields()
    record = Retrieval(source=get_nested(ask.params, "knowledgeBaseId", str), provider=server["provider"])
    record.apply_attributes({sc.SERVER_ADDRESS: server["server_address"], sc.SERVER_PORT: server["server_port"]})
    ask.set_texts(record, knowledge_base="knowledgeBaseId", guardrail="guardrailConfiguration.guardrailId")
    configuration = get_nested(ask.params, "retrievalConfiguration", dict) or {}
    for search in configuration.values():
        record.top_k = get_nested(search, "numberOfResults", int) or record.top_k
    if ask.capture_content:
        record.input = get_nested(ask.params, "retrievalQuery.text", str)
    return record, observe_documents


@sees_errors
def observe_documents(record: Retrieval, got: object) -> None:
    """Read the documents that were found, or an error."""
    if isinstance(got, Exception):
        read_service_error(record, got)
        return
    read_metadata(record, get_field(got, "ResponseMetadata"))
    record.output = [_read_retrieved_chunk(found) for found in get_list(got, "retrievalResults")]


def _read_retrieved_chunk(found: object) -> dict[str, Any]:
    """Return a document: its id is that of its chunk, or the place where it lies."""
    known: dict[str, Any] = make_plain(found) if isinstance(found, dict) else {}
    metadata, location = get_field(found, "metadata"), get_nested(found, "location", dict) or {}
    places = [one for place in location.values() if isinstance(place, dict) for one in place.values()]
    ids = [get_field(metadata, "x-amz-bedrock-kb-chunk-id"), known.get("documentId"), *places]
    score = get_nested(found, "score", float)
    return {
        **known,
        "id": next((id for id in ids if isinstance(id, str)), ""),
        "score": 0.0 if score is None else score,
    }


def begin_generate(call: Call, *, stream: bool | None = None) -> tuple[Chat, Observe[Chat]]:
    """Begin the record of an answer that is made of what a knowledge base, or given documents, say."""
    ask = BedrockRequest.from_call(call)
    configuration = get_nested(ask.params, "retrieveAndGenerateConfiguration", dict) or {}
    used = configuration.get("knowledgeBaseConfiguration") or configuration.get("externalSourcesConfiguration")
    chat = Chat(
        model=get_nested(used, "modelArn", str),
        conversation=get_nested(ask.params, "sessionId", str),
        stream=stream,
        draft=OutputDraft(kept=ask.capture_content),
        **ask.read_server_fields(),
    )
    inference = "generationConfiguration.inferenceConfig.textInferenceConfig"
    set_parameters(chat, get_nested(used, inference, dict) or {}, _PARAMETERS)
    above = "retrieveAndGenerateConfiguration.knowledgeBaseConfiguration"
    guardrail = f"{above}.generationConfiguration.guardrailConfiguration.guardrailId"
    ask.set_texts(chat, knowledge_base=f"{above}.knowledgeBaseId", guardrail=guardrail)
    if ask.capture_content and (text := get_nested(ask.params, "input.text", str)):
        chat.input = [{"role": "user", "parts": [{"type": "text", "content": text}]}]
    return chat, observe_generated


def begin_generate_stream(call: Call) -> tuple[Chat, Observe[Chat]]:
    """Begin the record of a generated answer that is streamed."""
    return begin_generate(call, stream=True)


@sees_errors
def observe_generated(chat: Chat, got: object) -> None:
    """Read a whole answer, an event of a stream, or an error; nobody says why an answer has ended."""
    if isinstance(got, Exception):
        read_service_error(chat, got)
        return
    chat.conversation = get_nested(got, "sessionId", str) or chat.conversation
    read_metadata(chat, get_field(got, "ResponseMetadata"))
    if (text := get_nested(got, "output.text", str)) is not None:
        choice = chat.draft.get_choice()
        choice.add_text(text)
        choice.finish_reason = choice.finish_reason or UNTOLD_REASON
    cited = [get_field(got, "citation"), *get_list(got, "citations")]
    for citation in cited:
        if citation is not None:
            chat.draft.get_choice().add_annotations([make_plain(citation)])
    note_guardrail(chat, get_field(got, "guardrailAction") or get_nested(got, "guardrail.action", str))


def begin_guardrail(call: Call) -> tuple[ProviderRequest, Observe[Record]]:
    """Begin the record of texts that are held against a guardrail."""
    ask = BedrockRequest.from_call(call)
    record = ProviderRequest(type="guardrail", name="apply_guardrail", **ask.read_server_fields())
    ask.set_texts(record, guardrail="guardrailIdentifier")
    if ask.capture_content:
        record.input = read_blocks(ask.params.get("content"))
    return record, observe_request


def begin_rerank(call: Call) -> tuple[ProviderRequest, Observe[Record]]:
    """Begin the record of documents that are put in another order."""
    ask = BedrockRequest.from_call(call)
    chosen = "rerankingConfiguration.bedrockRerankingConfiguration.modelConfiguration.modelArn"
    model = get_nested(ask.params, chosen, str)
    record = ProviderRequest(type="reranker", name="rerank", model=model, **ask.read_server_fields())
    if ask.capture_content:
        record.input = {name: make_plain(ask.params.get(name)) for name in ("queries", "sources")}
    return record, observe_request


@sees_errors
def observe_request(record: Any, got: object) -> None:
    """Read what a guardrail or a reranker answers, or an error."""
    if isinstance(got, Exception):
        read_service_error(record, got)
    elif isinstance(got, dict):
        read_metadata(record, got.get("ResponseMetadata"))
        record.output = {name: make_plain(value) for name, value in got.items() if name != "ResponseMetadata"}
        if action := get_nested(got, "action", str):
            record.extra[sc.GUARDRAIL_ACTION] = action
