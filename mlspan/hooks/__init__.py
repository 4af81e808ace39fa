"""The interface for authors of integrations: trace functions of another library, so that their calls become spans.

An integration is a module with a ``HOOK`` and its ``autolog``. See :class:`Hook` for the shape of one, and
``docs/integration.md`` for one that is built step by step.

- The hook: :class:`Hook`, :class:`Call`, :func:`trace_methods`, :func:`trace_subclasses`, :class:`RunRegistry` for a
  framework that reports starts and ends by run ids, and :func:`suppress_own_spans` for a library that opens spans.
- Patches, each of which returns its undo: :func:`trace_method`, :func:`observe_method`, :func:`replace_function`,
  :func:`apply_patches`, :func:`install_when_imported`.
- Records, one class for each kind of operation: :class:`Chat`, :class:`Embeddings`, :class:`Retrieval`,
  :class:`Tool`, :class:`Agent`, :class:`Workflow`, :class:`Step`.
- Messages: :class:`OutputDraft`, ``make_...`` for their parts, and readers of OpenAI's message format.
- Readers of foreign objects, by path and type: :func:`get_field`, :func:`get_nested`, :func:`get_list` and
  :func:`is_a`; of requests: :func:`read_server_fields`, :func:`set_parameters`, :func:`read_usage`.
"""

from __future__ import annotations

from .._integration_report import IntegrationReport, set_report_reader
from .._shape import get_field, get_fields, get_integer, get_list, get_nested, get_text, is_a
from ..tracing.operations.message_drafts import ChoiceDraft, OutputDraft
from ..tracing.operations.messages import (
    Message,
    Part,
    ToolDefinition,
    make_media_part,
    make_server_tool_call,
    make_server_tool_response,
    make_tool_call,
    make_tool_call_response,
    parse_json,
)
from ..tracing.operations.records import (
    HIDE_CHUNK,
    Agent,
    Chat,
    Embeddings,
    ModelCall,
    Observe,
    Record,
    Retrieval,
    Step,
    Tool,
    Workflow,
    sees_errors,
)
from .autolog_settings import AutologSettings
from .call import Begin, Call
from .hook import Hook, trace_methods
from .openai_format import FINISH_REASONS, dump_model, read_openai_part, read_openai_tool
from .own_spans import make_unrecorded_context, make_unrecorded_span, suppress_own_spans
from .patching import (
    CallStarter,
    Patch,
    Undo,
    apply_patches,
    install_when_imported,
    observe_method,
    replace_function,
    trace_function,
    trace_method,
)
from .requests import (
    CHAT_USAGE,
    REQUEST_PARAMETERS,
    count_tokens,
    find_base_url,
    find_provider_by_host,
    read_host_and_port,
    read_provider_usage,
    read_server_fields,
    read_usage,
    set_parameters,
)
from .run_registry import RunRegistry
from .subclasses import trace_subclasses

__all__ = [
    "CHAT_USAGE",
    "FINISH_REASONS",
    "HIDE_CHUNK",
    "REQUEST_PARAMETERS",
    "Agent",
    "AutologSettings",
    "Begin",
    "Call",
    "CallStarter",
    "Chat",
    "ChoiceDraft",
    "Embeddings",
    "Hook",
    "Message",
    "ModelCall",
    "Observe",
    "OutputDraft",
    "Part",
    "Patch",
    "Record",
    "Retrieval",
    "RunRegistry",
    "Step",
    "Tool",
    "ToolDefinition",
    "Undo",
    "Workflow",
    "apply_patches",
    "count_tokens",
    "dump_model",
    "find_base_url",
    "find_provider_by_host",
    "get_field",
    "get_fields",
    "get_integer",
    "get_list",
    "get_nested",
    "get_text",
    "install_when_imported",
    "is_a",
    "make_media_part",
    "make_server_tool_call",
    "make_server_tool_response",
    "make_tool_call",
    "make_tool_call_response",
    "make_unrecorded_context",
    "make_unrecorded_span",
    "observe_method",
    "parse_json",
    "read_host_and_port",
    "read_openai_part",
    "read_openai_tool",
    "read_provider_usage",
    "read_server_fields",
    "read_usage",
    "replace_function",
    "sees_errors",
    "set_parameters",
    "suppress_own_spans",
    "trace_function",
    "trace_method",
    "trace_methods",
    "trace_subclasses",
]


def _read_report() -> IntegrationReport:
    from .autolog_report import read_integrations

    return read_integrations()


set_report_reader(_read_report)
