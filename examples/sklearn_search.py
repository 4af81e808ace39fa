"""A search over a pipeline's parameters: one run with a run below it for each candidate, and one span.

Needs ``pip install '.[mlflow]' scikit-learn`` in a checkout of mlspan; no key. Then ``mlspan show`` prints the trace,
and ``mlspan ui`` opens it in MLflow.
"""

from __future__ import annotations

from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from mlspan import integrations

integrations.autolog()

if __name__ == "__main__":
    X, y = load_iris(return_X_y=True, as_frame=True)
    pipeline = make_pipeline(StandardScaler(), LogisticRegression(max_iter=200))
    search = GridSearchCV(pipeline, {"logisticregression__C": [0.1, 1.0]}, cv=2).fit(X, y)
    print(search.best_params_, search.best_score_)
