"""The dashboard and the alert rules of examples/monitoring: they parse, and name what is really emitted."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

yaml = pytest.importorskip("yaml")

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "examples/monitoring"
UNITS = {"s": "_seconds"}  # an annotation such as {span} is left out of the name
OF_PROMETHEUS = {"job", "instance"}
WORDS = {
    "by",
    "sum",
    "rate",
    "increase",
    "deriv",
    "histogram_quantile",
    "and",
    "or",
    "unless",
    "offset",
    "label_values",
}
Emitted = dict[str, set[str]]  # a series' name in Prometheus -> its labels
PROGRAM = """
import json, sys
from collections import Counter
import openai
from opentelemetry import metrics
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import Histogram, InMemoryMetricReader
from mlspan import integrations, tracing
from mlspan._guard import swallowed_errors
from mlspan.tracing.export import self_metrics

reader = InMemoryMetricReader()
metrics.set_meter_provider(MeterProvider([reader]))
tracing.configure(tracking_uri="none")
swallowed_errors["writing content"] = 1
self_metrics.register_counters(Counter(mlflow=1), Counter(mlflow=1), Counter(overflow=1), lambda: 1)
integrations.openai.autolog(include_usage=True)
hello = [{"role": "user", "content": "hello"}]
client = openai.OpenAI(base_url=sys.argv[1], api_key="x", max_retries=0)
list(client.chat.completions.create(model="gpt-4o-mini", messages=hello, stream=True))
try:
    client.with_options(base_url=sys.argv[1] + "/nowhere").chat.completions.create(model="m", messages=hello)
except openai.NotFoundError:
    pass
with tracing.span("flow", kind="workflow"), tracing.span("helper", kind="agent"), tracing.span("look", kind="tool"):
    pass
found = []
for resource in reader.get_metrics_data().resource_metrics:
    for scope in resource.scope_metrics:
        for one in scope.metrics if scope.scope.name == "mlspan" else ():
            data = one.data
            counts_up = getattr(data, "is_monotonic", False)
            kind = "histogram" if isinstance(data, Histogram) else "counter" if counts_up else "gauge"
            keys = sorted({key for point in data.data_points for key in point.attributes})
            found.append([one.name, one.unit, kind, keys])
