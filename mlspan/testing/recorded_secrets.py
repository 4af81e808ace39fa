"""Take secrets out of what is recorded. No header of a request is written; keys are replaced wherever they stand."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode

from ..tracing.operations.content import REDACTED, mask_api_keys

_SECRET_VARIABLE: Final = re.compile(r"(?:KEY|TOKEN|SECRET|PASSWORD|CREDENTIALS?)$")
_SECRET_FIELD: Final = re.compile(
    r"(?:.*[-_])?(?:api[-_]?key|authorization|password|passwd|secret|(?:access|refresh|id|auth|bearer|session)[-_]?token|"
    r"secret[-_]?key|access[-_]?key|private[-_]?key|cookie)",
    re.IGNORECASE,
)
_SECRET_PARAMETERS: Final = frozenset({"key", "sig", "signature", "token", "x-amz-signature", "x-amz-security-token"})
_SHORTEST_SECRET: Final = 8  # characters of a credential; what is shorter stands in ordinary text as well
_SHORTEST_KEY: Final = 12  # characters of a variable's value, which may be no secret


def _looks_random(value: str) -> bool:
    return len(value) >= _SHORTEST_KEY and any(map(str.isdigit, value)) and not any(map(str.isspace, value))


def _sort_secrets(secrets: Iterable[str]) -> tuple[str, ...]:
    """Return the longest first: one may be part of another."""
    return tuple(sorted({*secrets}, key=len, reverse=True))


class SecretRemover:
    """Takes secrets out of texts and of values made of them.

    A secret is what a request has in a header for credentials, what the environment has in a variable named as a key,
    what looks like the key of a well-known API, and what stands in a field named as one.

    Args:
        redact: takes out what else is to be hidden of a text.
    """

    def __init__(self, redact: Callable[[str], str] | None = None) -> None:
        self._redact = redact
        found = (value for name, value in os.environ.items() if _SECRET_VARIABLE.search(name))
        self._known = _sort_secrets(value for value in found if _looks_random(value))

    def learn_credentials(self, headers: Iterable[tuple[str, str]]) -> None:
        """Note what a request has in its headers for credentials."""
        for name, value in headers:
            if _SECRET_FIELD.fullmatch(name) is not None:
                words = (word for word in value.split() if len(word) >= _SHORTEST_SECRET)
                self._known = _sort_secrets([*self._known, *words])

    def clean_text(self, text: str) -> str:
        """Return *text* without secrets."""
        for secret in self._known:
            text = text.replace(secret, REDACTED)
        text = mask_api_keys(text)
        return text if self._redact is None else self._redact(text)

    def clean_value(self, value: Any, name: str = "") -> Any:
        """Return *value*, which may be made of dicts and lists, without secrets; *name* is that of its field."""
        if isinstance(value, str):
            return REDACTED if value and _SECRET_FIELD.fullmatch(name) is not None else self.clean_text(value)
        if isinstance(value, Mapping):
            return {self.clean_text(key): self.clean_value(item, key) for key, item in value.items()}
        if isinstance(value, list):
            return [self.clean_value(item, name) for item in value]
        return value

    def clean_path(self, path: str) -> str:
        """Return the path and query of an address without secrets."""
        place, mark, query = path.partition("?")
        pairs = parse_qsl(query, keep_blank_values=True)
        cleaned = [
            (name, REDACTED if name.lower() in _SECRET_PARAMETERS else self.clean_value(value, name))
            for name, value in pairs
        ]
        return self.clean_text(place) + mark + urlencode(cleaned, safe="[]")
