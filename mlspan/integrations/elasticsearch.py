"""Elasticsearch's clients: searches, and what is written and deleted.

The client opens a span of its own for each request. It is held back where the request is recorded here.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Final

from .._shape import get_field, get_nested
from ..hooks.hook import Hook
from ..hooks.own_spans import suppress_own_spans
from ..hooks.patching import Patch
from ._vectors.database import Database, is_inside_call, make_hook
from ._vectors.search_engines import make_methods

__all__ = ["HOOK", "autolog"]

PRIVATE_NAMES: Final[dict[str, str]] = {"_otel": "nothing, but the library's own span stands beside ours"}
_SYSTEM: Final = "elasticsearch"


def _find_server(client: object) -> object:
    """Return the address of the first node that the client knows."""
    pool: object = get_nested(client, "transport.node_pool", object)
    nodes = pool.all() if hasattr(pool, "all") else ()
    return get_field(next(iter(nodes), None), "base_url")


def _hold_back_own_spans(hook: Hook) -> Iterator[Patch]:
    yield from suppress_own_spans(
        hook,
        ["elasticsearch._otel:OpenTelemetry.span"],
        applies=lambda _: is_inside_call(_SYSTEM),
        instead=_make_no_span,
    )


def _make_no_span() -> AbstractContextManager[object]:
    """Return what the library itself uses where it opens no span."""
    from elastic_transport import OpenTelemetrySpan

    return nullcontext(OpenTelemetrySpan(None))


_CLIENTS: Final = ("elasticsearch:Elasticsearch", "elasticsearch:AsyncElasticsearch")
HOOK = make_hook(
    Database(
        _SYSTEM,
        "elasticsearch>=8.15,<10",
        "elasticsearch",
        {f"{client}.{name}": one for client in _CLIENTS for name, one in make_methods(_find_server).items()},
        is_general=True,
    ),
    list_patches=_hold_back_own_spans,
)
autolog = HOOK.autolog
