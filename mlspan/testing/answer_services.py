"""The services whose clients are led to the local server by variables of the environment, and kept from the network."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

_LOCAL_HOST: Final = "127.0.0.1"
_NO_PROXY: Final = ("NO_PROXY", "no_proxy")


@dataclass(frozen=True)
class Service:
    """A provider's interface.

    Attributes:
        name: as it is written in recordings.
        address: the base URL that its clients have without a variable.
        variable: the variable that clients read their base URL from.
        others: further such variables, which count where they are set.
        keys: variables with the key, of which a client needs one.
    """

    name: str
    address: str
    variable: str
    others: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()

    def find_address(self) -> str:
        """Return the base URL that the environment names, or the usual one."""
        found = next(filter(None, map(os.environ.get, (*self.others, self.variable))), self.address)
        return (found if "://" in found else f"http://{found}").rstrip("/")


SERVICES: Final = (
    Service("openai", "https://api.openai.com/v1", "OPENAI_BASE_URL", ("OPENAI_API_BASE",), ("OPENAI_API_KEY",)),
    Service("anthropic", "https://api.anthropic.com", "ANTHROPIC_BASE_URL", (), ("ANTHROPIC_API_KEY",)),
    Service(
        "gemini",
        "https://generativelanguage.googleapis.com",
        "GOOGLE_GEMINI_BASE_URL",
        (),
        ("GEMINI_API_KEY", "GOOGLE_API_KEY"),
    ),
    Service("groq", "https://api.groq.com", "GROQ_BASE_URL", (), ("GROQ_API_KEY",)),
    Service("cohere", "https://api.cohere.com", "CO_API_URL", (), ("CO_API_KEY",)),
    Service("ollama", "http://127.0.0.1:11434", "OLLAMA_HOST"),
)


def list_variables(url: str) -> dict[str, str]:
    """Return the variables that lead every client to the server at *url*; a key where there is none."""
    found: dict[str, str] = {}
    for service in SERVICES:
        names = (service.variable, *(name for name in service.others if name in os.environ))
        found |= dict.fromkeys(names, f"{url}/{service.name}")
        if service.keys and not any(map(os.environ.get, service.keys)):
            found[service.keys[0]] = "mlspan-replay"
    for name in _NO_PROXY:  # a proxy does not know of this machine's servers
        before = os.environ.get(name)
        found[name] = f"{before},{_LOCAL_HOST}" if before else _LOCAL_HOST
    return found


@contextmanager
def set_variables(variables: Mapping[str, str]) -> Iterator[None]:
    """Have *variables* in the environment inside the block."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def keep_from_network(report: Callable[[str], None]) -> Iterator[None]:
    """Have no provider's host found inside the block; *report* is told which one a client has looked for."""
    hosts = {str(urlsplit(service.address).hostname): service for service in SERVICES if "https:" in service.address}
    look_up = socket.getaddrinfo

    def look_up_others(host: Any, *arguments: Any, **options: Any) -> Any:
        name = host.decode() if isinstance(host, bytes) else host
        if (service := hosts.get(name)) is None:
            return look_up(host, *arguments, **options)
        told = (
            f"a client asks {name} itself, which nothing may while answers are replayed: it was made before the test, "
            f"or does not read {service.variable}; give it base_url=model_answers.url({service.address!r})"
        )
        report(told)
        raise socket.gaierror(socket.EAI_FAIL, told)

    socket.getaddrinfo = look_up_others
    try:
        yield
    finally:
        socket.getaddrinfo = look_up
