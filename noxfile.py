"""Environments of their own: other versions of what we hook, and next to nothing at all.

``make test`` runs the two tags side by side: ``trains``, and ``calls`` with the main tests after it.
``make matrix`` runs what is wider, the tag ``matrix``.
"""

from __future__ import annotations

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


@nox.session(tags=["calls"])
@nox.parametrize("versions", list(OPENAI.values()), ids=list(OPENAI))
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


ANTHROPIC = {"lowest": ["anthropic==0.75.0"], "1": ["anthropic>=1,<2"]}


@nox.session(tags=["calls"])
@nox.parametrize("versions", list(ANTHROPIC.values()), ids=list(ANTHROPIC))
def anthropic(session: nox.Session, versions: list[str]) -> None:
    """Anthropic's client at its lowest and at the last of 1; the newest is in the environment of the main tests."""
    session.install("--quiet", *TESTING, *versions)
    session.run("pytest", "-q", "tests/integrations/test_anthropic.py", *session.posargs)


GOOGLE_GENAI = {"lowest": ["google-genai==1.20.0"], "newest": ["google-genai>=3,<4", "mlflow>=3.6,<4"]}


@nox.session(tags=["calls"])
@nox.parametrize("versions", list(GOOGLE_GENAI.values()), ids=list(GOOGLE_GENAI))
def google_genai(session: nox.Session, versions: list[str]) -> None:
    """Google's client at its lowest and newest; its example and its page, which need MLflow."""
    session.install("--quiet", *TESTING, *versions)
    tests = ["tests/integrations/test_google_genai.py"]
    if "mlflow>=3.6,<4" in versions:
        tests += ["tests/test_examples.py", "tests/test_docs.py"]
    session.run("pytest", "-q", *tests, "-k", "google_genai and not command", *session.posargs)


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
}


@nox.session(tags=["calls"])
@nox.parametrize("versions", list(LANGCHAIN.values()), ids=list(LANGCHAIN))
def langchain(session: nox.Session, versions: list[str]) -> None:
    """LangChain and LangGraph at their lowest; the newest are in the environment of the main tests."""
    session.install("--quiet", *TESTING, "numpy", *versions)
    which = "langchain or langgraph" if versions == LANGCHAIN["0.3"] else "(langchain or langgraph) and not matrix"
    session.run("pytest", "-q", "tests/integrations", "-k", which, *session.posargs)


AG2 = {"lowest": ["ag2[openai]==0.10.0"], "0.x": ["ag2[openai]<1", "mlflow"], "newest": ["ag2[openai]>=1.2,<2"]}


@nox.session(tags=["calls"])
@nox.parametrize("versions", list(AG2.values()), ids=list(AG2))
def ag2(session: nox.Session, versions: list[str]) -> None:
    """The classic API at its lowest and its last, with its example, and the agents that came after it."""
    session.install("--quiet", *TESTING, *versions)
    session.run("pytest", "-q", "tests/integrations", "tests/test_examples.py", "-k", "ag2", *session.posargs)


# mcp 2 is not what AutoGen's extension was written for; mlflow, for the example, needs docker, which wants all of it.
AUTOGEN = {
    "lowest": ["autogen-agentchat==0.7.0", "autogen-ext[mcp,openai]==0.7.0", "openai<2", "mcp<2"],
    "newest": ["autogen-agentchat>=0.7,<0.8", "autogen-ext[docker,mcp,openai]>=0.7,<0.8", "mcp<2", "mlflow>=3.6,<4"],
}


@nox.session(tags=["calls"])
@nox.parametrize("versions", list(AUTOGEN.values()), ids=list(AUTOGEN))
def autogen(session: nox.Session, versions: list[str]) -> None:
    """AutoGen, whose pins the main environment does not meet, and its example."""
    session.install("--quiet", *TESTING, *versions)
    session.run("pytest", "-q", "tests/integrations", "tests/test_examples.py", "-k", "autogen", *session.posargs)


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


@nox.session(tags=["calls"])
@nox.parametrize("versions", list(LLAMA_INDEX.values()), ids=list(LLAMA_INDEX))
def llama_index(session: nox.Session, versions: list[str]) -> None:
    """LlamaIndex at its lowest and newest, and its examples, which need MLflow."""
    session.install("--quiet", *TESTING, *versions)
    session.run("pytest", "-q", "tests/integrations", "tests/test_examples.py", "-k", "llama", *session.posargs)


# MLflow 3.6 takes the next SQLAlchemy, and then does not import beside it.
MLFLOWS = {"lowest": ["mlflow==3.6.0", "sqlalchemy<2.1"], "newest": ["mlflow>=3.17,<4"]}


