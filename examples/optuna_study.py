"""An Optuna study: one span with a span for each trial, and the trials as runs below the study's.

Needs ``pip install '.[mlflow]' optuna scikit-learn`` in a checkout of mlspan; no key. Then ``mlspan show`` prints the
trace, and ``mlspan ui`` opens it in MLflow.
"""

from __future__ import annotations

import mlflow
import optuna
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

from mlspan import integrations

integrations.autolog(log_models=False)
X, y = load_iris(return_X_y=True)


def objective(trial: optuna.Trial) -> float:
    with mlflow.start_run(nested=True):
        model = LogisticRegression(C=trial.suggest_float("C", 0.01, 10, log=True), max_iter=200).fit(X, y)
        return float(model.score(X, y))


if __name__ == "__main__":
    with mlflow.start_run(run_name="study"):
        study = optuna.create_study(
            study_name="iris", direction="maximize", sampler=optuna.samplers.RandomSampler(seed=0)
        )
        study.optimize(objective, n_trials=3)
    print(study.best_params)
