"""Amazon Bedrock, by boto3 and by aioboto3: models, agents, knowledge bases and guardrails; nothing else of AWS.

botocore makes its clients at run time: each method is a function that calls ``_make_api_call``, with the operation's
name and its parameters. So one patch traces every client, and aiobotocore, which has its own, is a second one. A call
of another service costs a look into the table of operations. Both names are private, and the same since 2015 and 2017;
where one is gone, a warning says that the calls are not recorded.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from ...hooks.call import Begin
from ...hooks.hook import Hook
from ...hooks.patching import Patch, Undo, apply_patches, trace_method
from ...tracing.operations.noop import NOOP_OPERATION
from ...tracing.operations.operation import Operation
from ...tracing.operations.unread_member import UnreadMemberCall
from . import agents, converse, invoke

__all__ = ["HOOK", "autolog"]

PRIVATE_NAMES: Final[dict[str, str]] = {"_make_api_call": "all calls of the clients"}

_SERVICES: Final = frozenset({"bedrock-runtime", "bedrock-agent-runtime"})


class _Traced(NamedTuple):
    """One operation that is recorded: its ``begin``, and the field of its answer that the caller has yet to read."""

    begin: Begin
    member: str | None = None


_OPERATIONS: Final[Mapping[str, _Traced]] = {
    "Converse": _Traced(converse.begin_converse),
    "ConverseStream": _Traced(converse.begin_converse_stream, "stream"),
    "InvokeModel": _Traced(invoke.begin_invoke, "body"),
    "InvokeModelWithResponseStream": _Traced(invoke.begin_invoke_stream, "body"),
    "ApplyGuardrail": _Traced(agents.begin_guardrail),
    "InvokeAgent": _Traced(agents.begin_agent, "completion"),
    "InvokeInlineAgent": _Traced(agents.begin_agent, "completion"),
    "Retrieve": _Traced(agents.begin_retrieve),
    "RetrieveAndGenerate": _Traced(agents.begin_generate),
    "RetrieveAndGenerateStream": _Traced(agents.begin_generate_stream, "stream"),
    "Rerank": _Traced(agents.begin_rerank),
}


def _make_starter(hook: Hook) -> Callable[[Any, Any], object]:
    """Return the function that starts the operation of a call of ``_make_api_call``; other services pass through."""

    def start_request(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        name = args[1] if len(args) > 1 else kwargs.get("operation_name")
        traced = _OPERATIONS.get(name) if type(name) is str else None
        if traced is None or _find_service(args[0]) not in _SERVICES:
            return NOOP_OPERATION
        operation = hook.start_operation(traced.begin, args, kwargs)
        if traced.member is None or not isinstance(operation, Operation):
            return operation
        return UnreadMemberCall(operation, traced.member)

    return start_request


def _find_service(client: object) -> object:
    return getattr(getattr(getattr(client, "meta", None), "service_model", None), "service_name", None)


def _trace_calls(target: str, hook: Hook) -> Undo:
    trace = functools.partial(trace_method, start=_make_starter(hook))
    return apply_patches([Patch(target, trace, f"calls of {target.rpartition(':')[2]}")])


_ASYNC_HOOK: Final = Hook(
    "aiobotocore>=2.13,<4",
    "aiobotocore.client",
    functools.partial(_trace_calls, "aiobotocore.client:AioBaseClient._make_api_call"),
)
HOOK = Hook(
    "botocore>=1.34.116,<2",
    "botocore.client",
    functools.partial(_trace_calls, "botocore.client:BaseClient._make_api_call"),
    also=(_ASYNC_HOOK,),
)
autolog = HOOK.autolog
