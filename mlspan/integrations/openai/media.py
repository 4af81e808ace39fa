"""Endpoints for embeddings, pictures, sounds, moderations and decisions.

Vectors are never recorded. Pictures and sounds are recorded by their sizes; ``log_images=True`` records generated
pictures themselves.
"""

from __future__ import annotations

from typing import Final

from ..._shape import get_field, get_list, get_nested, is_a
from ...hooks.openai_format import dump_model
from ...hooks.requests import read_usage, set_parameters
from ...tracing.operations import semconv as sc
from ...tracing.operations.message_drafts import OutputDraft
from ...tracing.operations.messages import Part
from ...tracing.operations.raw_response import BodySize
from ...tracing.operations.records import Chat, Embeddings, Observe, ProviderRequest
from ._items import read_input_messages
from ._read import OpenAIRequest, describe_sent_files
from ._response_state import RESPONSE_USAGE


def begin_embeddings(ask: OpenAIRequest) -> tuple[Embeddings, Observe[Embeddings]]:
    """Begin the record of ``POST /embeddings``."""
    record = Embeddings(
        **ask.read_server_fields(),
        model=get_nested(ask.body, "model", str),
        dimensions=get_nested(ask.body, "dimensions", int),
    )
    if encoding := get_nested(ask.body, "encoding_format", str):
        record.encoding_formats = [encoding]
    if ask.capture_content:
        record.input = ask.body.get("input")
    return record, observe_embeddings


def observe_embeddings(record: Embeddings, got: object) -> None:
    """Read the model, the tokens, and the length of the first vector."""
    record.response_model = get_nested(got, "model", str) or record.response_model
    read_usage(record, get_field(got, "usage"), {"prompt_tokens": "input_tokens"})
    if vectors := get_list(got, "data"):
        vector = get_field(vectors[0], "embedding")
        # Four characters of base64 are three bytes, and a number takes four bytes.
        record.dimensions = len(vector) * 3 // 16 if isinstance(vector, str) else len(vector) if vector else None


def begin_images(ask: OpenAIRequest) -> tuple[Chat, Observe[Chat]]:
    """Begin the record of ``POST /images/generations``, ``/images/edits`` or ``/images/variations``."""
    body = ask.body
    record = Chat(
        operation=sc.GENERATE_CONTENT,
        **ask.read_server_fields(),
        model=get_nested(body, "model", str),
        output_type="image",
        draft=OutputDraft(kept=ask.capture_content),
        stream=True if body.get("stream") is True else None,
        extra={f"mlspan.image.{name}": body[name] for name in _IMAGE_OPTIONS if isinstance(body.get(name), str)},
    )
    if (wanted := get_nested(body, "n", int)) != 1:
        record.choice_count = wanted
    if ask.capture_content:
        prompt = get_nested(body, "prompt", str)
        parts: list[Part] = [{"type": "text", "content": prompt}] if prompt else []
        parts += [
            {"type": name, "content": sent} for name, all_ in describe_sent_files(ask.options).items() for sent in all_
        ]
        record.input = [{"role": "user", "parts": parts}]
    return record, _observe_images_with_content if ask.autolog_options.get("log_images") else _observe_images


_IMAGE_OPTIONS: Final = ("background", "output_format", "quality", "size", "style")


def _observe_images_with_content(record: Chat, got: object) -> None:
    """Read generated pictures, and record them themselves."""
    _observe_images(record, got, whole=True)


def _observe_images(record: Chat, got: object, *, whole: bool = False) -> None:
    """Read generated pictures or an event of their stream; without *whole*, record their sizes alone."""
    kind = get_nested(got, "type", str)
    if kind is not None and kind.endswith(".partial_image"):
        return
    mime_type = f"image/{get_nested(got, 'output_format', str) or 'png'}"
    for index, picture in enumerate(get_list(got, "data") or ([got] if kind is not None else [])):
        choice = record.draft.get_choice(index)
        choice.finish_reason = "stop"
        if revised := get_nested(picture, "revised_prompt", str):
            choice.add_text(revised)
        if url := get_nested(picture, "url", str):
            choice.add_part({"type": "uri", "modality": "image", "uri": url})
        elif data := get_nested(picture, "b64_json", str):
            blob: Part = {"type": "blob", "modality": "image", "mime_type": mime_type, "content": data}
            choice.add_part(
                blob
                if whole
                else {"type": "image", "content": {"mime_type": mime_type, "bytes": _count_base64_bytes(data)}}
            )
    read_usage(record, get_field(got, "usage"), _USAGE, _INPUT_DETAILS, _OUTPUT_DETAILS)


_USAGE: Final = {"input_tokens": "input_tokens", "output_tokens": "output_tokens"}
_INPUT_DETAILS: Final = {
    "in": "input_tokens_details",
    "text_tokens": "text_input_tokens",
    "image_tokens": "image_input_tokens",
}
_OUTPUT_DETAILS: Final = {
    "in": "output_tokens_details",
    "text_tokens": "text_output_tokens",
    "image_tokens": "image_output_tokens",
}


def _count_base64_bytes(base64: str) -> int:
    """Return the number of bytes that a base64 text encodes."""
    return len(base64) * 3 // 4 - base64[-2:].count("=")


