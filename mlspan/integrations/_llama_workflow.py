"""Workflows and agents: a run, its steps, and whose turn it is.

An agent is a workflow whose steps are machinery: of those only the calls of tools are told. In an AgentWorkflow several
agents take turns in one run, and each turn is an operation that no call of LlamaIndex's stands for.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

from .._shape import dig, get
from ..tracing import semconv as sc
from ..tracing.ledger import Ledger
from ..tracing.live import Live
from ..tracing.records import Agent, Named, Step, Tool, Workflow
from . import _llama_read as read
from ._llama_kinds import Begun, Seen, observe_tool, surround

ledger: Final = Ledger()
_MACHINERY: Final = frozenset(
    {"init_run", "setup_agent", "run_agent_step", "parse_agent_output", "call_tool", "aggregate_tool_results"}
)


class Run:
    """One run of a workflow; of an AgentWorkflow it knows whose turn it is."""

    def __init__(self, owner: Any, live: Live) -> None:
        self.owner, self.live = owner, live
        self.steps = frozenset(owner._get_steps())
        self.agent, self._count = "", 0

    @property
    def turn(self) -> Any:
        """The ledger's key of the turn."""
        return (self.live, self._count)

    def next(self, agent: str) -> None:
        self.agent, self._count = agent, self._count + 1


runs: Final[dict[Any, Run]] = {}  # the Live of a run -> that run


def is_agent(owner: object) -> bool:
    return any(cls.__name__ == "BaseWorkflowAgent" for cls in type(owner).__mro__)


def _is_team(owner: object) -> bool:
    return any(cls.__name__ == "AgentWorkflow" for cls in type(owner).__mro__)


def begin_run(seen: Seen) -> Begun:
    """A run of a workflow or of an agent; one that goes on from a saved context has no event that starts it."""
    owner, event = seen.owner, seen.arguments.get("start_event")
    given = read.fields(event) if event is not None else {}
    record: Agent | Workflow
    if is_agent(owner):
        record = Agent(name=dig(owner, "name", str), description=dig(owner, "description", str))
    else:
        named = dig(owner, "_workflow_name", str) or type(owner).__name__
        record = Workflow(name=None if named == "AgentWorkflow" else named)  # which says nothing
    record.conversation = read.conversation(getattr(event, "memory", None))
    if seen.kept:
        record.input = _asked(given) if is_agent(owner) or _is_team(owner) else given
    return record, _observe_stop


def _asked(given: dict[str, Any]) -> Any:
    """What an agent is asked, as the messages of a chat."""
    asked = given.get("user_msg")
    last = [{"role": "user", "content": asked}] if isinstance(asked, str) else [asked] if asked is not None else []
    return {"messages": read.plain([*(given.get("chat_history") or []), *last])}


def _observe_stop(record: Named, got: Any) -> None:
    result = get(got, "result") if type(got).__name__ == "StopEvent" else got
    record.output = read.text(result)


def begin_step(seen: Seen, run: Run) -> Begun | None:
    """A step of *run*; None where it is machinery of an agent."""
    event = next((one for one in seen.arguments.values() if read.is_event(one)), None)
    machinery = is_agent(run.owner) or _is_team(run.owner)
    if not (machinery and seen.method in _MACHINERY):
        record = Step(type="task", name=seen.method)
        if seen.kept:
            told = [one for one in seen.arguments.values() if read.is_event(one) or isinstance(one, list)]
            record.input = read.plain(told[0] if len(told) == 1 else told)
        return record, _observe_event
    if seen.method != "call_tool" or event is None:
        return None
    call = Tool(name=dig(event, "tool_name", str), type="function", call_id=dig(event, "tool_id", str))
    call.agent = run.agent or (dig(run.owner, "name", str) if is_agent(run.owner) else None)
    if seen.kept:
        call.input = read.plain(get(event, "tool_kwargs"))
    return call, _observe_call


def _observe_event(record: Step, got: Any) -> None:
    if got is not None:  # a step that waits gives nothing, and has said what for
        record.output = read.plain(got)


def _observe_call(record: Tool, got: Any) -> None:
    if (output := get(got, "tool_output")) is not None:
        observe_tool(record, output)


def take_turn(seen: Seen, run: Run) -> Any:
    """The ledger's key of the turn that a step of an AgentWorkflow belongs to; None in any other workflow.

    The step that sets an agent up opens its turn, and ends the one before, which has handed over to it.
    """
    if not _is_team(run.owner):
        return None
    event = next((one for one in seen.arguments.values() if hasattr(one, "current_agent_name")), None)
    name = dig(event, "current_agent_name", str)
    if seen.method == "setup_agent" and name and name != run.agent:
        before = ledger.get(run.turn)
        ledger.end(run.turn)
        run.next(name)
        record = Agent(name=name, description=dig(get(get(run.owner, "agents") or {}, name), "description", str))
        if seen.kept:
            record.input = {"messages": read.plain(get(event, "input"))}
        live = ledger.start(run.turn, record)
        if live is not None:
            surround(live, "agent", run.owner, name)
            if before is not None:
                live.span.add_link(before.span.get_span_context(), {sc.LINK: "handed_off_by"})
    return run.turn if run.turn in ledger else None


steps: Final[dict[str, Run]] = {}  # the steps that have no span of their own -> their run


def entered(id: str, run: Run) -> None:
    """A step goes on under the turn of an agent."""
    steps[id] = run
    ledger.fold(id, run.turn)
    ledger.enter(id)


def left(id: str, result: Any = None) -> None:
    """It has given *result*: what an agent says is the output of its turn, as long as it is the last."""
    run = steps.pop(id, None)
    live = ledger.get(run.turn) if run is not None else None
    if live is not None and type(result).__name__ == "AgentOutput" and isinstance(live.record, Named):
        live.record.output = dig(result, "response.content", str)


def wait(live: Live, waiter: Any) -> None:
    """A step, or a tool inside of one, waits for an event to go on."""
    record = live.record
    record.extra["mlspan.interrupted"] = True
    if isinstance(record, Named):
        wanted = getattr(get(waiter, "event_type"), "__name__", None)
        record.output = {"waits_for": wanted, "asks": read.plain(get(waiter, "waiter_event"))}


def ended(live: Live | None, error: BaseException | None = None) -> BaseException | None:
    """A run has ended, if *live* is one: so has the last turn in it. How it ended, as far as is known."""
    if (run := runs.pop(live, None)) is None:
        return error
    if type(error).__name__ == "WorkflowCancelledByUser":
        error = asyncio.CancelledError()
    ledger.end(run.turn, error)
    return error
