"""Bells: after a commit the workers are told, by a thread of its own. A broker that is away delays nobody."""

import threading
import time
from collections import deque
from collections.abc import Sequence

from services.ledger.accept import WorkRef
from services.ledger.dispatch import send_messages

MAX_WAITING = 50_000
"""Rows whose bell waits here. Past it bells are dropped: the rows are committed, and the sweep rings."""
GATHER_SECONDS = 0.02
"""Under load messages go out at most this often, so that they grow into sets. The first goes at once."""
PAUSE_WHEN_AWAY_SECONDS = 1.0


class Bells:
    """Rings for committed rows in the background."""

    def __init__(self) -> None:
        self._waiting: deque[WorkRef] = deque()
        self._wake = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="bells", daemon=True)

    def start(self) -> None:
        """Begin to ring."""
        self._thread.start()

    def ring(self, refs: Sequence[WorkRef]) -> None:
        """Have the workers told of ``refs`` soon. Never waits, never raises."""
        with self._wake:
            if len(self._waiting) < MAX_WAITING:
                self._waiting.extend(refs)
                self._wake.notify()

    def close(self, timeout_seconds: float = 2.0) -> None:
        """Ring for what waits, and stop."""
        with self._wake:
            self._closing = True
            self._wake.notify()
        self._thread.join(timeout_seconds)

    def _run(self) -> None:
        while True:
            with self._wake:
                while not self._waiting:
                    if self._closing:
                        return
                    self._wake.wait()
                refs = list(self._waiting)
                self._waiting.clear()
            taken = send_messages(refs)
            if self._closing:
                return
            if not taken:
                time.sleep(PAUSE_WHEN_AWAY_SECONDS)
            elif len(refs) > 1:
                time.sleep(GATHER_SECONDS)
