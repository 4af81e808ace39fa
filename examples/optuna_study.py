"""An Optuna study: one run, with a run below it for each trial, and the whole study as one trace."""

from __future__ import annotations

import mlflow
import optuna
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

from mlspan import integrations, tracing

integrations.autolog(log_models=False)
X, y = load_iris(return_X_y=True)


def objective(trial: optuna.Trial) -> float:
    with mlflow.start_run(nested=True):
        model = LogisticRegression(C=trial.suggest_float("C", 0.01, 10, log=True), max_iter=200).fit(X, y)
        return float(model.score(X, y))


if __name__ == "__main__":
    with mlflow.start_run(run_name="study"), tracing.span("study"):
        study = optuna.create_study(direction="maximize", sampler=optuna.samplers.RandomSampler(seed=0))
        study.optimize(objective, n_trials=3)
    print(study.best_params)
