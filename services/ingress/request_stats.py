"""RequestStats: requests per minute, shop, provider and outcome, for the console and the alerts."""

import threading
from collections import Counter
from collections.abc import Collection
from datetime import datetime
from zoneinfo import ZoneInfo

from sqlalchemy import Connection, Engine

from services.alerts.incidents import Incident, record_incidents
from services.core.clock import utc_now
from services.core.db import transaction
from services.core.pg_arrays import text_array
from services.ledger.tables import TOTAL
from services.ledger.webhook_refusals import WebhookRefusals, record_refusals
from services.providers.registry import find_provider

FLUSH_SECONDS = 2.0
UNKNOWN = "?"

_FIND_SHOPS = "select slug, id, timezone from shops where slug = any(%(slug)s::text[])"

# The total of each outcome is a row too. Sorted, so that two processes lock these rows in the same order.
_ADD = """
with counted as (
  select * from unnest(%(minute)s::timestamptz[], %(shop)s::text[], %(provider)s::text[], %(outcome)s::text[],
                       %(count)s::bigint[]) as v(minute, shop, provider, outcome, count)
)
insert into request_counts as c (minute, shop, provider, outcome, count)
select * from counted
 union all
select %(total)s::timestamptz, '', provider, outcome, sum(count) from counted group by provider, outcome
 order by 1, 2, 3, 4
on conflict (minute, shop, provider, outcome) do update set count = c.count + excluded.count
"""


class RequestStats:
    """Counts requests in memory and writes the counts every few seconds. A crash loses only counts."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._counter: Counter[tuple[datetime, str, str, str]] = Counter()
        self._refused: dict[tuple[str, str, str], WebhookRefusals] = {}
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="request-stats", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def count(self, now: datetime, shop: str, provider: str, outcome: str, refusal_detail: str = "") -> None:
        """Count one request. Pass ``UNKNOWN`` for an unknown shop, so that such requests create no new rows.

        ``refusal_detail`` says why a signed delivery was refused; the next flush opens an incident with it.
        """
        minute = now.replace(second=0, microsecond=0)
        with self._lock:
            self._counter[(minute, shop, provider, outcome)] += 1
            if refusal_detail:
                self._add_refusal(WebhookRefusals(shop, provider, outcome, now, now, refusal_detail))

    def close(self) -> None:
        """Stop the thread and write the remaining counts."""
        self._stop.set()
        self._thread.join(2)
        self.flush()

    def flush(self) -> None:
        """Write the counts; keep them while the database is unreachable."""
        with self._lock:
            counted, self._counter = self._counter, Counter()
            refused, self._refused = self._refused, {}
        if not counted:
            return
        keys = sorted(counted)
        columns = zip(*keys, strict=True)
        values = dict(zip(("minute", "shop", "provider", "outcome"), map(list, columns), strict=True))
        try:
            with transaction(self._engine) as tx:
                tx.exec_driver_sql(_ADD, values | {"count": [counted[key] for key in keys], "total": TOTAL})
                if refused:
                    report_refusals(tx, refused.values(), utc_now())
        except Exception:  # noqa: BLE001 - the counts are kept
            with self._lock:
                self._counter.update(counted)
                for one in refused.values():
                    self._add_refusal(one)

    def _add_refusal(self, one: WebhookRefusals) -> None:
        """Merge ``one``: the first and last time of both, and the detail of the earlier one."""
        scope = (one.shop, one.provider, one.outcome)
        other = self._refused.get(scope, one)
        earlier = min(other, one, key=lambda refusal: refusal.first_at)
        self._refused[scope] = earlier._replace(last_at=max(other.last_at, one.last_at))

    def _run(self) -> None:
        while not self._stop.wait(FLUSH_SECONDS):
            self.flush()


def report_refusals(tx: Connection, refusals: Collection[WebhookRefusals], now: datetime) -> None:
    """Record ``refusals`` for the backfill, and open a P2 incident per shop, outcome and local day."""
    slugs = text_array(sorted({one.shop for one in refusals}))
    shops = {slug: (i, zone) for slug, i, zone in tx.exec_driver_sql(_FIND_SHOPS, {"slug": slugs})}
    known = [(*shops[one.shop], one) for one in refusals if one.shop in shops]
    record_refusals(tx, [(shop_id, one) for shop_id, _, one in known])
    incidents = {}
    for shop_id, zone, one in known:
        incident = _describe(one, shop_id, f"{one.first_at.astimezone(ZoneInfo(zone)):%Y-%m-%d}")
        incidents[shop_id, incident.rule, incident.period] = incident
    record_incidents(tx, list(incidents.values()), now)


def _describe(refused: WebhookRefusals, shop_id: int, day: str) -> Incident:
    summary = (
        f"Signed {refused.provider} webhooks of {refused.shop} are refused as {refused.outcome}: "
        f"{refused.detail}."
    )
    provider = find_provider(refused.provider)
    if provider and provider.refusals_until_dropped:
        summary += (
            f" {provider.name.capitalize()} drops a subscription after {provider.refusals_until_dropped} "
            "refusals in a row; gap-healing imports the refused data."
        )
    detail = {"provider": refused.provider, "first_at": refused.first_at}
    return Incident(shop_id, f"webhook_{refused.outcome}", day, "P2", summary, detail)
