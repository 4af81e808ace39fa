"""Calls of browser-use's models: of its own classes, of subclasses, and of any other class that has ``ainvoke``."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Any, Final

from ..._guard import guard
from ..._shape import find_known, get_count, get_field, get_fields, get_nested, list_items, list_texts
from ...hooks.call import Call
from ...hooks.hook import Hook
from ...hooks.openai_format import FINISH_REASONS, dump_model, read_openai_part
from ...hooks.patching import trace_function
from ...hooks.requests import REQUEST_PARAMETERS, find_provider_by_host, read_host_and_port, set_parameters
from ...tracing.operations import semconv as sc
from ...tracing.operations.content import to_json
from ...tracing.operations.message_drafts import UNTOLD_REASON, OutputDraft
from ...tracing.operations.messages import Message, Part, make_tool_call
from ...tracing.operations.noop import NOOP_OPERATION
from ...tracing.operations.operation import Operation
from ...tracing.operations.records import Chat, Observe
from .running import find_running, mark_running

_PROVIDERS: Final = {  # browser-use's name of a provider -> value of gen_ai.provider.name, where the two differ
    "anthropic_bedrock": "aws.bedrock",
    "aws_bedrock": "aws.bedrock",
    "azure": "azure.ai.openai",
    "google": "gcp.gemini",
    "mistral": "mistral_ai",
    "oci-raw": "oci",
}
_PARAMETERS: Final = {**REQUEST_PARAMETERS, "max_output_tokens": ("max_tokens", int)}
_ADDRESSES: Final = ("base_url", "api_base", "azure_endpoint", "service_endpoint", "host")
_COUNTS: Final = {  # of a ChatInvokeUsage -> field of the record
    "prompt_tokens": "input_tokens",
    "completion_tokens": "output_tokens",
    "prompt_cached_tokens": "cache_read_tokens",
    "prompt_cache_creation_tokens": "cache_write_tokens",
    "prompt_image_tokens": "image_input_tokens",
}


def start_model_call(hook: Hook, args: Any, kwargs: Any, *, function: Any = None) -> Any:
    """Start the operation of ``ainvoke`` of a model, and tell the step that it is a part of.

    There is none where a model calls the method that it overrides, or passes an agent's wrapper of its own method.
    """
    model, running = args[0] if args else None, find_running()
    if running is not None and running.kind == "chat" and running.owner is model:
        return NOOP_OPERATION
    operation = hook.start_operation(_begin_call, args, kwargs, function=function)
    if isinstance(operation, Operation) and running is not None and running.kind == "step":
        running.chats.append(operation)
    return mark_running(operation, "chat", model)


def trace_registered(hook: Hook, fn: Callable[..., object], enabled: list[bool]) -> object:
    """Return the method that gets each of an agent's models, such that those of a foreign class are traced too."""

    @functools.wraps(fn)
    def register(*args: object, **kwargs: object) -> object:
        if enabled:
            with guard("looking at a model"):
                for model in (*args[1:], *kwargs.values()):
                    _trace_foreign_model(hook, model, enabled)
        return fn(*args, **kwargs)

    return register


def _trace_foreign_model(hook: Hook, model: Any, enabled: list[bool]) -> None:
    """Trace ``ainvoke`` of a model whose class is not browser-use's, where browser-use itself is about to wrap it."""
    family = getattr(sys.modules.get("browser_use.llm.base"), "BaseChatModel", None)
    original = getattr(model, "ainvoke", None)
    if family is None or family in type(model).__mro__ or original is None:
        return

    def start(args: Any, kwargs: Any) -> Any:
        return start_model_call(hook, (model, *args), kwargs, function=family.ainvoke)

    object.__setattr__(model, "ainvoke", trace_function(original, start, enabled, is_awaited=True))


def _begin_call(call: Call) -> tuple[Chat, Observe[Chat]]:
    model = call.args[0]
    record = Chat(draft=OutputDraft(kept=call.capture_content), outer=True)
    record.conversation = get_nested(call.kwargs, "session_id", str)
    _read_chat_model(record, model)
    wanted = call.argument("output_format")
    if wanted is not None:
        record.output_type = "json"
    if call.capture_content:
        record.input = [_read_chat_message(one) for one in list_items(call.argument("messages"))]
        record.output_schema = _read_schema(wanted)
    is_anthropic = (get_nested(model, "provider", str) or "").startswith("anthropic")
    return record, functools.partial(_observe, counts_writes=not is_anthropic)


def _read_chat_model(record: Chat, model: object) -> None:
    """Read which model it is, whose and where, and the parameters that it is asked with."""
    record.model = get_nested(model, "model", str)
    named = get_nested(model, "provider", str) or ""
    url = find_known(get_field(model, name) or None for name in _ADDRESSES)
    record.server_address, record.server_port = read_host_and_port(url)
    by_host = find_provider_by_host(record.server_address or "")
    record.provider = by_host or _PROVIDERS.get(named, named) or "unknown"
    fields = dict(get_fields(model))
    if (reasoning := list_texts(fields.get("reasoning_models"))) or "reasoning_models" in fields:
        name = (record.model or "").lower()
        is_reasoning = any(one.strip() and one.strip().lower() in name for one in reasoning)
        for unsent in ("temperature", "frequency_penalty") if is_reasoning else ("reasoning_effort",):
            fields.pop(unsent, None)
    set_parameters(record, fields, _PARAMETERS)


def _read_schema(wanted: Any) -> Any:
    """Return the JSON schema of the class that an answer has to fit; None if there is none."""
    with guard("reading a schema"):
        return wanted.model_json_schema() if isinstance(wanted, type) and hasattr(wanted, "model_json_schema") else None
    return None


def _read_chat_message(raw: object) -> Message:
    content = get_field(raw, "content")
    parts: list[Part] = [
        read_openai_part(one) for one in ([content] if isinstance(content, str) and content else list_items(content))
    ]
    for asked in list_items(get_field(raw, "tool_calls")):
        name, arguments = get_nested(asked, "function.name", str) or "", get_nested(asked, "function.arguments", str)
        parts.append(make_tool_call(name, arguments, get_nested(asked, "id", str)))
    return {"role": get_nested(raw, "role", str) or "user", "parts": parts}


def _observe(record: Chat, got: object, *, counts_writes: bool) -> None:
    """Read a ChatInvokeCompletion. *counts_writes* says whether its prompt tokens include those written to a cache."""
    choice = record.draft.get_choice()
    if record.draft.kept:
        if thought := get_nested(got, "thinking", str):
            choice.add_text(thought, "reasoning")
        said = get_field(got, "completion")
        choice.add_text(said if isinstance(said, str) else to_json(dump_model(said)))
    reason = get_nested(got, "stop_reason", str)
    choice.finish_reason = FINISH_REASONS.get(reason or "", reason) or UNTOLD_REASON
    usage = get_fields(get_field(got, "usage"))
    for name, field in _COUNTS.items():
        if (tokens := get_count(usage, name)) is not None:
            setattr(record, field, tokens)
    if not counts_writes and record.input_tokens is not None:
        record.input_tokens += record.cache_write_tokens or 0
    if long := get_count(usage, "prompt_cache_creation_1h_tokens"):
        record.extra[sc.USAGE_LONG_CACHE_WRITE_INPUT_TOKENS] = long
