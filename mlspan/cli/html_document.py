"""What all HTML documents of mlspan's have: one file each, without scripts, fonts or images."""

from __future__ import annotations

from html import escape
from importlib.resources import files


def render_document(title: str, heading: str, facts: str, main: str, *, stylesheet: str) -> str:
    """Return a document that loads nothing. All but the *title* is HTML; *stylesheet* is the name of a file here."""
    style = files(__package__).joinpath(stylesheet).read_text(encoding="utf-8")
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>{escape(title)}</title>
<style>{style}</style>
</head>
<body>
<h1>{heading}</h1>
<dl>{facts}</dl>
<main>
{main}
</main>
</body>
</html>
"""
