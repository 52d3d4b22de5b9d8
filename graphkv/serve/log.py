"""One JSON line on stderr for every request and every failure: no keys, no texts."""

from __future__ import annotations

import json
import logging
import time
from typing import Any

LOGGER = logging.getLogger("graphkv.serve")


class JsonLines(logging.Formatter):
    """A log record as one JSON object: time (UTC), level, event, and the fields that were given with ``extra={"fields": {...}}``."""

    def format(self, record: logging.LogRecord) -> str:
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line: dict[str, Any] = {"time": f"{moment}.{int(record.msecs):03d}Z", "level": record.levelname.lower(), "event": record.getMessage()}
        line |= getattr(record, "fields", {})
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=True)


def log_request(fields: dict[str, Any]) -> None:
    """One line for a request that has been answered."""
    LOGGER.info("request", extra={"fields": fields})


def log_failure(error: BaseException, id: str) -> None:
    """What the client is not told: the traceback, under the request's id."""
    LOGGER.error("failure", exc_info=(type(error), error, error.__traceback__), extra={"fields": {"id": id}})


def set_up_logging() -> None:
    """Send this package's lines, and the warnings of every other, to stderr as JSON. For a process that is the server; not called on import."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines())
    logging.captureWarnings(True)
    for name, level in (("", logging.WARNING), ("graphkv.serve", logging.INFO), ("uvicorn", logging.WARNING)):
        logger = logging.getLogger(name)
        logger.handlers[:] = [handler] if not name else []
        logger.setLevel(level)
