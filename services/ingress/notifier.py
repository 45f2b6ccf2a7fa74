"""WorkerNotifier: after each commit a background thread sends wake-up messages to the broker."""

import threading
import time
from collections import deque
from collections.abc import Sequence

from services.ledger.accept import WorkRef
from services.ledger.dispatch import send_messages

MAX_WAITING = 50_000
"""Most rows that wait for their message. Beyond it messages are dropped: the sweep sends them later."""
GATHER_SECONDS = 0.02
"""Under load messages are sent at most this often, each for many rows. The first is sent at once."""
PAUSE_WHEN_AWAY_SECONDS = 1.0


class WorkerNotifier:
    """Sends messages for committed rows in the background."""

    def __init__(self) -> None:
        self._waiting: deque[WorkRef] = deque()
        self._wake = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="worker-notifier", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def notify_workers(self, refs: Sequence[WorkRef]) -> None:
        """Send messages for ``refs`` soon. Never waits, never raises."""
        with self._wake:
            if len(self._waiting) < MAX_WAITING:
                self._waiting.extend(refs)
                self._wake.notify()

    def close(self, timeout_seconds: float = 2.0) -> None:
        """Send what waits, and stop the thread."""
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
            is_sent = send_messages(refs)
            if self._closing:
                return
            if not is_sent:
                time.sleep(PAUSE_WHEN_AWAY_SECONDS)
            elif len(refs) > 1:
                time.sleep(GATHER_SECONDS)
