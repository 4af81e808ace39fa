"""The innermost step, action or call to a model of browser-use that runs in a context; and the secrets of an agent."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from opentelemetry import context as otel

from ..._shape import get_nested
from ...tracing.operations.operation import Operation

_RUNNING_KEY: Final = otel.create_key("mlspan-browser-use")


class Running(NamedTuple):
    """The innermost step, action or call to a model whose code the caller is inside.

    Attributes:
        kind: "step", "action" or "chat".
        owner: the agent, the registry of actions, or the model.
        chats: of a step, the operations of its own calls to a model.
        errors: of a step, what it has failed with.
    """

    kind: str
    owner: object
    chats: list[Operation]
    errors: list[BaseException]


def find_running() -> Running | None:
    """Return what is running here; None outside of all."""
    found = otel.get_value(_RUNNING_KEY)
    return found if isinstance(found, Running) else None


def mark_running(operation: Any, kind: str, owner: object) -> Any:
    """Put *owner* into the context of its operation, and return that."""
    if isinstance(operation, Operation):
        running = Running(kind, owner, [], [])
        operation.context = otel.set_value(_RUNNING_KEY, running, operation.context)
    return operation


def get_running(operation: object) -> Running | None:
    """Return what was marked as running inside of *operation*."""
    found = operation.context.get(_RUNNING_KEY) if isinstance(operation, Operation) else None
    return found if isinstance(found, Running) else None


class Secrets:
    """The values of an agent's ``sensitive_data``, which actions get in the place of the names that its model knows.

    Args:
        told: the secrets by name, or by domain and name.
    """

    def __init__(self, told: object) -> None:
        self._names: dict[str, str] = {}
        for name, value in told.items() if isinstance(told, dict) else ():
            known = value if isinstance(value, dict) else {name: value}
            self._names |= {secret: key for key, secret in known.items() if isinstance(secret, str) and secret}

    def __bool__(self) -> bool:
        return bool(self._names)

    def mask(self, value: Any) -> Any:
        """Return plain data with the name of each secret in the place of its value, as the model writes it."""
        if not self._names:
            return value
        if isinstance(value, str):
            for secret in sorted(self._names, key=len, reverse=True):
                value = value.replace(secret, f"<secret>{self._names[secret]}</secret>")
        elif isinstance(value, dict):
            return {self.mask(key): self.mask(one) for key, one in value.items()}
        elif isinstance(value, list):
            return [self.mask(one) for one in value]
        return value


def read_secrets(agent: object) -> Secrets:
    """Return the secrets of *agent*."""
    return Secrets(get_nested(agent, "sensitive_data", dict))
