"""fastai, which MLflow no longer logs: parameters, the metrics of each epoch, a pyfunc model, and a span.

Needs ``pip install '.[mlflow]' fastai`` in a checkout of mlspan; no key. Then ``mlspan show`` prints the trace, and
``mlspan ui`` opens it in MLflow.
"""

from __future__ import annotations

import pandas as pd
from fastai.tabular.all import RegressionBlock, TabularDataLoaders, tabular_learner

from mlspan import integrations

integrations.fastai.autolog(log_input_examples=True)

if __name__ == "__main__":
    rows = pd.DataFrame({"size": [40.0, 55.0, 62.0, 80.0, 95.0, 110.0] * 4})
    rows["price"] = 2 * rows["size"]
    data = TabularDataLoaders.from_df(
        rows, y_names="price", cont_names=["size"], y_block=RegressionBlock(), bs=8, valid_idx=[0, 1, 2], num_workers=0
    )
    learner = tabular_learner(data, layers=[4])
    with learner.no_bar():
        learner.fit_one_cycle(2)
    print(learner.recorder.values)
