"""Version ranges of the libraries that integrations are for."""

from __future__ import annotations

import re


def split_requirement(requires: str) -> tuple[str, str]:
    """Return the distribution and the range of versions that *requires* names, such as ``openai>=1.66,<4``."""
    name, versions = re.split(r"(?=[<>=])", requires, maxsplit=1)
    return name, versions


def is_version_in_range(version: str, versions: str) -> bool:
    """Return whether *version* lies in the range *versions*, such as ``>=1.66,<4``.

    The first three numbers of a version are compared. ``packaging.specifiers`` would do the same, but takes 40 ms to
    import.
    """

    def parse_release(text: str) -> tuple[int, ...]:
        return tuple(int(part) for part in [*re.findall(r"\d+", text.partition("+")[0]), 0, 0, 0][:3])

    have = parse_release(version)
    return all(
        have >= parse_release(bound[2:]) if bound.startswith(">=") else have < parse_release(bound[1:])
        for bound in versions.split(",")
    )
