"""OpenSearch's clients: searches, and what is written and deleted."""

from __future__ import annotations

from typing import Final

from .._shape import get_list
from ._vectors.database import Database, make_hook
from ._vectors.search_engines import make_methods

__all__ = ["HOOK", "autolog"]


def _find_server(client: object) -> object:
    """Return the address of the first host that the client was given."""
    return next(iter(get_list(client, "transport.hosts")), None)


_METHODS: Final = make_methods(_find_server)
_ASYNC: Final = {  # the module lacks it where there is no aiohttp
    f"opensearchpy:AsyncOpenSearch.{name}": method._replace(is_optional=True) for name, method in _METHODS.items()
}
HOOK = make_hook(
    Database(
        "opensearch",
        "opensearch-py>=2.8,<4",
        "opensearchpy",
        {**{f"opensearchpy:OpenSearch.{name}": method for name, method in _METHODS.items()}, **_ASYNC},
        is_general=True,
    )
)
autolog = HOOK.autolog