@nox.session(tags=["calls"])
@nox.parametrize("versions", list(MLFLOWS.values()), ids=list(MLFLOWS))
def mlflow(session: nox.Session, versions: list[str]) -> None:
    """A traced chat in a run, read back from the oldest and newest MLflow of the extra: a database, a server."""
    session.install("--quiet", *TESTING, *versions, "openai>=3,<4")
    session.run("pytest", "-q", "tests/test_main_job.py", *session.posargs)


@nox.session(tags=["matrix"])
def wide(session: nox.Session) -> None:
    """What the main tests take a sample of: bursts of content, 100,000 traces, a root that is open for minutes."""
    session.install("--quiet", *TESTING, "mlflow>=3.17,<4")
    env = {"MLSPAN_WIDE": "1"}
    session.run("pytest", "-q", "tests/test_memory.py", "tests/test_large_traces.py", *session.posargs, env=env)


@nox.session(tags=["matrix"])
def gevent(session: nox.Session) -> None:
    """Requests, forks and signals under gevent, in a plain script and in gunicorn's workers of that class."""
    session.install("--quiet", *TESTING, "gevent>=25", "gunicorn>=23")
    session.run("pytest", "-q", "tests/test_gevent.py", *session.posargs)


@nox.session(tags=["matrix"])
def names(session: nox.Session) -> None:
    """Without each private name of MLflow, OpenTelemetry, wrapt and the Agents SDK; the suite takes a sample away."""
    session.install("--quiet", *TESTING, "mlflow>=3.17,<4", "openai>=3,<4", "openai-agents", "scikit-learn")
    files = ["tests/test_missing_names.py", "tests/test_private_names.py", "tests/test_private_uses.py"]
    session.run("pytest", "-q", *files, *session.posargs, env={"MLSPAN_ALL_NAMES": "1"})


@nox.session(tags=["matrix"])
def differential(session: nox.Session) -> None:
    """All that a program can see, with mlspan and without it: the suite's scenarios, and trainings."""
    libraries = ["mlflow>=3.17,<4", "openai>=3,<4", "langchain-openai", "langgraph", "numpy", "scikit-learn"]
    session.install("--quiet", *TESTING, *libraries)
    env = {"MLSPAN_DIFFERENTIAL": "scenarios_trainings"}
    session.run("pytest", "-q", "tests/differential", *session.posargs, env=env)


@nox.session(tags=["matrix"])
def prereleases(session: nox.Session) -> None:
    """The newest of OpenTelemetry, MLflow, OpenAI and LangChain, betas and candidates among them."""
    newest = ["opentelemetry-sdk", "opentelemetry-exporter-otlp", "mlflow", "openai", "langchain-openai", "langgraph"]
    session.install("--quiet", "--upgrade", "--prerelease", "allow", *TESTING, *newest, "numpy")
    session.run("mlspan", "doctor", "--hooks", "--no-write", success_codes=[0, 1])
    which = "openai and not load or langchain or langgraph or patch_point or main_job or fast_span or private_names"
    session.run("pytest", "-q", "tests", "--ignore=tests/workers", "-k", which, *session.posargs)


WORKERS = {
    "newest": ["celery>=5.7,<6", "distributed>=2026.8", "joblib>=1.6,<2", "pyspark==4.2.*", "ray>=2.60,<3", "pandas<3"],
    "lowest": ["celery==5.4.0", "distributed==2025.1.0", "joblib==1.4.2"],
}


@nox.session(tags=["trains"])
@nox.parametrize("versions", list(WORKERS.values()), ids=list(WORKERS))
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
# package lacks for signatures. A torch of this version may lie on the machine as a wheel for the CPU, which pip takes
# by itself (PIP_FIND_LINKS); else it is the registry's.
MLFLOW = "mlflow==3.17.*"
TORCH = "torch==2.13.0"
CLASSIC = {
    "classic": [
        MLFLOW,
        "scikit-learn==1.9.*",
        "xgboost-cpu==3.2.*",
        "lightgbm==4.7.*",
        "statsmodels==0.15.*",
        "optuna",
    ],
    "spark": [MLFLOW, "pyspark==4.2.*", "pandas<3"],
    "tensorflow": [MLFLOW, "tensorflow-cpu==2.21.*", "keras==3.15.*", "tensorboard"],
    "lightning": [MLFLOW, TORCH, "lightning==2.6.*", "pytorch-lightning==2.6.*"],
    "fastai": [MLFLOW, TORCH, "torchvision==0.28.*", "fastai==2.8.*"],  # another torchvision has torch replaced
    "paddle": [MLFLOW, "paddlepaddle==3.3.*", "setuptools<81"],
    "gluon": ["mlflow-skinny==3.17.*", "mxnet==1.9.1", "numpy<1.24", "pandas<2", "scipy<1.12"],
}
TESTS = {
    "classic": ["sklearn", "xgboost", "lightgbm", "statsmodels", "optuna", "mlflow_autolog"],
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


for name in CLASSIC:
    nox.session(trains, name=name, tags=["trains"])
