"""Log lines: JSON for collectors, plain text for people."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from typing import Final

# Kopf tells every event at INFO, the HTTP servers every probe.
_QUIET: Final = ("kopf", "aiohttp.access", "asyncio")


class JsonFormatter(logging.Formatter):
    """One object per line: time (RFC 3339), level, logger, message, and error with a traceback."""

    def format(self, record: logging.LogRecord) -> str:
        """See logging.Formatter.format."""
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


def configure_logging(log_format: str) -> None:
    """Send everything from INFO on to stderr, as "json" or "text"."""
    handler = logging.StreamHandler()
    if log_format == "json":
        handler.setFormatter(JsonFormatter())
    else:
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
