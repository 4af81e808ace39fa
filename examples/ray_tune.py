"""A search with Ray Tune: one span with a span for each trial, whose trainings are runs below the search's.

Needs ``pip install '.[mlflow]' 'ray[tune]' scikit-learn`` in a checkout of mlspan; no key. Then ``mlspan show``
prints the trace, and ``mlspan ui`` opens it in MLflow.
"""

from __future__ import annotations

import tempfile

import mlflow
import ray
from ray import tune

from mlspan import integrations

integrations.autolog(log_models=False)


def objective(config: dict[str, float]) -> dict[str, float]:
    from sklearn.datasets import load_iris
    from sklearn.linear_model import LogisticRegression

    x, y = load_iris(return_X_y=True)
    model = LogisticRegression(C=config["C"], max_iter=200).fit(x, y)
    return {"accuracy": float(model.score(x, y))}


if __name__ == "__main__":
    ray.init(num_cpus=2, include_dashboard=False)
    with mlflow.start_run(run_name="search"), tempfile.TemporaryDirectory() as folder:
        tuner = tune.Tuner(
            objective,
            param_space={"C": tune.grid_search([0.1, 1.0])},
            tune_config=tune.TuneConfig(metric="accuracy", mode="max"),
            run_config=tune.RunConfig(name="of-C", storage_path=folder, verbose=0),
        )
        print(tuner.fit().get_best_result().config)
    ray.shutdown()
