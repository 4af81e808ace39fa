"""Endpoints for chat completions and for legacy completions: requests, whole answers and chunks."""

from __future__ import annotations

from typing import Any, Final

from ..._shape import get_field, get_fields, get_list, get_nested, get_text, get_told_fields
from ...hooks.openai_format import read_openai_prompt
from ...hooks.requests import PREDICTION_USAGE, REQUEST_PARAMETERS, read_chat_usage, read_usage, set_parameters
from ...tracing.operations import semconv as sc
from ...tracing.operations.message_drafts import ChoiceDraft, OutputDraft
from ...tracing.operations.records import Chat, Observe, sees_errors
from ._chat_messages import observe_message, read_request_messages
from ._read import OpenAIRequest, RequestBody, read_error, read_tool_definitions
from .stream_usage import ask_for_usage, hide_usage


def begin_chat(ask: OpenAIRequest) -> tuple[Chat, Observe[Chat]]:
    """Begin the record of ``POST /chat/completions``."""
    chat = Chat(
        **ask.read_server_fields(),
        draft=OutputDraft(kept=ask.capture_content),
        extra={sc.OPENAI_API_TYPE: "chat_completions"},
    )
    set_chat_request(chat, ask.body, capture_content=ask.capture_content)
    return chat, observe_chat if "stream" not in ask.body else _choose_observer(ask, chat)


def set_chat_request(chat: Chat, body: RequestBody, *, capture_content: bool) -> None:
    """Read the body of a request for a chat completion into *chat*."""
    set_parameters(chat, body, _REQUEST_FIELDS)
    if not _RARE_PARAMETERS.isdisjoint(body):
        _read_rare_parameters(chat, body)
    if capture_content:
        messages = body.get("messages")
        chat.input = read_request_messages(messages if type(messages) is list else get_list(body, "messages"))
        if "tools" in body or "functions" in body:
            chat.tools = read_tool_definitions(body, "tools", "functions")


def begin_completion(ask: OpenAIRequest) -> tuple[Chat, Observe[Chat]]:
    """Begin the record of ``POST /completions``, whose prompts are text or token ids."""
    chat = Chat(operation=sc.TEXT_COMPLETION, **ask.read_server_fields(), draft=OutputDraft(kept=ask.capture_content))
    set_parameters(chat, ask.body, _REQUEST_FIELDS)
    if not _RARE_PARAMETERS.isdisjoint(ask.body):
        _read_rare_parameters(chat, ask.body)
    if ask.capture_content:
        prompt = ask.body.get("prompt")
        prompts = prompt if isinstance(prompt, list) and all(isinstance(one, str) for one in prompt) else [prompt]
        chat.input = [{"role": "user", "parts": [read_openai_prompt(one)]} for one in prompts if one is not None]
    return chat, _choose_observer(ask, chat)


def _choose_observer(ask: OpenAIRequest, chat: Chat) -> Observe[Chat]:
    """Return the observer of the answer; with ``include_usage``, ask for the usage of a stream and hide its chunk."""
    if ask.body.get("stream") is not True:
        return observe_chat
    chat.stream = True
    return _observe_and_hide_usage if ask_for_usage(ask) else observe_chat


_REQUEST_FIELDS: Final = {
    **REQUEST_PARAMETERS,
    "model": ("model", str),
}  # field of the body -> field of the record, and its type
_RARE_PARAMETERS: Final = frozenset(
    {"modalities", "n", "prediction", "response_format", "service_tier", "stop", "verbosity"}
)


def _read_rare_parameters(chat: Chat, body: RequestBody) -> None:
    """Read the parameters that have to be converted; most requests have none of them."""
    if (count := get_nested(body, "n", int)) != 1:
        chat.choice_count = count
    stop = body.get("stop")
    stops = [stop] if isinstance(stop, str) else [text for text in get_list(body, "stop") if isinstance(text, str)]
    chat.stop_sequences = stops or None
    if (tier := get_nested(body, "service_tier", str)) not in {None, "auto"}:
        chat.extra[sc.OPENAI_REQUEST_SERVICE_TIER] = tier
    chat.has_prediction = bool(body.get("prediction"))
    if verbosity := get_nested(body, "verbosity", str):
        chat.extra[sc.REQUEST_VERBOSITY] = verbosity
    if "audio" in get_list(body, "modalities"):
        chat.output_type = "speech"
        if sound := get_nested(body, "audio.format", str):
            chat.sound_type = f"audio/{sound}"
    else:
        kind = get_nested(body, "response_format.type", str)
        chat.output_type = {"json_object": "json", "json_schema": "json", "text": "text"}.get(kind or "")


