"""Query parameters of addresses that hold a password, a token or a key."""

from __future__ import annotations

import re
from typing import Final

_SECRET_NAME: Final = re.compile(r"password|passwd|secret|token|key", re.IGNORECASE)


def drop_secret_parameters(uri: str) -> str:
    """Return *uri* without query parameters whose names are those of secrets."""
    address, _, query = uri.partition("?")
    shown = [part for part in query.split("&") if not _SECRET_NAME.search(part.partition("=")[0])]
    return f"{address}?{'&'.join(shown)}" if any(shown) else address
