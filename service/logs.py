"""Structured logs: JSON outside a terminal, at most one line per batch, no raw identifiers."""

import logging
import sys

import structlog


def set_up_logs(process: str, log_json: str, *, quiet: bool = False) -> None:
    """Send every log of this process to standard error, only warnings if *quiet*; *log_json* is `yes`, `no`, `auto`."""
    as_json = log_json == "yes" or (log_json == "auto" and not sys.stderr.isatty())
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer() if as_json else structlog.dev.ConsoleRenderer()
    )
    structlog.configure(
        processors=[*shared, structlog.processors.format_exc_info, renderer] if as_json else [*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING if quiet else logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    structlog.contextvars.bind_contextvars(process=process)
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format=f"{process} %(name)s %(message)s")
