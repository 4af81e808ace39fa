"""``model.generate``: the tokens of prompts and answers, why each answer has ended, and streamers.

A call is one span, however many prompts and answers it has. The texts are known where there is a streamer with a
tokenizer, and where a pipeline makes the call.
"""

from __future__ import annotations

from collections.abc import Mapping
from time import perf_counter
from typing import Any, Final
from weakref import WeakKeyDictionary

from ..._shape import get_field, get_nested, is_a, list_items, list_texts
from ...hooks.call import Call
from ...hooks.requests import FieldMapping, set_parameters
from ...tracing.operations import semconv as sc
from ...tracing.operations.local_records import LocalChat
from ...tracing.operations.message_drafts import UNTOLD_REASON, OutputDraft
from ...tracing.operations.records import Observe
from .tensors import count_tokens, find_text_ids, read_shape

__all__ = [
    "Generation",
    "begin_generation",
    "find_model_name",
    "note_tokens",
    "read_config",
    "read_options",
    "set_options",
]

_OPTIONS: Final[FieldMapping] = {
    "max_new_tokens": ("max_tokens", int),
    "temperature": ("temperature", float),
    "top_k": ("top_k", int),
    "top_p": ("top_p", float),
}
_OTHER_OPTIONS: Final = ("num_return_sequences", "stop_strings", "max_length", "eos_token_id", "pad_token_id")
_DEFAULT_LENGTH: Final = 20  # new tokens, where nobody has said how many


class Generation(LocalChat):
    """A generation, and what its streamer has been given so far."""

    streamed: int = 0  # calls of a streamer: the prompt first, then each token
    begun_at: float = 0.0

    def complete_fields(self) -> None:
        """Count what was streamed where the call has failed."""
        super().complete_fields()
        if self.output_tokens is None and self.streamed:
            self.output_tokens = self.streamed - 1


_streaming: Final[WeakKeyDictionary[Any, Generation]] = WeakKeyDictionary()  # by the streamer


def find_model_name(model: object) -> str:
    """Return the name that a model was loaded by; that of its class if it was loaded from nowhere."""
    name = get_nested(model, "name_or_path", str) or get_nested(model, "config.name_or_path", str)
    return name or type(model).__name__


def read_options(*places: object) -> dict[str, Any]:
    """Return the options of a generation; the first of *places* that has one counts."""
    found: dict[str, Any] = {}
    for name in (*_OPTIONS, *_OTHER_OPTIONS):
        values = (get_field(place, name) for place in places)
        if (value := next((one for one in values if one is not None), None)) is not None:
            found[name] = value
    return found


def read_config(config: Any) -> object:
    """Return what a ``GenerationConfig`` sets: version 4 has a default for every option."""
    return config.to_diff_dict() if hasattr(config, "to_diff_dict") else config


def set_options(record: LocalChat, options: Mapping[str, Any]) -> None:
    """Set the fields of *record* that the request asks for."""
    set_parameters(record, options, _OPTIONS)
    if (count := get_nested(options, "num_return_sequences", int)) not in {None, 1}:
        record.choice_count = count
    stop = options.get("stop_strings")
    record.stop_sequences = [stop] if isinstance(stop, str) else list_texts(stop) or None


def begin_generation(call: Call) -> tuple[Generation, Observe[Generation]]:
    """Begin the record of a call of ``generate``."""
    model, streamer = call.args[0], call.argument("streamer")
    asked = read_options(call.kwargs, read_config(call.argument("generation_config")))
    reader = _AnswerReader(call, {**read_options(get_field(model, "generation_config")), **asked})
    record = Generation(
        operation=sc.TEXT_COMPLETION,
        provider="transformers",
        model=find_model_name(model),
        draft=OutputDraft(kept=reader.decode is not None),
        stream=True if streamer is not None else None,
        begun_at=perf_counter(),
    )
    set_options(record, asked)
    record.input_tokens = reader.input_tokens
    if reader.decode is not None and reader.prompts is not None:
        texts = [reader.decode(row) for row in reader.prompts.tolist()]
        record.input = [{"role": "user", "parts": [{"type": "text", "content": text}]} for text in texts]
    if streamer is not None:
        _streaming[streamer] = record
    return record, reader.observe


