"""MLflow's own autologging of calls: for which libraries it is on in this process. Nothing is imported."""

from __future__ import annotations

import sys
from typing import Any, Final

_UTILITIES: Final = "mlflow.utils.autologging_utils"
_CALLED_WITH: Final = "AUTOLOGGING_INTEGRATIONS"  # by flavor, what each autolog() was last called with


def list_traced_flavors() -> list[str]:
    """Return MLflow's names of the libraries whose calls its autologging traces now.

    Of a library that trains, it makes no spans, and so such a library is not among them.
    """
    called: dict[str, dict[str, Any]] = getattr(sys.modules.get(_UTILITIES), _CALLED_WITH, {})
    return sorted(
        flavor
        for flavor, asked in called.copy().items()
        if flavor != "mlflow" and asked.get("log_traces") and not asked.get("disable")
    )
