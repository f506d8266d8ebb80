"""The server's log: lines of text, or one JSON object a line, each with the operation it is about."""

from __future__ import annotations

import json
import logging
import sys
import time
from typing import Any, Final

from libnetvirt import operation_id
from libnetvirt.model import Event

FORMATS: Final = ("text", "json")
#: Where events are logged.
EVENTS: Final = logging.getLogger("libnetvirt.events")
_PLACES: Final = ("network", "endpoint", "switch", "port")


def configure(kind: str, *, events: bool) -> None:
    """Log to stderr in one of :data:`FORMATS`. ``events``: log all events, and what the library reports."""
    logging.basicConfig(handlers=[handler(kind)], level=logging.INFO if events else logging.WARNING)
    # What a signal has led to is logged in any case.
    logging.getLogger("libnetvirt.daemon").setLevel(logging.INFO)


def handler(kind: str, *, times: bool = True) -> logging.Handler:
    """Writes to stderr in one of :data:`FORMATS`; ``times``: whether lines of text have the time."""
    made = logging.StreamHandler(sys.stderr)
    made.setFormatter(formatter(kind, times=times))
    made.addFilter(_prepare)
    return made


def formatter(kind: str, *, times: bool = True) -> logging.Formatter:
    """What a handler writes; another one can be set while it is used."""
    return JsonLines() if kind == "json" else TextLines(times=times)


def log_event(event: Event) -> None:
    """Log an event, with all its fields if the format is JSON."""
    EVENTS.info("%s: %s", event.kind, event.message, extra={"event": event})


def printable(text: str) -> str:
    """A text of switches or clients, in which nothing can forge a line of the log."""
    return "".join(c if c.isprintable() else " " for c in text)


def _prepare(record: logging.LogRecord) -> bool:
    record.msg, record.args = printable(record.getMessage()), ()
    event: Event | None = getattr(record, "event", None)
    record.operation = event.operation if event is not None else operation_id.current()
    return True


class TextLines(logging.Formatter):
    """Time, level, the operation in brackets if there is one, and the message."""

    def __init__(self, *, times: bool) -> None:
        super().__init__(f"{'%(asctime)s ' if times else ''}%(levelname)s %(about)s%(message)s")

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        operation = getattr(record, "operation", "")
        record.about = f"[{operation}] " if operation else ""
        return super().format(record)


class JsonLines(logging.Formatter):
    """One object a line: time (RFC 3339, UTC), level, logger, message; operation, event, places, exception
    where there are such."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        document: dict[str, Any] = {
            "time": f"{seconds}.{int(record.msecs):03}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if operation := getattr(record, "operation", ""):
            document["operation"] = operation
        event: Event | None = getattr(record, "event", None)
        if event is not None:
            document |= {"message": event.message, "event": event.kind}
            document |= {name: value for name in _PLACES if (value := getattr(event, name))}
            if event.fields:
                document["fields"] = event.fields
        if record.exc_info:
            document["exception"] = self.formatException(record.exc_info)
        return json.dumps(document, ensure_ascii=False)
