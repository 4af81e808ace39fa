"""Readers of requests to model servers: host and port, provider, parameters and token usage."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final
from urllib.parse import urlsplit

from .._shape import MOST_COUNTED, get_count, get_field, get_fields, get_list, get_nested, is_a, read_amount, read_count
from ..tracing.operations import semconv as sc
from ..tracing.operations.records import Chat, Inference, ModelCall, Record

# Private names that some versions or classes lack, each with what is then left out.
PRIVATE_FIELDS: Final[dict[str, str]] = {
    "_client": "the address of the server, where the outer client does not name it",
}

_DEFAULT_PORTS: Final = {"https": 443, "http": 80, "wss": 443, "ws": 80}


def find_base_url(client: object) -> object:
    """Return the ``base_url`` of a client, or of the client that it keeps in ``_client``; None if neither has one."""
    return get_field(client, "base_url") or get_field(get_field(client, "_client"), "base_url")


def read_host_and_port(url: object) -> tuple[str | None, int | None]:
    """Return host and port of a URL; the port is the scheme's own if the URL has none.

    Args:
        url: text, or an object with ``host``, ``port`` and ``scheme`` such as ``httpx.URL``. Anything else has no host.
    """
    if isinstance(url, str):
        return _split_url(url if type(url) is str else str.__str__(url))  # a subclass may have a hash of its own
    if url is None:
        return None, None
    host, port, scheme = get_nested(url, "host", str), get_nested(url, "port", int), get_field(url, "scheme")
    return (host, port or _DEFAULT_PORTS.get(scheme)) if host else (None, None)


@lru_cache(maxsize=256)  # a client asks for the same at each call
def _split_url(url: str) -> tuple[str | None, int | None]:
    """Return host and port of a URL in a text."""
    try:
        parts = urlsplit(url)
        host = parts.hostname
    except ValueError:  # brackets that are no address
        return None, None
    try:
        port = parts.port
    except ValueError:  # the port is no number
        return host, None
    return (host, port or _DEFAULT_PORTS.get(parts.scheme)) if host else (None, None)


def read_server_fields(url: object) -> dict[str, Any]:
    """Return the fields ``server_address`` and ``server_port`` of a record, as far as *url* has them."""
    host, port = read_host_and_port(url)
    return {"server_address": host, "server_port": port} if host else {}


_PROVIDERS_BY_HOST: Final = {  # host name or its end -> value of gen_ai.provider.name
    ".openai.azure.com": "azure.ai.openai",
    ".cognitiveservices.azure.com": "azure.ai.openai",
    "models.inference.ai.azure.com": "azure.ai.inference",
    ".services.ai.azure.com": "azure.ai.inference",
    "api.anthropic.com": "anthropic",
    "api.cohere.ai": "cohere",
    "api.cohere.com": "cohere",
    "api.deepseek.com": "deepseek",
    "generativelanguage.googleapis.com": "gcp.gemini",
    "aiplatform.googleapis.com": "gcp.vertex_ai",
    "api.groq.com": "groq",
    "api.mistral.ai": "mistral_ai",
    "api.moonshot.ai": "moonshot_ai",
    "api.perplexity.ai": "perplexity",
    "api.x.ai": "x_ai",
    # The conventions' list is open: these are names of the price list.
    "api.cerebras.ai": "cerebras",
    "api.fireworks.ai": "fireworks",
    "api.moonshot.cn": "moonshot_ai",
    "api.together.xyz": "together",
    "openrouter.ai": "openrouter",
}


@lru_cache(maxsize=256)
def find_provider_by_host(host: str) -> str | None:
    """Return the provider at *host*, as the conventions' ``gen_ai.provider.name``; None if the host is not known."""
    return next((name for end, name in _PROVIDERS_BY_HOST.items() if host.endswith(end)), None)


def find_provider_by_url(url: object) -> str | None:
    """Return the provider at the host of a URL; see :func:`read_host_and_port`. None if the host is not known."""
    host, _ = read_host_and_port(url)
    return find_provider_by_host(host or "")


