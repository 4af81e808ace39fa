"""Searches and trainings on Ray's workers: ``python distributed_ray.py NAME...`` runs those of these names."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from distributed_driver import drive, start

X = np.arange(80, dtype=float).reshape(40, 2)
Y = np.tile([0, 1], 20)


def objective(config: dict[str, float]) -> dict[str, float]:
    from sklearn.linear_model import LogisticRegression

    if config["c"] < 0:
        raise ValueError("no")
    return {"score": float(LogisticRegression(C=config["c"]).fit(X, Y).score(X, Y)) + config["c"]}


def tune() -> object:
    """A search of three trials, of which one fails, in a run of the caller's."""
    import mlflow
    from ray import tune

    with mlflow.start_run():
        found = tune.Tuner(
            objective,
            param_space={"c": tune.grid_search([0.5, 1.0, -1.0])},
            tune_config=tune.TuneConfig(metric="score", mode="max"),
            run_config=tune.RunConfig(name="of-c", storage_path=str(Path.cwd() / "ray"), verbose=0),
        ).fit()
    best = found.get_best_result()
    return [len(found), found.num_errors, best.config, best.metrics["score"]]


def tune_stopped() -> object:
    """A trial that reports three times and is then stopped, amid what it does."""
    from ray import tune

    def endless(config: dict[str, float]) -> None:
        while True:
            tune.report({"loss": config["c"]})

    found = tune.Tuner(
        endless,
        param_space={"c": 2.0},
        run_config=tune.RunConfig(
            name="stopped", storage_path=str(Path.cwd() / "ray"), verbose=0, stop={"training_iteration": 3}
        ),
    ).fit()
    return [len(found), found.num_errors]


def grid_search() -> object:
    """scikit-learn's search on Ray's backend for joblib."""
    from joblib import parallel_config
    from ray.util.joblib import register_ray
    from sklearn.model_selection import GridSearchCV
    from sklearn.tree import DecisionTreeClassifier

    register_ray()
    with parallel_config("ray", n_jobs=2):
        search = GridSearchCV(DecisionTreeClassifier(), {"max_depth": [1, 2]}, cv=2).fit(X, Y)
    return [float(score) for score in search.cv_results_["mean_test_score"]]


def _train_part() -> None:
    import xgboost
    from ray.train.xgboost import RayTrainReportCallback

    data = xgboost.DMatrix(X, label=Y)
    xgboost.train(
        {"objective": "binary:logistic"},
        data,
        num_boost_round=2,
        evals=[(data, "train")],
        callbacks=[RayTrainReportCallback(metrics=["train-logloss"])],
    )


def train() -> object:
    """XGBoost by Ray Train, on two workers."""
    from ray.train import RunConfig, ScalingConfig
    from ray.train.xgboost import XGBoostTrainer

    trained = XGBoostTrainer(
        _train_part,
        scaling_config=ScalingConfig(num_workers=2, resources_per_worker={"CPU": 0.5}),
        run_config=RunConfig(name="boosted", storage_path=str(Path.cwd() / "ray")),
    ).fit()
    return trained.metrics


def main() -> None:
    start()
    import ray

    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=True)
    try:
        drive([tune, tune_stopped, grid_search, train])
    finally:
        ray.shutdown()


if __name__ == "__main__":
    main()
