"""Tail sampling: the rule that decides which traces to keep once they have ended."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Keep:
    """The rule for ``tracing.configure(keep=...)``. A trace is kept whole if any condition holds, else dropped whole.

    Args:
        errors: the trace has a span that failed.
        slower_than: the trace took more seconds, from its first start to its last end.
        costlier_than: its model calls cost more US dollars together, by the prices that are also sent to MLflow. A
            model whose price is unknown costs nothing here.
        ratio: the share of all other traces, from 0 to 1, chosen by trace id, so that every process chooses the same.

    Raises:
        ValueError: a value is out of its range.
    """

    errors: bool = True
    slower_than: float | None = None
    costlier_than: float | None = None
    ratio: float = 0.0

    def __post_init__(self) -> None:
        for name in ("slower_than", "costlier_than"):
            value = getattr(self, name)
            if value is not None and not (_is_number(value) and value >= 0):
                msg = f"keep: {name} takes a number, 0 or more"
                raise ValueError(msg)
        if not (_is_number(self.ratio) and 0 <= self.ratio <= 1):
            msg = "keep: ratio takes a number from 0 to 1"
            raise ValueError(msg)

    @classmethod
    def parse(cls, text: str) -> Keep:
        """Return the rule that *text* writes as ``errors,slower=5,cost=0.05,ratio=0.1``, each part optional.

        Raises:
            ValueError: *text* is not of that form.
        """
        values: dict[str, float | bool] = {"errors": False}
        for part in filter(None, (part.strip() for part in text.split(","))):
            name, separator, value = (word.strip() for word in part.partition("="))
            if part == "errors":
                values["errors"] = True
            elif separator and name in _SHORT:
                values[_SHORT[name]] = _number(value)
            else:
                raise ValueError(_TAKES)
        return cls(**values)  # type: ignore[arg-type]  # checked there


_SHORT = {"slower": "slower_than", "cost": "costlier_than", "ratio": "ratio"}
_TAKES = "takes any of errors, slower=SECONDS, cost=DOLLARS and ratio=SHARE, with commas between them"


def _number(text: str) -> float:
    """Return the number that *text* writes. Raise ValueError with the syntax of a rule if it is none."""
    try:
        return float(text)
    except ValueError:
        raise ValueError(_TAKES) from None


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
