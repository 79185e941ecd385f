"""Port 9400 of rank 0's pod: `/status`, `/metrics`, `/files`, and the place where nodes meet.

The launcher serves it, so it answers before the ranks have imported anything and while they
compute. Read-only: `/files` knows a fixed set of names and never joins a path with a request.

`/join` is the launchers' own: a peer keeps its response open for as long as it lives, so each side
sees the other end within seconds, whatever its ranks are doing.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Final
from urllib.parse import parse_qs, urlsplit

from finetune_trainer.contract import ExitCode, Progress
from finetune_trainer.errors import TrainerError
from finetune_trainer.training import metrics
from finetune_trainer.training.rendezvous import Meeting

CONTENT_TYPES: Final = {".jsonl": "application/jsonl", ".png": "image/png"}


class StatusServer:
    """Serves in threads of its own until `close`. files = served name -> function giving its path.

    Raises TrainerError (10, PortTaken) when the port cannot be had.
    """

    def __init__(
        self,
        port: int,
        *,
        status: Callable[[], Progress],
        files: dict[str, Callable[[], Path | None]],
        meeting: Meeting,
    ) -> None:
        handler = type(
            "Handler",
            (_Handler,),
            {"status": staticmethod(status), "files": files, "meeting": meeting},
        )
        try:
            self._server = ThreadingHTTPServer(("", port), handler)
        except OSError as error:
            raise TrainerError(
                ExitCode.BAD_CONFIG, "PortTaken", f"port {port} cannot be served: {error}"
            ) from error
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        """Stop answering."""
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    status: Callable[[], Progress]
    files: dict[str, Callable[[], Path | None]]
    meeting: Meeting

    def do_GET(self) -> None:
        """Answer one of the known paths."""
        request = urlsplit(self.path)
        if request.path == "/status":
            self._answer(self.status().to_json().encode(), "application/json")
        elif request.path == "/metrics":
            self._answer(metrics.render(self.status), "text/plain; version=0.0.4")
        elif request.path in ("/files", "/files/"):
            found = {name: find() for name, find in self.files.items()}
            names = [name for name, path in found.items() if path is not None and path.is_file()]
            self._answer(json.dumps(names).encode(), "application/json")
        elif request.path.startswith("/files/"):
            self._send_file(request.path.removeprefix("/files/"))
        elif request.path == "/join":
            self._join({key: values[0] for key, values in parse_qs(request.query).items()})
        else:
            self.send_error(HTTPStatus.NOT_FOUND)

    def log_message(self, format: str, *arguments: object) -> None:
        """Say nothing: the operator asks every few seconds."""

    def _send_file(self, name: str) -> None:
        find = self.files.get(name)
        path = find() if find is not None else None
        if path is None or not path.is_file():
            self.send_error(HTTPStatus.NOT_FOUND)
            return
        self._answer(path.read_bytes(), CONTENT_TYPES[path.suffix])

    def _join(self, query: dict[str, str]) -> None:
        node = query.get("node", "")
        if not node.isdecimal() or not self.meeting.admits(int(node), query.get("run", "")):
            self.send_error(HTTPStatus.CONFLICT)
            return
        self.send_response(HTTPStatus.OK)
        self.end_headers()
        self.meeting.attend(int(node), self.wfile.write)

    def _answer(self, body: bytes, content_type: str) -> None:
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
