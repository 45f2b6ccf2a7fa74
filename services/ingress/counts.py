"""How many requests had which outcome, by minute: what the morning page and the alerts read."""

import threading
from collections import Counter
from datetime import datetime

from sqlalchemy import Engine

from services.core.db import transaction

FLUSH_SECONDS = 2.0
UNKNOWN = "?"

_ADD = """
insert into request_counts as c (minute, shop, provider, outcome, count)
select * from unnest(%(minute)s::timestamptz[], %(shop)s::text[], %(provider)s::text[], %(outcome)s::text[],
                     %(count)s::bigint[])
on conflict (minute, shop, provider, outcome) do update set count = c.count + excluded.count
"""


class Counts:
    """Counts in memory, written every few seconds. What a crash loses is figures, never events."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._counter: Counter[tuple[datetime, str, str, str]] = Counter()
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="counts", daemon=True)

    def start(self) -> None:
        """Begin to write now and then."""
        self._thread.start()

    def count(self, now: datetime, shop: str, provider: str, outcome: str) -> None:
        """One more request. A shop nobody knows counts as ``?``: strangers must not invent rows."""
        minute = now.replace(second=0, microsecond=0)
        with self._lock:
            self._counter[(minute, shop, provider, outcome)] += 1

    def close(self) -> None:
        """Write what is left."""
        self._stop.set()
        self._thread.join(2)
        self.flush()

    def flush(self) -> None:
        """Write what was counted; keep it when the database is away."""
        with self._lock:
            counted, self._counter = self._counter, Counter()
        if not counted:
            return
        keys = sorted(counted)
        values = {
            name: [key[place] for key in keys]
            for place, name in enumerate(("minute", "shop", "provider", "outcome"))
        }
        try:
            with transaction(self._engine) as tx:
                tx.exec_driver_sql(_ADD, values | {"count": [counted[key] for key in keys]})
        except Exception:  # noqa: BLE001 - figures wait for the database like everybody else
            with self._lock:
                self._counter.update(counted)

    def _run(self) -> None:
        while not self._stop.wait(FLUSH_SECONDS):
            self.flush()
