"""Environments of their own: other versions of what we hook, and next to nothing at all."""

from __future__ import annotations

import nox

nox.options.default_venv_backend = "uv"
nox.options.reuse_existing_virtualenvs = True
nox.options.error_on_missing_interpreters = True

# The lowest that the extra names, the last of 2, and the newest. Old clients pass httpx an argument it has since lost.
TESTING = [
    "-e",
    ".",
    "websockets",
    "pytest",
    "pytest-asyncio",
    "pytest-timeout",
    "jsonschema",
    "opentelemetry-instrumentation",
]
OPENAI = {"lowest": ["openai==1.66.0", "httpx<0.28"], "2": ["openai==2.54.0"], "newest": ["openai>=3.54,<4"]}


@nox.session
@nox.parametrize("versions", list(OPENAI.values()), ids=list(OPENAI))
def openai(session: nox.Session, versions: list[str]) -> None:
    """The contract of chat completions, on each major version of the client."""
    session.install("--quiet", *TESTING, *versions)
    session.run("pytest", "-q", "tests/integrations", "-k", "(openai or hook) and not load", *session.posargs)


@nox.session
def bare(session: nox.Session) -> None:
    """Without MLflow and without any framework."""
    session.install("--quiet", *TESTING)
    session.run("pytest", "-q", "tests/test_bare.py", *session.posargs)
