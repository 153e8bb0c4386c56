"""Log set-up: one line per event on stderr; key=value for people, JSON under systemd or when asked for."""

import asyncio
import logging
import os
import sys
from typing import Any

import structlog

FORMATS = ("auto", "console", "json")


def set_up(form: str) -> None:
    """Configure structlog once. `auto` is JSON when systemd reads the output."""
    as_json = form == "json" or (form == "auto" and "JOURNAL_STREAM" in os.environ)
    renderer: structlog.typing.Processor
    if as_json:
        renderer = structlog.processors.JSONRenderer()
    elif sys.stderr.isatty():
        renderer = structlog.dev.ConsoleRenderer()
    else:
        renderer = structlog.processors.LogfmtRenderer(key_order=["timestamp", "level", "event"], bool_as_flag=False)
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )


def fault(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Log what nobody was there to take: an error of ours in a task or a callback."""
    structlog.get_logger().error("fault", reason=context["message"], exc_info=context.get("exception"))
