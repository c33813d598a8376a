"""Logs set up once per process: console for people, JSON lines for machines. Never payload bytes.

A failure is written with its traceback as plain text and never with the values of its variables: among those
are tokens, passwords and frames.
"""

from __future__ import annotations

import logging
import sys
from typing import Literal

import structlog


def configure_logs(style: Literal["console", "json"] = "console", *, level: int = logging.INFO) -> None:
    """Send structlog's events to standard error."""
    render: list[structlog.typing.Processor] = (
        [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
        if style == "json"
        else [
            structlog.dev.ConsoleRenderer(
                colors=sys.stderr.isatty(),
                # Its own choice, where rich is installed, prints the variables of every function.
                exception_formatter=structlog.dev.plain_traceback,
            )
        ]
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *render,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )
    # The Kafka client reports each failed connection attempt by itself; our own error says it once.
    logging.getLogger("kafka").setLevel(logging.CRITICAL)