@sees_errors
def observe_chat(chat: Chat, got: object) -> None:
    """Read a ChatCompletion, a chunk of one, either of them as plain JSON, or an error that carries one."""
    if chat.response_id and append_text_chunk(chat.draft, got):
        return
    if isinstance(got, BaseException):
        got = getattr(got, "completion", None)  # of LengthFinishReasonError and ContentFilterFinishReasonError
    answer = get_fields(got)
    if not chat.response_id:
        _read_head(chat, answer)
    choices = answer.get("choices")
    if isinstance(choices, list):
        for raw in choices:
            choice = get_fields(raw)
            index = choice.get("index")
            _observe_choice(chat.draft.get_choice(index if isinstance(index, int) else 0), choice, chat.sound_type)
            if "usage" in choice or "error" in choice:  # of a compatible server
                _observe_choice_fields(chat, choice)
    if (usage := answer.get("usage")) is not None:
        read_chat_usage(chat, usage)
        if chat.has_prediction:
            read_usage(chat, usage, PREDICTION_USAGE)
    if not _SERVERS_FIELDS.isdisjoint(answer):
        _observe_server_fields(chat, answer)


def _read_head(chat: Chat, answer: RequestBody) -> None:
    """Read what each chunk of an answer tells again: its id, and the model that has answered."""
    for name, field in _ANSWER_FIELDS.items():
        if isinstance(told := answer.get(name), str) and told:
            setattr(chat, field, told)
    for name, attribute in _ANSWER_ATTRIBUTES.items():
        if isinstance(told := answer.get(name), str) and told:
            chat.extra[attribute] = told


_ANSWER_FIELDS: Final = {"id": "response_id", "model": "response_model"}
_ANSWER_ATTRIBUTES: Final = {
    "service_tier": sc.OPENAI_RESPONSE_SERVICE_TIER,
    "system_fingerprint": sc.OPENAI_RESPONSE_SYSTEM_FINGERPRINT,
}
_SERVERS_FIELDS: Final = frozenset({"error", "provider", "x_groq"})  # that only compatible servers send


def _observe_server_fields(chat: Chat, answer: RequestBody) -> None:
    """Read what only compatible servers send: an error in place of an answer, and usage in a place of its own."""
    if error := answer.get("error"):
        chat.failure = read_error(error)
    if upstream := get_text(answer, "provider"):
        chat.extra[sc.RESPONSE_UPSTREAM] = upstream
    if (usage := get_field(answer.get("x_groq"), "usage")) is not None:
        read_chat_usage(chat, usage)


_observe_and_hide_usage: Final = hide_usage(observe_chat)


def append_text_chunk(draft: OutputDraft, got: Any) -> bool:
    """Append a chunk that holds text and nothing else, as nearly all do; return False for any other.

    This takes half the time that reading such a chunk field by field takes. Each model is asked once for all that it
    has: pydantic's models have a ``__getattr__``, which makes every attribute slow to read.
    """
    if type(got) is dict:
        return append_told_text(draft, got)
    try:
        chunk = got.__dict__
        (raw_choice,) = chunk["choices"]
        choice = raw_choice.__dict__
        delta = choice["delta"]
        if (
            chunk["usage"]
            or choice["finish_reason"]
            or delta.__pydantic_fields_set__ != _CONTENT_ALONE
            or delta.__pydantic_extra__
        ):
            return False
        piece, index = delta.__dict__["content"], choice["index"]
        if piece and isinstance(piece, str) and isinstance(index, int):
            draft.append_text(piece, index)
            return True
    except (AttributeError, KeyError, TypeError, ValueError):  # it is no chunk, or has another shape
        pass
    return False


_CONTENT_ALONE: Final = {"content"}


def append_told_text(draft: OutputDraft, got: object) -> bool:
    """Do the same for plain JSON, and for chunks whose fields are all set, most of them to None."""
    answer = get_fields(got)
    raws = answer.get("choices")
    if type(raws) is not list or len(raws) != 1 or any(map(answer.get, _MORE_THAN_TEXT)):
        return False
    choice = get_told_fields(raws[0])
    delta = get_told_fields(choice.get("delta"))
    piece, index = delta.get("content"), choice.get("index")
    if delta.keys() != _CONTENT_ALONE or choice.keys() != _TEXT_CHOICE or type(piece) is not str or not piece:
        return False
    if type(index) is not int:
        return False
    draft.append_text(piece, index)
    return True


_TEXT_CHOICE: Final = {"delta", "index"}
_MORE_THAN_TEXT: Final = frozenset({"usage", *_SERVERS_FIELDS})


def _observe_choice_fields(chat: Chat, choice: RequestBody) -> None:
    """Read what compatible servers put into a choice: OpenRouter an error of the provider behind it, Kimi the usage."""
    if error := choice.get("error"):
        chat.failure = read_error(error)
    if (usage := choice.get("usage")) is not None:
        read_chat_usage(chat, usage)


def _observe_choice(choice: ChoiceDraft, got: RequestBody, sound_type: str | None) -> None:
    """Read one choice of an answer or of a chunk; *sound_type* is the mime type of the sounds in it."""
    if isinstance(reason := got.get("finish_reason"), str):
        choice.finish_reason = reason
    if (said := got.get("delta")) is not None:
        observe_message(choice, said, whole=False)
    elif (said := got.get("message")) is not None:
        observe_message(choice, said, whole=True, mime_type=sound_type)
    elif isinstance(piece := got.get("text"), str):  # a legacy completion
        choice.add_text(piece)
