"""Records of LangChain's runnables: a node, an agent, a workflow or a step, with the user's own tags and metadata."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Final
from uuid import UUID

from ...tracing.operations import semconv as sc
from ...tracing.operations.call_context import get_call_scope
from ...tracing.operations.records import Agent, Record, Step, Workflow

_FRAMEWORK_TAGS: Final = ("seq:step:", "graph:step:", "map:key:", "branch:", "condition:", "retry:", "langsmith:")
_FRAMEWORK_METADATA: Final = (
    "langgraph_",
    "ls_",
    "lc_",
    "checkpoint",
    "thread_id",
    "run_id",
    "run_attempt",
    "assistant_id",
    "graph_id",
)
_AGENTS: Final = ("langchain_create_agent", "deepagents")  # values of "ls_integration" of graphs that are agents
_GRAPHS: Final = ("langgraph", *_AGENTS)  # and of all graphs
_SESSION_KEYS: Final = ("session_id", "conversation_id", "thread_id")  # of a config, in the order in which they count
_USER_KEY: Final = "user_id"


@lru_cache(maxsize=1000)
def select_user_tags(tags: tuple[str, ...]) -> tuple[str, ...]:
    """Return the tags that neither LangChain nor LangGraph has added."""
    return tuple(tag for tag in tags if not tag.startswith(_FRAMEWORK_TAGS))


@lru_cache(maxsize=1000)
def select_user_metadata(keys: tuple[str, ...]) -> tuple[str, ...]:
    """Return the keys of a run's metadata that neither LangChain nor LangGraph has added."""
    ours = {*_SESSION_KEYS, _USER_KEY}  # they become the session and the user
    return tuple(key for key in keys if key not in ours and not key.startswith(_FRAMEWORK_METADATA))


def apply_caller_ids(record: Record, told: Mapping[str, object]) -> None:
    """Set session and user of *record* by what the caller has put into a run's metadata or ``configurable``.

    What ``tracing.session`` and ``tracing.user`` say around the call counts before that.
    """
    around = get_call_scope()
    session = next((told[key] for key in _SESSION_KEYS if isinstance(told.get(key), (str, int, UUID))), None)
    if session is not None and around.session is None and sc.SESSION_ID not in record.extra:
        record.extra[sc.SESSION_ID] = str(session)
    user = told.get(_USER_KEY)
    if isinstance(user, (str, int, UUID)) and around.user is None and sc.USER_ID not in record.extra:
        record.extra[sc.USER_ID] = str(user)


@lru_cache(maxsize=1000)
def _is_graph_node(tags: tuple[str, ...]) -> bool:
    """Return whether a run with these tags is a node of a graph."""
    return any(tag.startswith("graph:step:") for tag in tags)


def _read_conversation(metadata: Mapping[str, object]) -> str | None:
    thread = metadata.get("thread_id")
    return str(thread) if thread is not None else None


def make_runnable_record(
    name: str, run_type: str | None, tags: Sequence[str], metadata: Mapping[str, object]
) -> Record:
    """Return the record of a runnable: a node, an agent or a workflow by its metadata, else a step.

    The metadata are those that LangGraph, LangChain's ``create_agent`` and what is built on that add. *run_type* is the
    type of a step.
    """
    maker = metadata.get("ls_integration")
    unnamed = name == "LangGraph"  # the name of a class, in place of which the conventions want none
    if "langgraph_step" in metadata and _is_graph_node(tuple(tags)):
        return Step(type="node", name=name, extra={"mlspan.langgraph.step": metadata.get("langgraph_step")})
    if metadata.get("lc_agent_name") == name or (unnamed and maker in _AGENTS):
        return Agent(name=None if unnamed else name, conversation=_read_conversation(metadata))
    if maker in _GRAPHS and (unnamed or "langgraph_node" not in metadata):
        return Workflow(name=None if unnamed else name, conversation=_read_conversation(metadata))
    if name == "AgentExecutor":
        return Agent(conversation=_read_conversation(metadata))
    return Step(type=run_type or "chain", name=name or "chain")
