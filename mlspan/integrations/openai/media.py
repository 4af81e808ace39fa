"""Endpoints for embeddings, pictures, sounds and moderations.

Vectors are never recorded. Pictures and sounds are recorded by their sizes; ``log_images=True`` records generated
pictures themselves.
"""

from __future__ import annotations

from typing import Any, Final

from ..._shape import dig, get, is_a, items
from ...hooks.openai_format import plain
from ...tracing.operations import semconv as sc
from ...tracing.operations.messages import Draft, Part
from ...tracing.operations.raw_response import Size
from ...tracing.operations.records import Chat, Embeddings, Observe, Request
from ._read import Ask, count, files, fill


def begin_embeddings(ask: Ask) -> tuple[Embeddings, Observe[Embeddings]]:
    """Begin the record of ``POST /embeddings``."""
    record = Embeddings(**ask.server(), model=dig(ask.body, "model", str), dimensions=dig(ask.body, "dimensions", int))
    if encoding := dig(ask.body, "encoding_format", str):
        record.encoding_formats = [encoding]
    if ask.content:
        record.input = ask.body.get("input")
    return record, _observe_embeddings


def _observe_embeddings(record: Embeddings, got: Any) -> None:
    record.response_model = dig(got, "model", str) or record.response_model
    count(record, get(got, "usage"), {"prompt_tokens": "input_tokens"})
    if vectors := items(got, "data"):
        vector = get(vectors[0], "embedding")
        # Four characters of base64 are three bytes, and a number takes four bytes.
        record.dimensions = len(vector) * 3 // 16 if isinstance(vector, str) else len(vector) if vector else None


def begin_images(ask: Ask) -> tuple[Chat, Observe[Chat]]:
    """Begin the record of ``POST /images/generations``, ``/images/edits`` or ``/images/variations``."""
    body = ask.body
    record = Chat(
        operation=sc.GENERATE_CONTENT,
        **ask.server(),
        model=dig(body, "model", str),
        output_type="image",
        draft=Draft(kept=ask.content),
        stream=True if body.get("stream") is True else None,
        extra={f"mlspan.image.{name}": body[name] for name in _LOOKS if isinstance(body.get(name), str)},
    )
    if (wanted := dig(body, "n", int)) != 1:
        record.choice_count = wanted
    if ask.content:
        prompt = dig(body, "prompt", str)
        parts: list[Part] = [{"type": "text", "content": prompt}] if prompt else []
        parts += [{"type": name, "content": sent} for name, all_ in files(ask.options).items() for sent in all_]
        record.input = [{"role": "user", "parts": parts}]
    return record, _observe_images_whole if ask.settings.get("log_images") else _observe_images


_LOOKS: Final = ("background", "output_format", "quality", "size", "style")


def _observe_images_whole(record: Chat, got: Any) -> None:
    """Read generated pictures, and record them themselves."""
    _observe_images(record, got, whole=True)


def _observe_images(record: Chat, got: Any, *, whole: bool = False) -> None:
    """Read generated pictures or an event of their stream; without *whole*, record their sizes alone."""
    kind = dig(got, "type", str)
    if kind is not None and kind.endswith(".partial_image"):
        return
    mime_type = f"image/{dig(got, 'output_format', str) or 'png'}"
    for index, picture in enumerate(items(got, "data") or ([got] if kind is not None else [])):
        choice = record.draft.choice(index)
        choice.finish_reason = "stop"
        if revised := dig(picture, "revised_prompt", str):
            choice.say(revised)
        if url := dig(picture, "url", str):
            choice.add({"type": "uri", "modality": "image", "uri": url})
        elif data := dig(picture, "b64_json", str):
            blob: Part = {"type": "blob", "modality": "image", "mime_type": mime_type, "content": data}
            choice.add(blob if whole else {"type": "image", "content": {"mime_type": mime_type, "bytes": _bytes(data)}})
    count(record, get(got, "usage"), _USAGE, _INPUT_DETAILS)


_USAGE: Final = {"input_tokens": "input_tokens", "output_tokens": "output_tokens"}
_INPUT_DETAILS: Final = {
    "in": "input_tokens_details",
    "text_tokens": "text_input_tokens",
    "image_tokens": "image_input_tokens",
}