print(json.dumps(found))
"""


def list_series(name: str, unit: str, kind: str, attributes: list[str]) -> Emitted:
    """Return the series that a metric becomes, as the specification translates OTLP for Prometheus."""
    name, labels = name.replace(".", "_") + UNITS.get(unit, ""), {key.replace(".", "_") for key in attributes}
    if kind == "histogram":
        return {f"{name}_bucket": labels | {"le"}, f"{name}_count": labels, f"{name}_sum": labels}
    return {name + "_total" * (kind == "counter"): labels}


@pytest.fixture(scope="module")
def emitted(aimock: str) -> Emitted:
    """What a program's MeterProvider gets: calls, agents, tools, a call that fails, and mlspan's own counts."""
    pytest.importorskip("openai")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MLSPAN_", "MLFLOW_", "OTEL_"))}
    command = [sys.executable, "-c", PROGRAM, aimock]
    env = {**kept, "PYTHONPATH": str(ROOT), "MLSPAN_DURABILITY": "none"}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=170, check=False)
    assert done.returncode == 0, done.stderr
    return {name: labels for one in json.loads(done.stdout) for name, labels in list_series(*one).items()}


def list_queries() -> list[str]:
    dashboard = json.loads((FOLDER / "dashboard.json").read_text(encoding="utf-8"))
    alerts = yaml.safe_load((FOLDER / "alerts.yaml").read_text(encoding="utf-8"))
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", [])]
    queries += [one["query"]["query"] for one in dashboard["templating"]["list"] if one["type"] == "query"]
    return queries + [rule["expr"] for group in alerts["groups"] for rule in group["rules"]]


def find_unknown(query: str, emitted: Emitted) -> list[str]:
    """Return the metrics and labels of a query that no program has."""
    plain = re.sub(r'"[^"]*"|\[[^\]]*\]|\boffset \w+', "", query)
    labels = set(re.findall(r"(\w+)\s*(?:=~|!=|=|!~)", plain))
    for group in re.findall(r"\bby \(([^)]*)\)", plain):
        labels |= set(re.split(r"\s*,\s*", group.strip()))
    named = set(re.findall(r"\b[a-z_][a-z0-9_]*\b", re.sub(r"\{[^}]*\}|\bby \([^)]*\)", "", plain))) - WORDS
    named -= OF_PROMETHEUS
    known = OF_PROMETHEUS.union(*(emitted.get(name, set()) for name in named))
    unknown = sorted(named - set(emitted)) + sorted(labels - known)
    return [*unknown, *(["parentheses"] if query.count("(") != query.count(")") else [])]


def test_they_name_what_is_emitted(emitted: Emitted) -> None:
    """Each metric and label of a query exists, and each metric is in a query."""
    queries = list_queries()
    assert len(queries) > 20
    assert {query: unknown for query in queries if (unknown := find_unknown(query, emitted))} == {}
    text = " ".join(queries)
    bases = {re.sub(r"_(?:bucket|count|sum)$", "", name) for name in emitted}
    assert sorted(base for base in bases if base not in text) == []


@pytest.mark.parametrize(
    ("query", "unknown"),
    [
        ("sum by (job) (rate(gen_ai_client_cost_sum[1h]))", ["gen_ai_client_cost_sum"]),
        ("gen_ai_client_operation_duration_count", ["gen_ai_client_operation_duration_count"]),
        ('mlspan_errors_total{place="x"}', ["place"]),
        ("sum by (gen_ai_model) (gen_ai_client_token_usage_sum)", ["gen_ai_model"]),
        ("sum(mlspan_errors_total", ["parentheses"]),
    ],
)
def test_what_is_not_emitted_is_seen(query: str, unknown: list[str], emitted: Emitted) -> None:
    """A metric that nobody makes, one without its unit, and a label that it lacks."""
    assert find_unknown(query, emitted) == unknown


FIRING = """
rule_files: [alerts.yaml]
evaluation_interval: 1m
tests:
  - interval: 1m
    input_series:
      - {series: 'otel_sdk_exporter_span_exported_total{job="a", error_type="refused"}', values: '_x20 1x40'}
      - {series: 'otel_sdk_exporter_span_exported_total{job="a"}', values: '0+5x60'}
      - {series: 'otel_sdk_processor_span_queue_size{job="a"}', values: '0+100x60'}
      - {series: 'otel_sdk_processor_span_queue_size{job="b"}', values: '5000x60'}
      - {series: 'gen_ai_client_operation_duration_seconds_count{job="a", gen_ai_request_model="m"}', values: '0+9x60'}
      - series: 'gen_ai_client_operation_duration_seconds_count{job="a", gen_ai_request_model="m", error_type="e"}'
        values: '0+1x60'
    alert_rule_test:
      - {alertname: MlspanSpansRefused, eval_time: 19m, exp_alerts: []}
      - alertname: MlspanSpansRefused
        eval_time: 25m
        exp_alerts:
          - exp_labels: {severity: warning, job: a, error_type: refused}
            exp_annotations:
              summary: A back-end refuses spans of a for good. mlspan show --dead says which, and why.
      - {alertname: MlspanSpansRefused, eval_time: 50m, exp_alerts: []}
      - {alertname: MlspanQueueGrows, eval_time: 30m, exp_alerts: []}
      - alertname: MlspanQueueGrows
        eval_time: 50m
        exp_alerts:
          - exp_labels: {severity: warning, job: a}
            exp_annotations: {summary: "5000 spans of a wait, and more come: a back-end is down or too slow."}
      - {alertname: MlspanSpansDropped, eval_time: 25m, exp_alerts: []}
      - alertname: ModelCallsFail
        eval_time: 30m
        exp_alerts:
          - exp_labels: {severity: warning, job: a, gen_ai_request_model: m}
            exp_annotations: {summary: "10% of the calls of a to m fail."}
"""


@pytest.mark.skipif(not shutil.which("promtool"), reason="promtool is not installed: apt-get install prometheus")
def test_prometheus_takes_the_rules(tmp_path: Path) -> None:
    """Prometheus' own tool reads them, and they fire when they should: on a first refusal, a queue that grows."""
    shutil.copy(FOLDER / "alerts.yaml", tmp_path)
    (tmp_path / "firing.yaml").write_text(FIRING, encoding="utf-8")
    for arguments in (("check", "rules", "alerts.yaml"), ("test", "rules", "firing.yaml")):
        done = run_promtool(*arguments, folder=tmp_path)
        assert done.returncode == 0, done.stdout + done.stderr


def run_promtool(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["promtool", *arguments], cwd=folder, capture_output=True, text=True, timeout=60, check=False)