FieldMapping = Mapping[str, tuple[str, Any]]  # parameter of a request -> field of the record, and its type
REQUEST_PARAMETERS: Final[FieldMapping] = {
    "frequency_penalty": ("frequency_penalty", float),
    "max_completion_tokens": ("max_tokens", int),
    "max_tokens": ("max_tokens", int),
    "presence_penalty": ("presence_penalty", float),
    "reasoning_effort": ("reasoning_level", str),
    "seed": ("seed", int),
    "temperature": ("temperature", float),
    "top_k": ("top_k", int),
    "top_p": ("top_p", float),
}


def set_parameters(record: Record, asked: Mapping[str, Any], wanted: FieldMapping = REQUEST_PARAMETERS) -> None:
    """Copy the parameters of a request into the fields of *record*; a value of another type is left out.

    Args:
        record: the record.
        asked: the parameters of the request. If two of them stand for one field, the later one counts.
        wanted: by a parameter's name, the field and its type. Integers are accepted for floats.
    """
    for name in filter(wanted.__contains__, asked):  # in C: some clients pass every argument that there is
        value, (field, kind) = asked[name], wanted[name]
        if type(value) is kind and kind is not int:  # as most are; an integer has to fit into 64 bits
            setattr(record, field, value)
        elif kind is float and is_a(value, (int, float)):
            setattr(record, field, float(value))
        elif kind is str and isinstance(value, str):
            setattr(record, field, value if type(value) is str else str.__str__(value))  # a (str, Enum) has a name
        elif kind is not float and is_a(value, kind):
            setattr(record, field, value)


UsageTable = Mapping[str, str]  # name of a count -> field of the record; "in": the object that holds the counts


def count_tokens(usage: object, *tables: UsageTable) -> dict[str, int]:
    """Return the token counts of *usage*, by the field of the record that each belongs to.

    Args:
        usage: a dict or a client's model. None has no counts.
        tables: by a count's name, a field of the record. The entry ``"in"``, if a table has one, names the object
            inside *usage* that holds the counts, such as ``prompt_tokens_details``.
    """
    found: dict[str, int] = {}
    if usage is None:
        return found
    known = get_fields(usage)
    for table in tables:
        if "in" not in table:
            counts = known
        elif not (counts := get_fields(known.get(table["in"]))):
            continue
        for name in filter(counts.__contains__, table):
            if (tokens := counts[name]) is None:
                continue
            is_count = type(tokens) is int and 0 <= tokens <= MOST_COUNTED  # as nearly always: one call less
            if is_count or (tokens := read_count(tokens)) is not None:
                found[table[name]] = tokens
    return found


def read_usage(record: ModelCall, usage: object, *tables: UsageTable) -> None:
    """Read token counts into the fields of *record*; see :func:`count_tokens`."""
    vars(record).update(count_tokens(usage, *tables))


CHAT_USAGE: Final[tuple[UsageTable, ...]] = (  # of OpenAI's chat completions
    {"prompt_tokens": "input_tokens", "completion_tokens": "output_tokens"},
    {
        "in": "prompt_tokens_details",
        "cached_tokens": "cache_read_tokens",
        "cache_write_tokens": "cache_write_tokens",
        "audio_tokens": "audio_input_tokens",
        "text_tokens": "text_input_tokens",
        "image_tokens": "image_input_tokens",
    },
    {
        "in": "completion_tokens_details",
        "reasoning_tokens": "reasoning_tokens",
        "audio_tokens": "audio_output_tokens",
        "text_tokens": "text_output_tokens",
        "image_tokens": "image_output_tokens",
    },
)
_SERVERS_USAGE: Final[tuple[UsageTable, ...]] = (  # what compatible servers name in their own way
    {"cached_tokens": "cache_read_tokens", "prompt_cache_hit_tokens": "cache_read_tokens"},  # Kimi, DeepSeek
)
_SERVERS_FIELDS: Final = frozenset({"cached_tokens", "prompt_cache_hit_tokens", "cost"})  # theirs alone
PREDICTION_USAGE: Final[UsageTable] = {  # only of a request that has a prediction: it is 0 for all others
    "in": "completion_tokens_details",
    "accepted_prediction_tokens": "accepted_prediction_tokens",
    "rejected_prediction_tokens": "rejected_prediction_tokens",
}


