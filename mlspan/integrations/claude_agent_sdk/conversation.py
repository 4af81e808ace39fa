"""One conversation with Claude Code: its open turns, subagents and tools, followed message by message.

A call to the model is known only by the messages of its answer, which come block by block under one id. It has begun
when the last prompt or result of a tool was there, and was over when the last block came. So its span is made then.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from opentelemetry.context import Context

from ..._guard import guard
from ..._shape import get_field, get_nested
from ...hooks.call import BegunCall, Call
from ...hooks.hook import Hook
from ...tracing.operations.call_context import use_context
from ...tracing.operations.operation import Operation
from ...tracing.operations.records import Agent, Observe, Record, Tool
from ...tracing.operations.response_proxy import StreamEnd
from .messages import AGENT_NAME, list_blocks, make_chat, make_tool, read_tool_result


class _Thread:
    """The work of one agent, or of one of its subagents: its operation, and the answer that is coming."""

    __slots__ = ("answer", "began", "came", "operation")

    def __init__(self, operation: Operation) -> None:
        self.operation = operation
        self.answer: list[Any] = []  # the messages of the answer so far
        self.began = self.came = time.time_ns()  # when its call began, and when its last message came


class Conversation:
    """The open operations of one conversation. It observes the messages, in the order in which they are read."""

    def __init__(self, hook: Hook) -> None:
        self._hook = hook
        self._turns: deque[_Thread] = deque()  # the first is the one that messages belong to
        self._subagents: dict[str, _Thread] = {}  # by the id of the tool call that has started it
        self._tools: dict[str, Operation] = {}  # by the id of the call

    def add_turn(self, turn: Operation) -> None:
        """Add a turn whose prompt was sent; the conversation ends it."""
        turn.hand_over()
        self._turns.append(_Thread(turn))

    @contextmanager
    def send_prompt(self, turn: Operation) -> Iterator[None]:
        """Send a prompt inside the block, as the beginning of *turn*. If that fails, the turn has failed."""
        self.add_turn(turn)
        thread = self._turns[-1]
        try:
            with use_context(turn.context):
                yield
        except BaseException as error:
            if thread in self._turns:
                self._turns.remove(thread)
            turn.finish(error)
            raise

    def observe(self, message: object) -> bool:
        """Read the next message. All of them are shown to the caller."""
        with guard("reading a message of Claude Code"):
            self._dispatch_message(message)
        return True

    def _dispatch_message(self, message: object) -> None:
        kind, parent = type(message).__name__, get_nested(message, "parent_tool_use_id", str)
        if kind == "AssistantMessage":
            self._read_assistant_message(self._find_thread(parent), message)
        elif kind == "UserMessage":
            if (thread := self._find_thread(parent)) is not None:
                self._end_model_call(thread)
            for block in list_blocks(message, "ToolResultBlock"):
                self._end_tool(get_field(block, "tool_use_id"), block)
            if thread is not None:
                thread.began = time.time_ns()
        elif kind == "ResultMessage":
            self._end_turn(message)

    def _find_thread(self, parent: str | None) -> _Thread | None:
        """Return the agent that a message belongs to: the turn's, or the subagent of the tool call *parent*.

        A message may come without a prompt, such as that of a task in the background: it begins a turn. None if that
        is not recorded.
        """
        if not self._turns:
            turn = self._start_operation(Agent(name=AGENT_NAME), None)
            if turn is None:
                return None
            self.add_turn(turn)
        if parent is None or parent not in self._tools:
            return self._turns[0]
        if parent not in self._subagents:
            tool = self._tools[parent]
            given = tool.record.input if isinstance(tool.record, Tool) else None
            agent = Agent(name=get_nested(given, "subagent_type", str) or "subagent")
            if isinstance(prompt := get_nested(given, "prompt", str), str):
                agent.input = prompt
            started = self._start_operation(agent, tool.context)
            if started is None:
                return self._turns[0]
            started.hand_over()
            self._subagents[parent] = _Thread(started)
        return self._subagents[parent]

    def _start_operation(
        self, record: Record, context: Context | None, observe: Observe[Any] | None = None
    ) -> Operation | None:
        """Start the operation of a record inside *context*, if anything is recorded now."""

        def begin(_: Call) -> BegunCall:
            return record, observe

        if context is None:
            operation = self._hook.start_operation(begin, (), {})
        else:
            with use_context(context):
                operation = self._hook.start_operation(begin, (), {})
        return operation if isinstance(operation, Operation) else None

    def _read_assistant_message(self, thread: _Thread | None, message: object) -> None:
        if thread is None:
            return
        identifier = get_field(message, "message_id")
        if thread.answer and (identifier is None or identifier != get_field(thread.answer[-1], "message_id")):
            self._end_model_call(thread)
        thread.answer.append(message)
        thread.came = time.time_ns()
        for block in list_blocks(message, "ToolUseBlock"):
            self._open_tool(get_field(block, "name"), get_field(block, "id"), get_field(block, "input"), thread)

    def _end_model_call(self, thread: _Thread, *, collecting: bool = False) -> None:
        """Record the call to the model whose answer is complete; *collecting* is True in a finalizer."""
        messages, thread.answer = thread.answer, []
        if not messages:
            return
        record = make_chat(messages, capture_content=thread.operation.captures_content)
        call = self._start_operation(record, thread.operation.context)
        if call is not None:
            call.set_times(min(thread.began, thread.came), thread.came)
            call.finish(collecting=collecting)
        thread.began = thread.came

    def _open_tool(self, name: object, identifier: object, arguments: object, thread: _Thread) -> Operation | None:
        """Open the operation of a call of a tool, unless it is open; a call without an id has no end, and none."""
        if not isinstance(identifier, str) or not identifier:
            return None
        if identifier not in self._tools:
            captures, named = thread.operation.captures_content, name if isinstance(name, str) else None
            record = make_tool(named, identifier, arguments, capture_content=captures)
            tool = self._start_operation(record, thread.operation.context)
            if tool is None:
                return None
            tool.hand_over()
            self._tools[identifier] = tool
        return self._tools[identifier]

    def _end_tool(self, identifier: object, block: object) -> None:
        """End a call of a tool with its result, and the subagent that it has run."""
        subagent = self._subagents.pop(identifier, None) if isinstance(identifier, str) else None
        tool = self._tools.pop(identifier, None) if isinstance(identifier, str) else None
        if subagent is not None:
            self._end_model_call(subagent)
            subagent.operation.finish()
        if tool is not None and isinstance(tool.record, Tool):
            read_tool_result(tool.record, block, capture_content=tool.captures_content)
            tool.finish()

    def _end_turn(self, result: object) -> None:
        if not self._turns:
            return
        thread = self._turns.popleft()
        self._end_model_call(thread)
        if not self._turns:
            self._finish_tools(None, None)
        thread.operation.observe(result)
        thread.operation.finish()

    def _finish_tools(
        self, error: BaseException | None, stream_end: StreamEnd | None, *, collecting: bool = False
    ) -> None:
        for subagent in self._subagents.values():
            self._end_model_call(subagent, collecting=collecting)
            subagent.operation.finish(error, stream_end=stream_end, collecting=collecting)
        for tool in self._tools.values():
            tool.finish(error, stream_end=stream_end, collecting=collecting)
        self._subagents.clear()
        self._tools.clear()

    def finish(
        self, error: BaseException | None = None, *, stream_end: StreamEnd | None = None, collecting: bool = False
    ) -> None:
        """End all that is open: the conversation has ended, by an error or because it was left."""
        with guard("ending a conversation with Claude Code"):
            self._finish_tools(error, stream_end, collecting=collecting)
            while self._turns:
                thread = self._turns.popleft()
                self._end_model_call(thread, collecting=collecting)
                thread.operation.finish(error, stream_end=stream_end, collecting=collecting)

    def find_context(self, request: object) -> Context | None:
        """Return the context in which a request of the process is answered: that of the tool, else of the turn."""
        if not self._turns:
            return None
        thread, asked = self._turns[0], get_field(request, "request")
        identifier = get_nested(asked, "tool_use_id", str)
        message = get_field(asked, "message")
        if get_nested(message, "method", str) == "tools/call":
            meta = get_nested(message, "params._meta", dict) or {}
            identifier = get_nested(meta, _TOOL_ID, str) if _TOOL_ID in meta else None
            name = f"mcp__{get_field(asked, 'server_name')}__{get_nested(message, 'params.name', str)}"
            self._open_tool(name, meta.get(_TOOL_ID), get_nested(message, "params.arguments", dict), thread)
        tool = self._tools.get(identifier) if identifier is not None else None
        return thread.operation.context if tool is None else tool.context


_TOOL_ID = "claudecode/toolUseId"  # in the metadata of a call of a tool that the program itself serves
