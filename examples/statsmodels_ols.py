"""statsmodels, with what MLflow's own autologging lacks for it: an example, a signature and the data.

Needs ``pip install '.[mlflow]' statsmodels`` in a checkout of mlspan; no key. Then ``mlspan show`` prints the trace,
and ``mlspan ui`` opens it in MLflow.
"""

from __future__ import annotations

import pandas as pd
import statsmodels.api as sm

from mlspan import integrations

integrations.statsmodels.autolog(log_input_examples=True)

if __name__ == "__main__":
    rows = pd.DataFrame(
        {"size": [40.0, 55.0, 62.0, 80.0, 95.0, 110.0], "price": [81.0, 109.0, 126.0, 158.0, 192.0, 219.0]}
    )
    result = sm.OLS(rows["price"], sm.add_constant(rows[["size"]])).fit()
    print(result.params)