def _bytes(base64: str) -> int:
    """Return the number of bytes that a base64 text encodes."""
    return len(base64) * 3 // 4 - base64[-2:].count("=")


def begin_speech(ask: Ask) -> tuple[Chat, Observe[Chat]]:
    """Begin the record of ``POST /audio/speech``, which turns text into sound."""
    body = ask.body
    record = Chat(operation=sc.GENERATE_CONTENT, **ask.server(), output_type="speech", draft=Draft(kept=ask.content))
    fill(record, body, {"model": ("model", str)})
    record.extra |= {f"mlspan.audio.{name}": body[name] for name in _SOUNDS if isinstance(body.get(name), str)}
    if ask.content and (text := dig(body, "input", str)):
        record.input = [{"role": "user", "parts": [{"type": "text", "content": text}]}]
        if instructions := dig(body, "instructions", str):
            record.system = [{"type": "text", "content": instructions}]
    return record, _observe_speech


_SOUNDS: Final = ("voice", "response_format", "language")


def _observe_speech(record: Chat, got: Any) -> None:
    """Read the size of a sound, or an event of its stream."""
    body = got if isinstance(got, Size) else get(got, "content")
    size = int(body) if isinstance(body, Size) else len(body) if isinstance(body, bytes) else None
    if size is not None:
        choice = record.draft.choice()
        choice.finish_reason = "stop"
        choice.add({"type": "audio", "content": {"bytes": size}})
    count(record, get(got, "usage"), _USAGE)  # the last event of a stream has it


def begin_transcription(ask: Ask) -> tuple[Chat, Observe[Chat]]:
    """Begin the record of ``POST /audio/transcriptions`` or ``/audio/translations``, which turn sound into text."""
    body = ask.body
    record = Chat(operation=sc.GENERATE_CONTENT, **ask.server(), output_type="text", draft=Draft(kept=ask.content))
    fill(record, body, {"model": ("model", str), "temperature": ("temperature", float)})
    record.stream = True if body.get("stream") in {True, "true"} else None
    record.extra |= {f"mlspan.audio.{name}": body[name] for name in _SOUNDS if isinstance(body.get(name), str)}
    if ask.content:
        sent = [one for all_ in files(ask.options).values() for one in all_]
        parts: list[Part] = [{"type": "audio", "content": one} for one in sent]
        if prompt := dig(body, "prompt", str):
            parts.append({"type": "text", "content": prompt})
        record.input = [{"role": "user", "parts": parts}]
    return record, _observe_transcription


def _observe_transcription(record: Chat, got: Any) -> None:
    """Read a transcript as an object or as plain text, or an event of its stream."""
    kind, choice = dig(got, "type", str), record.draft.choice()
    if kind == "transcript.text.delta":
        choice.say(dig(got, "delta", str) or "")
        return
    if kind is None and isinstance(text := got if isinstance(got, str) else get(got, "text"), str):
        choice.say(text)
    choice.finish_reason = "stop"
    if is_a(seconds := get(got, "duration"), (int, float)):
        record.extra["mlspan.audio.seconds"] = float(seconds)
    count(record, get(got, "usage"), _USAGE, {"in": "input_token_details", "audio_tokens": "audio_input_tokens"})


def begin_moderation(ask: Ask) -> tuple[Request, Observe[Request]]:
    """Begin the record of ``POST /moderations``."""
    record = Request(type="moderation", name="moderations.create", **ask.server(), model=dig(ask.body, "model", str))
    if ask.content:
        record.input = ask.body.get("input")
    return record, _observe_moderation


def _observe_moderation(record: Request, got: Any) -> None:
    """Read for each input whether it was flagged, and for which categories."""
    results = items(got, "results")
    record.extra["mlspan.moderation.flagged"] = sum(1 for result in results if get(result, "flagged") is True)
    record.output = [
        {"flagged": get(result, "flagged"), "categories": [name for name, hit in _categories(result) if hit is True]}
        for result in results
    ]


def _categories(result: Any) -> list[tuple[str, Any]]:
    """Return the categories of a moderation, each with whether it applies."""
    found = plain(get(result, "categories"))
    return list(found.items()) if isinstance(found, dict) else []