def begin_speech(ask: OpenAIRequest) -> tuple[Chat, Observe[Chat]]:
    """Begin the record of ``POST /audio/speech``, which turns text into sound."""
    body = ask.body
    record = Chat(
        operation=sc.GENERATE_CONTENT,
        **ask.read_server_fields(),
        output_type="speech",
        draft=OutputDraft(kept=ask.capture_content),
    )
    set_parameters(record, body, {"model": ("model", str)})
    record.extra |= {f"mlspan.audio.{name}": body[name] for name in _AUDIO_OPTIONS if isinstance(body.get(name), str)}
    if ask.capture_content and (text := get_nested(body, "input", str)):
        record.input = [{"role": "user", "parts": [{"type": "text", "content": text}]}]
        if instructions := get_nested(body, "instructions", str):
            record.system = [{"type": "text", "content": instructions}]
    return record, _observe_speech


_AUDIO_OPTIONS: Final = ("voice", "response_format", "language")


def _observe_speech(record: Chat, got: object) -> None:
    """Read the size of a sound, or an event of its stream."""
    body = got if isinstance(got, BodySize) else get_field(got, "content")
    size = int(body) if isinstance(body, BodySize) else len(body) if isinstance(body, bytes) else None
    if size is not None:
        choice = record.draft.get_choice()
        choice.finish_reason = "stop"
        choice.add_part({"type": "audio", "content": {"bytes": size}})
    read_usage(record, get_field(got, "usage"), _USAGE)  # the last event of a stream has it


def begin_transcription(ask: OpenAIRequest) -> tuple[Chat, Observe[Chat]]:
    """Begin the record of ``POST /audio/transcriptions`` or ``/audio/translations``, which turn sound into text."""
    body = ask.body
    record = Chat(
        operation=sc.GENERATE_CONTENT,
        **ask.read_server_fields(),
        output_type="text",
        draft=OutputDraft(kept=ask.capture_content),
    )
    set_parameters(record, body, {"model": ("model", str), "temperature": ("temperature", float)})
    record.stream = True if body.get("stream") in {True, "true"} else None
    record.extra |= {f"mlspan.audio.{name}": body[name] for name in _AUDIO_OPTIONS if isinstance(body.get(name), str)}
    if ask.capture_content:
        sent = [one for all_ in describe_sent_files(ask.options).values() for one in all_]
        parts: list[Part] = [{"type": "audio", "content": one} for one in sent]
        if prompt := get_nested(body, "prompt", str):
            parts.append({"type": "text", "content": prompt})
        record.input = [{"role": "user", "parts": parts}]
    return record, _observe_transcription


def _observe_transcription(record: Chat, got: object) -> None:
    """Read a transcript as an object or as plain text, or an event of its stream."""
    kind, choice = get_nested(got, "type", str), record.draft.get_choice()
    if kind == "transcript.text.delta":
        choice.add_text(get_nested(got, "delta", str) or "")
        return
    if kind is None and isinstance(text := got if isinstance(got, str) else get_field(got, "text"), str):
        choice.add_text(text)
    choice.finish_reason = "stop"
    if is_a(seconds := get_field(got, "duration"), (int, float)):
        record.extra["mlspan.audio.seconds"] = float(seconds)
    read_usage(record, get_field(got, "usage"), _USAGE, _SOUND_DETAILS)


_SOUND_DETAILS: Final = {
    "in": "input_token_details",
    "audio_tokens": "audio_input_tokens",
    "text_tokens": "text_input_tokens",
}


def begin_moderation(ask: OpenAIRequest) -> tuple[ProviderRequest, Observe[ProviderRequest]]:
    """Begin the record of ``POST /moderations``."""
    record = ProviderRequest(
        type="moderation",
        name="moderations.create",
        **ask.read_server_fields(),
        model=get_nested(ask.body, "model", str),
    )
    if ask.capture_content:
        record.input = ask.body.get("input")
    return record, _observe_moderation


def _observe_moderation(record: ProviderRequest, got: object) -> None:
    """Read for each input whether it was flagged, and for which categories."""
    results = get_list(got, "results")
    record.extra["mlspan.moderation.flagged"] = sum(1 for result in results if get_field(result, "flagged") is True)
    record.output = [
        {
            "flagged": get_field(result, "flagged"),
            "categories": [name for name, hit in _list_categories(result) if hit is True],
        }
        for result in results
    ]


def _list_categories(result: object) -> list[tuple[str, object]]:
    """Return the categories of a moderation, each with whether it applies."""
    found = dump_model(get_field(result, "categories"))
    return list(found.items()) if isinstance(found, dict) else []


def begin_decision(ask: OpenAIRequest) -> tuple[Chat, Observe[Chat]]:
    """Begin the record of ``POST /decisions``: questions about an input, which a model answers with probabilities."""
    record = Chat(
        operation=sc.GENERATE_CONTENT,
        **ask.read_server_fields(),
        output_type="json",
        draft=OutputDraft(kept=ask.capture_content),
    )
    set_parameters(record, ask.body, {"model": ("model", str)})
    if ask.capture_content:
        questions: Part = {"type": "questions", "content": get_list(ask.body, "questions")}
        record.input = [*read_input_messages(ask.body.get("input")), {"role": "user", "parts": [questions]}]
    return record, _observe_decision


def _observe_decision(record: Chat, got: object) -> None:
    """Read the answers to the questions, and the tokens."""
    record.response_model = get_nested(got, "model", str)
    read_usage(record, get_field(got, "usage"), *RESPONSE_USAGE)
    choice = record.draft.get_choice()
    choice.finish_reason = "stop"
    for answer in get_list(got, "answers"):
        choice.add_part({"type": "answer", "content": dump_model(answer)})