def note_tokens(args: tuple[Any, ...], _: object, __: object) -> None:
    """Note that a streamer was given tokens: first the prompt, then those of the answer, one by one."""
    if (record := _streaming.get(args[0])) is None:
        return
    record.streamed += 1
    if record.streamed == 2:  # the first token of the answer
        record.time_to_first_chunk = perf_counter() - record.begun_at


class _AnswerReader:
    """Reads what ``generate`` returns: a row of ids for each answer, padded to the longest."""

    def __init__(self, call: Call, options: Mapping[str, Any]) -> None:
        self._streamer, self._options = call.argument("streamer"), options
        self._stops = set(_list_ids(options.get("eos_token_id")))
        self._padding = set(_list_ids(options.get("pad_token_id"))) - self._stops
        self._has_criteria = bool(options.get("stop_strings") or call.argument("stopping_criteria"))
        asked = call.kwargs
        self.prompts = find_text_ids(asked.get("input_ids"), call.argument("inputs"))
        self._embeds = asked.get("inputs_embeds")
        self.is_encoded = get_nested(call.args[0], "config.is_encoder_decoder", bool) is True
        prompt = self.prompts if self.prompts is not None else self._embeds
        self.input_tokens = count_tokens(prompt, asked.get("attention_mask"), self._padding)
        self.prompt_length = self._find_prompt_length(asked)
        self.decode = self._make_decoder() if call.capture_content else None

    def _find_prompt_length(self, asked: Mapping[str, Any]) -> int:
        """Return how many ids of each row of the answer are the prompt."""
        if self.is_encoded:  # it starts with what the decoder starts with
            shape = read_shape(asked.get("decoder_input_ids"))
            return shape[1] if shape is not None and len(shape) > 1 else 1
        if self.prompts is not None:
            return int(self.prompts.shape[1])
        return 0 if read_shape(self._embeds) else 1  # the start of a text, if it has no other

    def _make_decoder(self) -> Any:
        """Return what turns ids into text, as the streamer does; None without one that can."""
        decode = getattr(get_field(self._streamer, "tokenizer"), "decode", None)
        if decode is None:
            return None
        how = {"skip_special_tokens": True, **(get_nested(self._streamer, "decode_kwargs", dict) or {})}
        return lambda ids: decode(ids, **how)

    def observe(self, record: Generation, got: object) -> None:
        """Read the answers, and count their tokens up to the end of each."""
        rows = find_text_ids(get_field(got, "sequences") if isinstance(got, dict) else got)
        if rows is None:
            return
        record.output_tokens = 0
        for index, row in enumerate(rows[:, self.prompt_length :].tolist()):
            ids, reason = self._cut(row, is_padded=len(rows) > 1)
            record.output_tokens += len(ids)
            choice = record.draft.get_choice(index)
            choice.finish_reason = reason
            if self.decode is not None:
                choice.add_text(self.decode(ids))

    def _cut(self, row: list[int], *, is_padded: bool) -> tuple[list[int], str]:
        """Return the ids of an answer without the padding after it, and why it has ended."""
        end = next((index for index, id in enumerate(row) if id in self._stops), None)
        if end is not None:
            return row[: end + 1], "stop"
        size = len(row)
        while is_padded and size and row[size - 1] in self._padding:
            size -= 1
        if size >= self._find_limit():
            return row[:size], "length"
        return row[:size], "stop" if self._has_criteria else UNTOLD_REASON

    def _find_limit(self) -> int:
        """Return after how many new tokens an answer is cut."""
        if (most := get_nested(self._options, "max_new_tokens", int)) is not None:
            return most
        total = get_nested(self._options, "max_length", int)
        if total is None or (total == _DEFAULT_LENGTH and not self.is_encoded):  # version 4 has that as its default
            return _DEFAULT_LENGTH
        return total - self.prompt_length


def _list_ids(value: Any) -> list[int]:
    """Return one id, or several: in a list or in a tensor."""
    listed = value.tolist() if hasattr(value, "tolist") else value
    return [id for id in (list_items(listed) or [listed]) if is_a(id, int)]
