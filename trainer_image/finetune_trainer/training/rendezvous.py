"""How the launchers of an attempt find each other, and notice when one is gone.

Node 0 holds the meeting; each other node asks it for `/join` and keeps the response open. Nobody
starts ranks before all nodes are there, so no GPU waits in a process group that will never form. A
connection that ends afterwards means a lost peer, seconds after it happened and also while ranks
import, load or compute.
"""

from __future__ import annotations

import contextlib
import http.client
import threading
from collections import Counter
from collections.abc import Callable
from typing import Final

from finetune_trainer.contract import STATUS_PORT

BEAT_SECONDS: Final = 1.0
SILENCE_SECONDS: Final = 60.0  # without a beat: the network swallowed the connection's end
WAITING: Final = b"waiting\n"
READY: Final = b"ready\n"


class Meeting:
    """Node 0's side. run = what tells this attempt from any other, the same on every node."""

    def __init__(self, run: str, nodes: int) -> None:
        self._run = run
        self._nodes = nodes
        self._conversations = Counter({0: 1})  # by node: one that lost touch comes anew
        self._changed = threading.Condition()
        self._closed = False
        self.ready = threading.Event()
        self.lost = threading.Event()
        if nodes == 1:
            self.ready.set()

    def admits(self, node: int, run: str) -> bool:
        """Whether that launcher belongs to this attempt."""
        return run == self._run and 0 < node < self._nodes

    def attend(self, node: int, write: Callable[[bytes], object]) -> None:
        """Tell a peer once a second that we are here, until it or we end."""
        with self._changed:
            self._conversations[node] += 1
            if len(+self._conversations) == self._nodes:
                self.ready.set()
                self._changed.notify_all()
        try:
            while not self._closed:
                write(READY if self.ready.is_set() else WAITING)
                with self._changed:
                    self._changed.wait(BEAT_SECONDS)
        except OSError:
            self._leave(node)

    def close(self) -> None:
        """End every conversation."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _leave(self, node: int) -> None:
        with self._changed:
            self._conversations[node] -= 1
            if self.ready.is_set() and not self._conversations[node]:
                self.lost.set()  # before that it may come back: nothing has started


class Attendance:
    """A later node's side: joins in a thread, and knows when all are there or node 0 is gone."""

    def __init__(self, host: str, *, node: int, run: str, port: int = STATUS_PORT) -> None:
        self._host = host
        self._port = port
        self._path = f"/join?node={node}&run={run}"
        self._end = threading.Event()
        self.ready = threading.Event()
        self.lost = threading.Event()
        threading.Thread(target=self._attend, daemon=True).start()

    def close(self) -> None:
        """Stop trying."""
        self._end.set()

    def _attend(self) -> None:
        while not self._end.is_set() and not self.lost.is_set():
            with contextlib.suppress(OSError, http.client.HTTPException):
                self._listen()
            if self.ready.is_set():
                self.lost.set()
            else:
                self._end.wait(BEAT_SECONDS)  # the name is resolved anew each time

    def _listen(self) -> None:
        """Read node 0's beats until they end."""
        connection = http.client.HTTPConnection(self._host, self._port, timeout=SILENCE_SECONDS)
        try:
            connection.request("GET", self._path)
            response = connection.getresponse()
            if response.status != http.HTTPStatus.OK:
                return
            while beat := response.readline():
                if beat == READY:
                    self.ready.set()
        finally:
            connection.close()