def read_chat_usage(record: Inference, usage: object) -> None:
    """Read the usage of a chat completion, OpenAI's or a compatible server's."""
    known = get_fields(usage)
    counts = count_tokens(known, *CHAT_USAGE)
    if known.get("total_tokens") != counts.get("input_tokens", 0) + counts.get("output_tokens", 0):
        _add_missing_tokens(counts, get_count(known, "total_tokens") or 0)
    vars(record).update(counts)
    if not _SERVERS_FIELDS.isdisjoint(known):
        read_usage(record, known, *_SERVERS_USAGE)
        _read_told_cost(record, known)


def read_failed_completion(record: Chat, error: BaseException) -> None:
    """Read the answer that OpenAI's client holds in *error*: one that was billed, but is cut and cannot be parsed.

    ``LengthFinishReasonError`` has it as ``completion``; nothing is read of any other exception. Text is added to a
    choice that has none: the chunks of a stream, or the framework, have told it before.
    """
    if (answer := get_field(error, "completion")) is None:
        return
    record.response_id = get_nested(answer, "id", str) or record.response_id
    record.response_model = get_nested(answer, "model", str) or record.response_model
    if record.input_tokens is None and (usage := get_field(answer, "usage")) is not None:
        read_chat_usage(record, usage)
    for index, raw in enumerate(get_list(answer, "choices")):
        choice = record.draft.get_choice(index)
        choice.finish_reason = get_nested(raw, "finish_reason", str) or choice.finish_reason
        if not choice.has_text() and (text := get_nested(raw, "message.content", str)):
            choice.add_text(text)


def _add_missing_tokens(counts: dict[str, int], total: int) -> None:
    """Add to the output what the sum lacks of the *total*: it is reasoning, which is billed as output.

    Some servers count reasoning beside the output (xAI), or do not tell it at all (Gemini). Where the reasoning that is
    told is not what is missing, nothing explains the difference.
    """
    if "input_tokens" not in counts or "output_tokens" not in counts:
        return
    missing = total - counts["input_tokens"] - counts["output_tokens"]
    if missing > 0 and missing == counts.get("reasoning_tokens", missing):
        counts["output_tokens"] += missing
        counts["reasoning_tokens"] = missing


def _read_told_cost(record: Inference, usage: Mapping[str, object]) -> None:
    """Read what the provider says that it charges, in US dollars, as OpenRouter does."""
    told = usage.get("cost")
    cost = read_amount(told if is_a(told, (int, float)) else get_field(told, "total_cost"))  # Perplexity's
    if cost is not None:
        record.extra[sc.USAGE_COST] = cost
        given = read_amount(get_field(usage.get("cost_details"), "upstream_inference_prompt_cost"))
        if given is not None and given <= cost:
            record.extra[sc.USAGE_INPUT_COST] = given


def read_provider_usage(record: ModelCall, usage: object) -> None:
    """Read token counts under the names of any provider: OpenAI, Anthropic, Bedrock or Gemini.

    The record's input tokens include cached ones, which Anthropic and Bedrock count separately. Its output tokens
    include thoughts, which Gemini counts separately. A count of zero does not replace one that the record has, as each
    event of a stream may hold some counts and leave the others at zero.
    """
    counts = _list_provider_counts(usage)
    if not counts:
        return
    is_separate = not _SEPARATE_INPUT.isdisjoint(counts)
    earlier: dict[str, int | None] = {}
    if is_separate and _OPENAI_DETAILS not in counts:  # of OpenAI, input includes what was cached
        earlier = {field: getattr(record, field, None) for field in ("cache_read_tokens", "cache_write_tokens")}
    for path in filter(_TOKEN_FIELDS.__contains__, sorted(counts, key=_ORDER.__getitem__)):
        _set_token_count(record, _TOKEN_FIELDS[path], counts[path])
    for given, *cached in _SEPARATE_TOKEN_COUNTS if is_separate else ():
        if given in counts:
            # an event of a stream may leave out a count that an earlier one has told
            separate = [counts.get(name, earlier.get(_TOKEN_FIELDS[name]) or 0) for name in cached]
            _set_token_count(record, "input_tokens", counts[given] + sum(separate))
    if not _GEMINI_OUTPUT.isdisjoint(counts):  # an answer that stops while it thinks has thoughts alone
        _set_token_count(record, "output_tokens", sum(counts.get(name, 0) for name in _GEMINI_OUTPUT))


