"""Addresses as they are shown: without users, passwords, tokens and keys."""

from __future__ import annotations

import re
from typing import Final

_BARE_USER_INFO: Final = re.compile(r"^[^/@\s]+:[^/@\s]*@")  # of an address without a scheme
_SECRET_NAME: Final = re.compile(r"password|passwd|secret|token|key", re.IGNORECASE)


def drop_secret_parameters(uri: str) -> str:
    """Return *uri* without query parameters whose names are those of secrets."""
    address, _, query = uri.partition("?")
    shown = [part for part in query.split("&") if not _SECRET_NAME.search(part.partition("=")[0])]
    return f"{address}?{'&'.join(shown)}" if any(shown) else address


def hide_user_info(uri: str) -> str:
    """Return *uri* without its user, its password, and query parameters such as ``token``."""
    scheme, sep, rest = drop_secret_parameters(uri).partition("://")
    if not sep:
        return _BARE_USER_INFO.sub("", scheme)
    return f"{scheme}{sep}{rest if rest.startswith('/') else rest.rpartition('@')[2]}"  # the path of a file has no user
