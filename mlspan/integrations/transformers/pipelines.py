"""Pipelines: those that generate are chats or completions, feature extraction is embeddings, the others are steps.

A pipeline that calls ``generate``, once or for each batch, is one span with the tokens of all calls. What is given a
generator or a data set returns an iterator that works when it is read, for hours perhaps: then each call of
``generate``, and each pass of a batch for vectors, is a span of its own, and the pipeline is none.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import GeneratorType
from typing import Any, Final

from ..._shape import get_field, get_list, get_nested, list_items
from ...hooks.call import BegunCall, Call
from ...hooks.openai_format import read_openai_tool
from ...tracing.operations import semconv as sc
from ...tracing.operations.local_records import LocalEmbeddings
from ...tracing.operations.message_drafts import UNTOLD_REASON, OutputDraft
from ...tracing.operations.messages import Message, Part
from ...tracing.operations.records import Observe, Step
from ..openai.methods import observe_message, read_request_messages
from .generation import Generation, find_model_name, read_config, read_options, set_options
from .tensors import count_tokens, describe

__all__ = ["begin_forward", "begin_pipeline"]

# Private names that some versions lack, each with what is then left out.
PRIVATE_FIELDS: Final[dict[str, str]] = {
    "_pipeline_calls_generate": "that a pipeline of another task than those below generates",
    "_forward_params": "the options that the pipeline was made with",
    "_postprocess_params": "likewise; a recorded answer then begins with its prompt",
}

_GENERATING_TASKS: Final = {
    "any-to-any",
    "automatic-speech-recognition",
    "document-question-answering",
    "image-text-to-text",
    "image-to-text",
    "summarization",
    "table-question-answering",
    "text-generation",
    "text2text-generation",
    "translation",
    "visual-question-answering",
}
_SPEAKING_TASKS: Final = {"text-to-audio", "text-to-speech"}  # their answers are no texts
_VECTOR_TASKS: Final = {"feature-extraction", "image-feature-extraction"}
_ANSWER_FIELDS: Final = ("generated_text", "text", "answer", "summary_text", "translation_text")
_ONLY_NEW_TEXT: Final = 1  # the value of ReturnType.NEW_TEXT


def begin_pipeline(call: Call) -> BegunCall | None:
    """Begin the record of a pipeline's call; None for one that works only when its iterator is read."""
    pipeline, inputs = call.args[0], call.argument("inputs")
    if _is_read_later(inputs):
        return None
    task = get_nested(pipeline, "task", str) or type(pipeline).__name__
    if _is_generating(pipeline, task):
        return _begin_generation(call, inputs)
    if task in _VECTOR_TASKS:
        return _begin_embeddings(call, inputs)
    step = Step(type="pipeline", name=task)
    step.extra[sc.REQUEST_MODEL] = find_model_name(get_field(pipeline, "model"))
    if call.capture_content:
        step.input = describe(inputs)
    return step, _observe_step if call.capture_content else None


def begin_forward(call: Call) -> BegunCall | None:
    """Begin a batch of embeddings: a part of the pipeline's call, or a span of its own where there is none around it.

    It has the tokens of the batch. There is no record for a pipeline that makes no vectors.
    """
    pipeline, given = call.args[0], call.argument("model_inputs")
    if get_nested(pipeline, "task", str) not in _VECTOR_TASKS:
        return None
    record = _make_embeddings(pipeline)
    record.input_tokens = count_tokens(_get_item(given, "input_ids"), _get_item(given, "attention_mask"))
    return record, None  # the pipeline returns the vectors


def _is_read_later(inputs: object) -> bool:
    """Return whether *inputs* is a generator, or a data set of torch: their results come as they are read."""
    return isinstance(inputs, GeneratorType) or any(
        cls.__module__.startswith("torch.utils.data") for cls in type(inputs).__mro__
    )


def _is_generating(pipeline: object, task: str) -> bool:
    """Return whether the pipeline generates text: its kind does so, and so does its model."""
    told = getattr(pipeline, "_pipeline_calls_generate", None)
    kind = told if isinstance(told, bool) else (task in _GENERATING_TASKS or task.startswith("translation"))
    can_generate = getattr(get_field(pipeline, "model"), "can_generate", None)
    return kind and task not in _SPEAKING_TASKS and can_generate is not None and bool(can_generate())