def _list_provider_counts(usage: object) -> dict[str, int]:
    """Return the counts of *usage* that the tables below know, by their paths.

    Of a dict or a pydantic model, the fields that are there are looked at once: asking a model for what it lacks runs
    pydantic's ``__getattr__``, and a usage lacks nearly all that other providers tell. Any other object is asked.
    """
    if usage is None:
        return {}
    if not isinstance(usage, dict) and not hasattr(usage, "__pydantic_fields_set__"):
        given = {path: read_count(get_nested(usage, path, object)) for path in _ORDER}
        told = {path: tokens for path, tokens in given.items() if tokens is not None}
        return told if get_field(usage, _OPENAI_DETAILS) is None else {**told, _OPENAI_DETAILS: 0}
    found: dict[str, int] = {}
    known = get_fields(usage)
    for name in filter(_READ_NAMES.__contains__, known):
        if (value := known[name]) is None:
            continue
        if name in _ORDER and (tokens := read_count(value)) is not None:
            found[name] = tokens
        if name in _DETAILS:
            if name == _OPENAI_DETAILS:
                found[name] = 0
            details = get_fields(value)
            for path, inner in _DETAILS[name]:
                if (tokens := read_count(details.get(inner))) is not None:
                    found[path] = tokens
    return found


def _set_token_count(record: ModelCall, field: str, tokens: int | None) -> None:
    """Set a token count, unless it is missing or too large, or zero while the record has one."""
    if tokens is not None and tokens <= MOST_COUNTED and (tokens or getattr(record, field) is None):
        setattr(record, field, tokens)


_TOKEN_FIELDS: Final = {  # path in a usage -> field of the record
    "prompt_tokens": "input_tokens",
    "completion_tokens": "output_tokens",
    "prompt_tokens_details.cached_tokens": "cache_read_tokens",
    "prompt_tokens_details.audio_tokens": "audio_input_tokens",
    "completion_tokens_details.reasoning_tokens": "reasoning_tokens",
    "completion_tokens_details.audio_tokens": "audio_output_tokens",
    "output_tokens": "output_tokens",
    "input_tokens_details.cached_tokens": "cache_read_tokens",
    "output_tokens_details.reasoning_tokens": "reasoning_tokens",
    "output_tokens_details.thinking_tokens": "reasoning_tokens",
    "cache_read_input_tokens": "cache_read_tokens",
    "cache_creation_input_tokens": "cache_write_tokens",
    "outputTokens": "output_tokens",
    "cacheReadInputTokens": "cache_read_tokens",
    "cacheWriteInputTokens": "cache_write_tokens",
    "prompt_token_count": "input_tokens",
    "cached_content_token_count": "cache_read_tokens",
    "thoughts_token_count": "reasoning_tokens",
}
_SEPARATE_TOKEN_COUNTS: Final = (
    ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens"),
    ("inputTokens", "cacheReadInputTokens", "cacheWriteInputTokens"),
)
_SEPARATE_INPUT: Final = frozenset(one[0] for one in _SEPARATE_TOKEN_COUNTS)
# Told apart, and both billed as output.
_GEMINI_OUTPUT: Final = frozenset({"candidates_token_count", "thoughts_token_count"})
_OPENAI_DETAILS: Final = "input_tokens_details"  # an object, which says that the usage is OpenAI's
_ORDER: Final = {  # each path that is read, and its place: of two that stand for one field, the later one counts
    path: place
    for place, path in enumerate(
        [*_TOKEN_FIELDS, *(one[0] for one in _SEPARATE_TOKEN_COUNTS), *sorted(_GEMINI_OUTPUT), _OPENAI_DETAILS]
    )
}
_DETAILS: Final = {  # object inside a usage -> the paths of its counts, and their names in it
    outer: [(path, path.partition(".")[2]) for path in _ORDER if path.startswith(f"{outer}.")]
    for outer in {path.partition(".")[0] for path in _ORDER if "." in path}
}
_READ_NAMES: Final = frozenset({*_ORDER, *_DETAILS})  # fields of a usage that are looked at
