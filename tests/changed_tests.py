"""Choose the test files for the files that have changed: ``make check`` runs them.

``python tests/changed_tests.py`` prints one file a line, and with a name, such as ``openai``, the files named for it.
CONTRIBUTING.md describes the choice. It is a shortcut: ``make test`` runs everything.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath
from typing import Final

ROOT: Final = Path(__file__).parent.parent

# By the start of a path, the tests of what is there: patterns below tests/. The longest start that fits counts.
TESTS_OF: Final[dict[str, tuple[str, ...]]] = {
    "mlspan/cli/": ("test_cli_*.py",),
    "mlspan/hooks/": ("integrations/test_hook.py", "integrations/test_openai.py"),
    "mlspan/integrations/langchain/": ("integrations/test_lang*.py",),
    "mlspan/integrations/langgraph.py": ("integrations/test_langgraph.py",),
    "mlspan/integrations/workers/": ("test_propagation.py",),
    "mlspan/integrations/_training/": ("integrations/test_hook.py", "integrations/test_sklearn.py"),
    "mlspan/testing": ("test_testing.py", "test_pytest_plugin.py", "test_model_answers.py", "test_conventions.py"),
    "examples/monitoring/": ("test_monitoring.py",),
    "examples/testing/": ("test_model_answers.py",),
    "mlspan/notebook.py": ("test_notebook.py",),
    "mlspan/_notebook_summary.py": ("test_notebook.py",),
    "mlspan/tracing/": ("test_manual.py",),
    "mlspan/tracing/runtime.py": ("test_manual.py", "test_coexistence.py"),
    "mlspan/tracing/exit_handler.py": ("test_exit.py", "test_processes.py"),
    "mlspan/tracing/exit_watcher.py": ("test_processes.py",),
    "mlspan/tracing/destinations.py": ("test_export.py",),
    "mlspan/tracing/feedback_spans.py": ("test_feedback.py",),
    "mlspan/tracing/operations/": ("test_manual.py", "test_content.py", "integrations/test_openai.py"),
    "mlspan/tracing/operations/stream.py": ("integrations/test_openai_streams.py",),
    "mlspan/tracing/operations/response_proxy.py": ("test_stream_proxies.py", "integrations/test_openai_streams.py"),
    "mlspan/tracing/operations/raw_response.py": ("integrations/test_openai_streams.py",),
    "mlspan/tracing/operations/foreign_objects.py": ("test_plain_values.py",),
    "mlspan/tracing/operations/plain_checks.py": ("test_plain_values.py",),
    "mlspan/tracing/otel/": ("test_fast_span.py", "test_coexistence.py"),
    "mlspan/tracing/settings/": ("test_config.py", "test_admin_policy.py"),
    "mlspan/tracing/settings/keep_rule.py": ("test_sampling.py",),
    "mlspan/tracing/mlflow_state/": ("test_coexistence.py", "test_mlflow_in_process.py"),
    "mlspan/tracing/mlflow_state/evaluation.py": ("test_mlflow_evaluation.py",),
    "mlspan/tracing/export/": ("test_export.py", "test_spool.py"),
    "mlspan/tracing/export/redaction.py": ("test_content.py", "test_canary.py"),
    "mlspan/tracing/export/tail_sampling.py": ("test_sampling.py",),
    "mlspan/tracing/export/fork_safety.py": ("test_processes.py", "test_fork_signals.py", "test_interrupted_forks.py"),
    "mlspan/tracing/export/mlflow/": ("test_mlflow_translation.py", "test_store.py"),
    "mlspan/tracing/export/mlflow/assessments.py": ("test_feedback.py",),
    "mlspan/tracing/export/mlflow/server.py": ("test_remote.py",),
    "mlspan/tracing/export/mlflow/http.py": ("test_remote.py",),
    "mlspan/tracing/export/otlp/": ("test_otlp_encoder.py", "test_poison.py"),
    "mlspan/tracing/export/sending/": ("test_sending.py", "test_outage.py"),
    "mlspan/tracing/export/spool/": ("test_spool.py", "test_outage.py"),
    "examples/": ("test_examples.py",),
    "docs/": ("test_docs.py",),
    "docs/faq.md": ("test_docs.py", "test_faq.py"),
    "docs/extra.css": ("test_docs.py", "test_site.py"),
    "docs/theme/": ("test_docs.py", "test_site.py"),
    "docs/recipes/": ("test_docs.py", "test_recipes.py"),
    "README.md": ("test_docs.py",),
    "CONTRIBUTING.md": (),
    "CHANGELOG.md": (),
}
# Run if nothing has changed, or a change that no other rule knows: a minute of the most telling tests.
SMOKE: Final = ("test_architecture.py", "test_manual.py", "integrations/test_openai.py", "integrations/test_hook.py")


def choose_tests(changed: Iterable[str], tests: Iterable[str]) -> list[str]:
    """Return those of *tests* that cover the *changed* files, or the smoke tests if that is none.

    All are paths from the root of the repository. A test file is chosen if it has changed itself, if :data:`TESTS_OF`
    names it, or if it is named for the changed module or for the integration that the module belongs to. A change
    under ``mlspan/`` also runs the test of the import graph.
    """
    tests = list(tests)
    patterns = [pattern for path in changed for pattern in _list_patterns(path)]
    return _match_tests(patterns, tests) or _match_tests(SMOKE, tests)


def find_named_tests(name: str, tests: Iterable[str]) -> list[str]:
    """Return those of *tests* whose file name contains *name*."""
    return _match_tests([f"*test_*{name}*.py"], tests)


def _list_patterns(path: str) -> list[str]:
    """Return patterns, below ``tests/``, of the test files for one changed file."""
    parts = PurePosixPath(path).parts
    if parts[0] == "tests":
        return [path.removeprefix("tests/")] if parts[-1].startswith("test_") else list(SMOKE)
    known = max((start for start in TESTS_OF if path.startswith(start)), key=len, default=None)
    patterns = list(TESTS_OF[known]) if known is not None else []
    if parts[0] == "mlspan":
        stem = PurePosixPath(path).stem
        patterns += ["test_architecture.py", f"test_{stem}.py"]
        if parts[1] == "integrations" and len(parts) > 2:  # mlspan/integrations/<name>
            patterns.append(f"integrations/test_{parts[2].removesuffix('.py')}*.py")
    return patterns or ([] if known is not None else list(SMOKE))


def _match_tests(patterns: Iterable[str], tests: Iterable[str]) -> list[str]:
    patterns = list(patterns)
    return sorted(test for test in tests if any(fnmatch(test.removeprefix("tests/"), one) for one in patterns))


def _list_changed() -> list[str]:
    """Return what differs from the commit where this branch left main, new files included."""
    base = _run_git("merge-base", "HEAD", "main") or ["HEAD"]
    return [*_run_git("diff", "--name-only", base[0]), *_run_git("ls-files", "--others", "--exclude-standard")]


def _run_git(*arguments: str) -> list[str]:
    run = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
    return run.stdout.split("\n")[:-1]


def main() -> None:
    tests = [path.relative_to(ROOT).as_posix() for path in (ROOT / "tests").rglob("test_*.py")]
    tests = [path for path in tests if "node_modules" not in path and not path.startswith("tests/workers/")]
    name = sys.argv[1] if len(sys.argv) > 1 else ""
    found = find_named_tests(name, tests) if name else choose_tests(_list_changed(), tests)
    if not found:
        sys.exit(f"no test file is named for {name!r}")
    print("\n".join(found))


if __name__ == "__main__":
    main()
