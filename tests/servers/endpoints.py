"""The variables that lead an example's client to a server of the tests, in the place of its provider."""

from __future__ import annotations

from servers.aws_events import script_chat
from servers.scripted import Scripted


def list_endpoints(aimock: str, scripted: Scripted) -> dict[str, str]:
    """Return the variables for every provider, and tell *scripted* what Bedrock answers.

    Args:
        aimock: the base URL of the server that speaks the APIs of OpenAI, Anthropic and Google, with its ``/v1``.
        scripted: the server that plays Bedrock.
    """
    host = aimock.removesuffix("/v1")
    return {
        "OPENAI_BASE_URL": aimock,
        "OPENAI_API_BASE": aimock,  # LlamaIndex reads this name alone
        "OPENAI_API_KEY": "test",
        "ANTHROPIC_BASE_URL": host,
        "ANTHROPIC_API_KEY": "test",
        "GOOGLE_GEMINI_BASE_URL": host,
        "GEMINI_API_KEY": "test",
        "TOGETHER_BASE_URL": host,
        "TOGETHER_API_KEY": "test",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # no request for its prices
        **script_chat(scripted),
    }
