"""Structured logs: JSON outside a terminal, at most one line per batch, no raw identifiers."""

import logging
import sys
from contextlib import suppress
from typing import TextIO

import structlog


def set_up_logs(process: str, log_json: str, *, quiet: bool = False) -> None:
    """
    Send every log of this process to standard error, only warnings if *quiet*; *log_json* is `yes`, `no`, `auto`.

    Warnings of libraries, which know the standard library's logging alone, come out in the same form.
    """
    as_json = log_json == "yes" or (log_json == "auto" and not sys.stderr.isatty())
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer()
        if as_json  # else without the values of local variables, which are tokens, people and keys
        else structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
    )
    last = [renderer]
    if as_json:
        last.insert(0, structlog.processors.format_exc_info)
    structlog.configure(
        processors=[*shared, *last],
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING if quiet else logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(_Losing(sys.stderr)),  # type: ignore[arg-type]
    )
    structlog.contextvars.bind_contextvars(process=process)
    logging.basicConfig(level=logging.WARNING, handlers=[_of_libraries(process, shared, last)])
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)  # of each request that is no HTTP it would warn


class _Losing:
    """What cannot be written to *file*, as its disk is full, is lost; whoever has something to say goes on."""

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def write(self, text: str) -> None:
        with suppress(OSError):
            self._file.write(text)

    def flush(self) -> None:
        with suppress(OSError):
            self._file.flush()


def _of_libraries(
    process: str, shared: list[structlog.typing.Processor], last: list[structlog.typing.Processor]
) -> logging.Handler:
    """Their threads know nothing of this process's name."""

    def name(_: object, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
        return {"process": process, **event}

    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.add_logger_name, name],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
        )
    )
    return handler
