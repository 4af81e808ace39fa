"""The config of a request: a dict, in either spelling, or an object of the client's."""

from __future__ import annotations

from math import isfinite
from typing import Any, Final

from ..._shape import get_field, get_nested, is_a, list_items, list_texts
from ...hooks.call import Call
from ...tracing.operations.records import Chat

_FIELDS: Final[dict[str, tuple[str, type]]] = {
    "max_output_tokens": ("max_tokens", int),
    "temperature": ("temperature", float),
    "top_p": ("top_p", float),
    "top_k": ("top_k", int),
    "presence_penalty": ("presence_penalty", float),
    "frequency_penalty": ("frequency_penalty", float),
    "seed": ("seed", int),
}
_OUTPUT_TYPES: Final = {"IMAGE": "image", "AUDIO": "speech"}  # modality -> value of gen_ai.output.type


def read_model(call: Call) -> str | None:
    """Return the model without the collection that it stands in: ``gemini-2`` of ``models/gemini-2``."""
    model = call.argument("model", want=str)
    return model.rpartition("/")[2] if model else None


def read_config(config: object, name: str) -> Any:
    """Return a field of a config by its name in Python; a dict may have it in the spelling of the API."""
    found = get_field(config, name)
    if found is None and isinstance(config, dict):
        first, *rest = name.split("_")
        found = config.get(first + "".join(map(str.title, rest)))
    return found


def set_config(chat: Chat, config: object) -> None:
    """Copy the parameters of a config into the record; a value of another type is left out."""
    for name, (field, kind) in _FIELDS.items():
        value = read_config(config, name)
        if value is not None and is_a(value, (int, float)) and isfinite(value):
            setattr(chat, field, kind(value))
    if (count := read_config(config, "candidate_count")) != 1 and is_a(count, int):
        chat.choice_count = count
    chat.stop_sequences = list_texts(read_config(config, "stop_sequences")) or None
    level = get_field(read_config(config, "thinking_config"), "thinking_level")
    chat.reasoning_level = str(getattr(level, "value", level)).lower() if level is not None else None
    chat.output_type = _read_output_type(config)


def _read_output_type(config: object) -> str | None:
    modalities = read_config(config, "response_modalities")
    for modality in list_items(modalities):
        if kind := _OUTPUT_TYPES.get(str(getattr(modality, "value", modality)).upper()):
            return kind
    mime_type = get_nested(config, "response_mime_type", str) or read_config(config, "response_mime_type")
    return "json" if mime_type == "application/json" else None
