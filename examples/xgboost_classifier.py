"""XGBoost's scikit-learn API: a training that stops early, and a prediction that names the model it uses.

Needs ``pip install '.[mlflow]' xgboost scikit-learn`` in a checkout of mlspan; no key. Then ``mlspan show`` prints
the trace, and ``mlspan ui`` opens it in MLflow.
"""

from __future__ import annotations

from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import train_test_split
from xgboost import XGBClassifier

from mlspan import integrations, tracing

integrations.xgboost.autolog(log_input_examples=True, model_format="json")

if __name__ == "__main__":
    X, y = load_breast_cancer(return_X_y=True, as_frame=True)
    X_train, X_test, y_train, y_test = train_test_split(X, y, random_state=0)
    model = XGBClassifier(n_estimators=100, learning_rate=0.5, early_stopping_rounds=3, eval_metric="logloss")
    with tracing.span("train and evaluate"):
        model.fit(X_train, y_train, eval_set=[(X_test, y_test)], verbose=False)
        print("best round", model.best_iteration, "of", model.n_estimators)
        print("accuracy", model.score(X_test, y_test))
