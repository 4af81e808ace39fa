"""Clients of other providers that are made from the template of OpenAI's: each is a line of a table.

They share the method that every call goes through, ``request``, and OpenAI's paths and answers. So they are read by the
endpoints of this package.

Besides its line a client needs a module named like it in ``integrations/``, such as ``groq.py``, and a line in
``integrations/__init__.py`` for type checkers. In ``pyproject.toml`` it needs an extra, and its name in the contract of
independence. ``docs/integrations/clients.md`` has a table of the clients, too.
"""

from __future__ import annotations

import functools
from typing import Final, NamedTuple

from ...hooks.hook import Hook, trace_methods
from . import begin_request


class Client(NamedTuple):
    """A client of another provider.

    Attributes:
        requires: the distribution, and the versions that the tests have seen.
        module: the module that has the classes.
        classes: the names of the clients, sync and async.
        provider: the value of ``gen_ai.provider.name``.
    """

    requires: str
    module: str
    classes: tuple[str, ...]
    provider: str


CLIENTS: Final = {
    "cerebras": Client("cerebras-cloud-sdk>=1.91,<2", "cerebras.cloud.sdk", ("Cerebras", "AsyncCerebras"), "cerebras"),
    "fireworks": Client("fireworks-ai>=1.2,<2", "fireworks", ("Fireworks", "AsyncFireworks"), "fireworks"),
    "groq": Client("groq>=1.7,<2", "groq", ("Groq", "AsyncGroq"), "groq"),
    "perplexity": Client("perplexityai>=0.46,<1", "perplexity", ("Perplexity", "AsyncPerplexity"), "perplexity"),
    "together": Client("together>=3.1,<4", "together", ("Together", "AsyncTogether"), "together"),
}  # by the name of the integration


def make_hook(name: str) -> Hook:
    """Return the hook of the client that the table has under *name*."""
    client = CLIENTS[name]
    begin = functools.partial(begin_request, provider=client.provider)
    return Hook(
        client.requires,
        client.module,
        trace_methods({f"{client.module}:{cls}.request": begin for cls in client.classes}),
    )
