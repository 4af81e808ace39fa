"""A filter for loggers whose problems mlspan reports itself. Light: it is needed before anything is encoded."""

from __future__ import annotations

import logging
from functools import partial

from ...._patching import Undo, install_until_shutdown
from ...otel.compat import SDK_ENCODER_LOGGER


def silence_own_threads(name: str = SDK_ENCODER_LOGGER) -> None:
    """Drop log records of logger *name* from our own threads until ``tracing.shutdown()``; we report these problems.

    The SDK's encoder, for one, logs a stack trace for each attribute that it cannot encode.
    """

    def add_filter() -> Undo:
        logger = logging.getLogger(name)
        logger.addFilter(_is_from_other_thread)
        return partial(logger.removeFilter, _is_from_other_thread)

    install_until_shutdown(f"filter of {name}", add_filter)


def _is_from_other_thread(record: logging.LogRecord) -> bool:
    return not (record.threadName or "").startswith("mlspan-")