def _begin_generation(call: Call, inputs: object) -> tuple[Generation, Observe[Generation]]:
    pipeline = call.args[0]
    prompts = _split_prompts(inputs)
    record = Generation(
        operation=_find_operation(prompts),
        provider="transformers",
        model=find_model_name(get_field(pipeline, "model")),
        draft=OutputDraft(kept=call.capture_content),
        adds_calls=True,
    )
    set_options(record, _read_asked(call))
    if call.capture_content:
        record.input = [message for prompt in prompts for message in _read_prompt_messages(prompt)]
        tools = list_items(call.kwargs.get("tools"))
        record.tools = [read_openai_tool(one) for one in tools if isinstance(one, dict)] or None
    cuts_prompts = _returns_prompts(call)

    def observe(record: Generation, got: object) -> None:
        """Read the answers: those of each prompt are a list, if there are several prompts."""
        results = list_items(got) if isinstance(inputs, list) and len(list_items(got)) == len(prompts) else [got]
        answers = [pair for prompt, result in zip(prompts, results, strict=False) for pair in _pair(prompt, result)]
        for index, (prompt, answer) in enumerate(answers):
            choice = record.draft.get_choice(index)
            choice.finish_reason = UNTOLD_REASON  # the calls of generate know better
            said = next((found for name in _ANSWER_FIELDS if (found := get_field(answer, name)) is not None), None)
            if isinstance(said, list) and said:
                observe_message(choice, said[-1], whole=True)
            elif isinstance(said, str):
                is_there = cuts_prompts and isinstance(prompt, str) and said.startswith(prompt)
                choice.add_text(said[len(prompt) :] if is_there else said)

    return record, observe


def _read_asked(call: Call) -> dict[str, Any]:
    """Return the options of a call, and those that the pipeline was made with."""
    made_with = get_field(call.args[0], "_forward_params")
    places = [call.kwargs, call.kwargs.get("generate_kwargs"), made_with]
    return read_options(*places, *(read_config(get_field(place, "generation_config")) for place in places))


def _pair(prompt: object, result: object) -> Iterator[tuple[Any, object]]:
    """Yield each answer to a prompt, with it."""
    if isinstance(result, list):
        for one in result:
            yield from _pair(prompt, one)
    else:
        yield prompt, result


def _returns_prompts(call: Call) -> bool:
    """Return whether the pipeline begins its answers with the prompts, as it does unless it is told not to."""
    told = call.kwargs.get("return_full_text")
    if told is None:
        kind = get_field(get_field(call.args[0], "_postprocess_params"), "return_type")
        told = getattr(kind, "value", kind) != _ONLY_NEW_TEXT
    return bool(told)


def _split_prompts(inputs: object) -> list[Any]:
    """Return the prompts of a call: texts, lists of messages, or what holds pictures and sounds."""
    if isinstance(inputs, (list, tuple)) and inputs and not _is_chat_message(inputs[0]):
        return [_unwrap_chat(one) for one in inputs]
    return [_unwrap_chat(inputs)]


def _unwrap_chat(prompt: object) -> object:
    """Return the messages of a ``Chat``, which is how pipelines hand on a list of messages."""
    return get_list(prompt, "messages") or prompt if type(prompt).__name__ == "Chat" else prompt


def _is_chat_message(value: object) -> bool:
    return isinstance(value, dict) and "role" in value and "content" in value


def _is_chat(prompt: object) -> bool:
    return isinstance(prompt, (list, tuple)) and bool(prompt) and _is_chat_message(prompt[0])


def _find_operation(prompts: list[object]) -> str:
    if any(map(_is_chat, prompts)):
        return sc.CHAT
    return sc.TEXT_COMPLETION if all(isinstance(one, str) for one in prompts) else sc.GENERATE_CONTENT


def _read_prompt_messages(prompt: Any) -> list[Message]:
    """Return the messages of a prompt; pictures and sounds in it are told by their kind and size."""
    if _is_chat(prompt):
        return read_request_messages([describe(message) for message in prompt])
    if isinstance(prompt, str):
        return [{"role": "user", "parts": [{"type": "text", "content": prompt}]}]
    fields = prompt if isinstance(prompt, dict) else {"input": prompt}
    parts: list[Part] = [
        {"type": "text", "content": value} if name == "text" and isinstance(value, str) else _make_part(name, value)
        for name, value in fields.items()
        if value is not None
    ]
    return [{"role": "user", "parts": parts}]


def _make_part(name: str, value: object) -> Part:
    return {"type": name, "content": describe(value)}


def _observe_step(step: Step, got: object) -> None:
    step.output = describe(got)


def _begin_embeddings(call: Call, inputs: object) -> tuple[LocalEmbeddings, Observe[LocalEmbeddings]]:
    record = _make_embeddings(call.args[0])
    record.outer = True
    if call.capture_content:
        record.input = describe(inputs)
    return record, _observe_features


def _make_embeddings(pipeline: object) -> LocalEmbeddings:
    return LocalEmbeddings(provider="transformers", model=find_model_name(get_field(pipeline, "model")))


def _observe_features(record: LocalEmbeddings, got: object) -> None:
    """Read the length of the vectors: one for each token, or one for each text."""
    vector = got
    while isinstance(vector, list) and vector and isinstance(vector[0], list):
        vector = vector[0]
    length = len(vector) if isinstance(vector, list) else (getattr(vector, "shape", None) or (0,))[-1]
    record.dimensions = int(length) or None


def _get_item(given: object, name: str) -> object:
    """Return an item of what was tokenized, which is no dict but acts as one."""
    return given.get(name) if hasattr(given, "get") else None
