"""A thread that watches over time from a process that keeps none: beat cannot say that it is dead."""

import threading

from sqlalchemy import Engine

from services.jobs.tick import watch

WATCH_SECONDS = 30.0


class OverdueMonitor:
    """Calls ``watch`` now and again until stopped."""

    def __init__(self, engine: Engine, every_seconds: float = WATCH_SECONDS) -> None:
        self._engine, self._every_seconds = engine, every_seconds
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watchman", daemon=True)

    def start(self) -> None:
        """It watches from now on."""
        self._thread.start()

    def stop(self) -> None:
        """It watches no more once this returns."""
        self._stop.set()
        self._thread.join(5)

    def _run(self) -> None:
        while not self._stop.wait(self._every_seconds):
            watch(self._engine)
