"""Log lines of all processes: one JSON object, or one coloured line for a terminal.

All code logs with the standard library, through ``LineHandler``. Only the two frequent lines, one per request
and one per settled batch, skip redaction: their fields are fixed and have no secrets.
"""

import contextlib
import json
import logging
import os
import traceback
from collections.abc import Callable, MutableMapping, Sequence
from datetime import UTC, datetime
from typing import Any

import orjson

from services.core.log_redaction import redact_field, redact_text
from services.core.settings import Settings

STDOUT_FD, STDERR_FD = 1, 2
LONGEST_FIELD = 200
"""Most characters of a field from outside (the shop in a URL, a topic in a header)."""
LONGEST_TRACE_LINE = 500

# Celery logs every message twice and httpx every call; our request and batch lines contain more.
_NOISY_LOGGERS = (
    "celery.beat",
    "celery.worker.strategy",
    "celery.app.trace",
    "httpx",
    "httpcore",
    "stripe",
    "granian.access",
    "urllib3",
)

_Render = Callable[[MutableMapping[str, Any]], bytes]
_write: Callable[[dict[str, Any]], None] | None = None
_write_event = _write
"""``_write`` while the level is info or debug, else None."""


def configure_logging(settings: Settings, process: str, *, fd: int = STDOUT_FD) -> None:
    """Write the log lines of this process and its libraries to ``fd``.

    ``process`` (``ingress``, ``worker``, ``beat``) is in every line, or ``FLEET_PROCESS`` if that is set. May
    be called again, for instance in a forked child. Request and batch lines are not written before the first
    call.
    """
    global _write  # noqa: PLW0603 - one log per process
    process = os.environ.get("FLEET_PROCESS") or process
    render = _make_render(settings.log_format, process, coloured=os.isatty(fd))

    def write(fields: MutableMapping[str, Any]) -> None:
        _write_line(fd, render(fields))

    logging.root.handlers[:] = [LineHandler(fd=fd, process=process, log_format=settings.log_format)]
    logging.captureWarnings(capture=True)
    _write = write
    set_level(settings.log_level)


def set_level(name: str) -> None:
    """Write lines of level ``name`` (one of ``LOG_LEVELS``) and above from now on."""
    global _write_event  # noqa: PLW0603 - one log per process
    level = getattr(logging, name.upper())
    logging.root.setLevel(level)
    for noisy in _NOISY_LOGGERS:
        logging.getLogger(noisy).setLevel(max(level, logging.WARNING) if level > logging.DEBUG else level)
    _write_event = _write if level <= logging.INFO else None


def log_request(
    *,
    request_id: str,
    shop: str,
    provider: str,
    topic: str,
    status: int,
    outcome: str,
    duration_ms: float,
    size_bytes: int,
    event_id: int | None = None,
) -> None:
    """Write the line of a request: ``event=request``."""
    if _write_event is None:
        return
    _write_event(
        {
            "level": "info",
            "event": "request",
            "request_id": request_id[:LONGEST_FIELD],
            "shop": shop[:LONGEST_FIELD],
            "provider": provider[:LONGEST_FIELD],
            "topic": topic[:LONGEST_FIELD],
            "status": status,
            "outcome": outcome,
            "duration_ms": round(duration_ms, 2),
            "bytes": size_bytes,
            "event_id": event_id,
        }
    )


def log_batch_settled(
    *,
    topic: str,
    count: int,
    done: int,
    retried: int,
    dead: int,
    duration_ms: float,
    request_ids: Sequence[str],
    worker: str,
) -> None:
    """Write the line of a settled batch: ``event=batch_settled``, with at most ten of its request ids."""
    if _write_event is None:
        return
    _write_event(
        {
            "level": "info",
            "event": "batch_settled",
            "topic": topic,
            "count": count,
            "done": done,
            "retried": retried,
            "dead": dead,
            "duration_ms": round(duration_ms, 2),
            "request_ids": list(request_ids[:10]),
            "worker": worker,
        }
    )


