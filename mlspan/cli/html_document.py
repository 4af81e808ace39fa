"""The frame of an HTML document, such as the page of a trace: one file, which loads nothing."""

from __future__ import annotations

import base64
import hashlib
from html import escape
from importlib.resources import files


def render_document(
    title: str, heading: str, facts: str, main: str, *, stylesheet: str, script: str | None = None
) -> str:
    """Return a document that loads nothing.

    All but the *title* is HTML; *stylesheet* and *script* are names of files here. No other script may run in it.
    """
    folder = files(__package__)
    style = folder.joinpath(stylesheet).read_text(encoding="utf-8")
    code = "" if script is None else folder.joinpath(script).read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()
    allowed = f"; script-src 'sha256-{digest}'" if code else ""
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'{allowed}">
<title>{escape(title)}</title>
<style>{style}</style>
</head>
<body>
<h1>{heading}</h1>
<dl>{facts}</dl>
<main>
{main}
</main>
{f"<script>{code}</script>" if code else ""}
</body>
</html>
"""
