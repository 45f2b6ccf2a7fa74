"""How many requests had which outcome, by minute: what the morning page and the alerts read."""

import threading
from collections import Counter
from datetime import datetime

from sqlalchemy import Engine

from services.core.clock import utc_now
from services.core.db import transaction
from services.ingress.refusals import report_refusals
from services.ledger.refusals import Refusals

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
        self._refused: dict[tuple[str, str, str], Refusals] = {}
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="counts", daemon=True)

    def start(self) -> None:
        """Begin to write now and then."""
        self._thread.start()

    def count(self, now: datetime, shop: str, provider: str, outcome: str, refused: str = "") -> None:
        """One more request. A shop nobody knows counts as ``?``: strangers must not invent rows.

        ``refused`` says why a signed delivery was refused: the next flush opens an incident with it.
        """
        minute = now.replace(second=0, microsecond=0)
        with self._lock:
            self._counter[(minute, shop, provider, outcome)] += 1
            if refused:
                self._add_refusal(Refusals(shop, provider, outcome, now, now, refused))

    def close(self) -> None:
        """Write what is left."""
        self._stop.set()
        self._thread.join(2)
        self.flush()

    def flush(self) -> None:
        """Write what was counted; keep it when the database is away."""
        with self._lock:
            counted, self._counter = self._counter, Counter()
            refused, self._refused = self._refused, {}
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
                if refused:
                    report_refusals(tx, refused.values(), utc_now())
        except Exception:  # noqa: BLE001 - figures wait for the database like everybody else
            with self._lock:
                self._counter.update(counted)
                for one in refused.values():
                    self._add_refusal(one)

    def _add_refusal(self, one: Refusals) -> None:
        """Join ``one`` with what waits already: first and last time of both, the detail of the earlier."""
        scope = (one.shop, one.provider, one.outcome)
        have = self._refused.get(scope, one)
        earlier = min(have, one, key=lambda refusal: refusal.first_at)
        self._refused[scope] = earlier._replace(last_at=max(have.last_at, one.last_at))

    def _run(self) -> None:
        while not self._stop.wait(FLUSH_SECONDS):
            self.flush()