class LineHandler(logging.Handler):
    """Writes a record as this project's line; ``extra={"fields": {...}}`` adds fields to it."""

    def __init__(self, *, process: str, log_format: str, fd: int = STDOUT_FD) -> None:
        super().__init__()
        self._fd = fd
        self._render = _make_render(log_format, process, coloured=os.isatty(fd))

    def emit(self, record: logging.LogRecord) -> None:
        try:
            fields: dict[str, Any] = {
                "level": record.levelname.lower(),
                "event": record.getMessage(),
                "logger": record.name,
                **getattr(record, "fields", {}),
            }
            if record.exc_info and record.exc_info[0] is not None:
                # Without local variables: those hold secrets.
                trace = "".join(traceback.format_exception(*record.exc_info)).rstrip()
                fields["exception"] = "\n".join(_shorten(line) for line in trace.split("\n"))
            fields = {
                name: redact_text(value) if name == "exception" else redact_field(name, value)
                for name, value in fields.items()
            }
            _write_line(self._fd, self._render(fields))
        except Exception:  # noqa: BLE001 - logging must not fail the caller
            self.handleError(record)


def _shorten(line: str) -> str:
    """Return ``line`` of a traceback, shortened if it quotes a long value."""
    return line if len(line) <= LONGEST_TRACE_LINE else f"{line[:LONGEST_TRACE_LINE]}..."


def granian_log_config(settings: Settings, process: str) -> dict[str, Any]:
    """Return the ``log_dictconfig`` with which granian's processes and workers write our lines.

    The workers configure logging again before they load the application, so the handler is self-contained.
    """
    handler = {"()": LineHandler, "process": process, "log_format": settings.log_format}
    logger = {"handlers": ["lines"], "level": "INFO", "propagate": False}
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "handlers": {"lines": handler},
        "loggers": {"_granian": logger, "granian.access": dict(logger)},
    }


def _make_render(log_format: str, process: str, *, coloured: bool) -> _Render:
    if log_format == "console":
        return _console_render(process, coloured=coloured)

    def render(fields: MutableMapping[str, Any]) -> bytes:
        line = {
            "time": datetime.now(UTC),
            "level": fields.pop("level", "info"),
            "event": fields.pop("event", ""),
            "process": process,
            "pid": os.getpid(),
            **fields,
        }
        try:
            return orjson.dumps(line, default=str, option=_JSON)
        except orjson.JSONEncodeError:  # half a surrogate pair from an address, or an integer beyond 64 bits
            return f"{json.dumps(line, default=str)}\n".encode()

    return render


_JSON = orjson.OPT_APPEND_NEWLINE | orjson.OPT_UTC_Z | orjson.OPT_NON_STR_KEYS


_COLOURS = {"debug": 36, "info": 32, "warning": 33, "error": 31, "critical": 31}


def _console_render(process: str, *, coloured: bool) -> _Render:
    def paint(text: str, code: int) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if coloured else text

    def render(fields: MutableMapping[str, Any]) -> bytes:
        level, event = str(fields.pop("level", "info")), str(_printable("event", fields.pop("event", "")))
        stamp = datetime.now(UTC).strftime("%H:%M:%S.%f")[:-3]
        trace = fields.pop("exception", "")
        shown = {name: _printable(name, value) for name, value in fields.items() if value not in (None, "")}
        pairs = " ".join(
            f"{paint(name, 36)}={value}" for name, value in {"process": process, **shown}.items()
        )
        head = f"{paint(stamp, 2)} [{paint(f'{level:<8}', _COLOURS.get(level, 0))}] {event:<24} {pairs}"
        return f"{head}\n{trace}\n".encode() if trace else f"{head}\n".encode()

    return render


def _printable(name: str, value: Any) -> Any:
    """Return ``value`` with control characters escaped: text from outside must not control a terminal."""
    if name == "exception" or not isinstance(value, str) or value.isprintable():
        return value
    return ascii(value)


def _write_line(fd: int, line: bytes) -> None:
    """Write one line with one call: lines of several processes do not mix. Ignores a closed pipe."""
    with contextlib.suppress(OSError):
        while line:
            line = line[os.write(fd, line) :]
