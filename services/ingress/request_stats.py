"""RequestStats: requests per minute, shop, route and status with their latency, and those that failed."""

import threading
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Collection, Container, Iterable, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from services.alerts.incidents import Incident, record_incidents
from services.core.clock import utc_now
from services.core.db import transaction
from services.core.latency import ADD_SQL, BOUNDS_MS, BUCKETS, format_buckets
from services.core.pg_arrays import text_array
from services.ledger.request_errors import RequestError, record_errors
from services.ledger.statement_stats import StatementStats
from services.ledger.tables import TOTAL
from services.ledger.webhook_refusals import WebhookRefusals, record_refusals
from services.ledger.webhook_senders import WebhookSenders, record_senders
from services.providers.registry import find_provider
from services.shops.secret_uses import SecretUses

FLUSH_SECONDS = 2.0
STATEMENTS_SECONDS = 15.0
UNKNOWN = "?"
MAX_ERRORS = 1000
"""Errors in memory between two flushes. Further ones are counted and have no row of their own."""

_FIND_SHOPS = "select slug, id, timezone from shops where slug = any(%(slug)s::text[])"

# The total of each outcome of webhooks is a row too. Sorted, so that two processes lock these rows in the
# same order.
_ADD = f"""
with counted as (
  select minute, shop, provider, outcome, route, status, count, latency::int[] as latency
    from unnest(%(minute)s::timestamptz[], %(shop)s::text[], %(provider)s::text[], %(outcome)s::text[],
                %(route)s::text[], %(status)s::int[], %(count)s::bigint[], %(latency)s::text[])
      as v(minute, shop, provider, outcome, route, status, count, latency)
)
insert into request_counts as c (minute, shop, provider, outcome, route, status, count, latency)
select * from counted
 union all
select %(total)s::timestamptz, '', provider, outcome, '', 0, sum(count), '{{}}' from counted
 where provider <> '' group by provider, outcome
 order by 1, 2, 3, 4, 5, 6
on conflict (minute, shop, provider, outcome, route, status) do update
   set count = c.count + excluded.count, latency = {ADD_SQL}
"""  # noqa: S608 - a constant
_COLUMNS = ("minute", "shop", "provider", "outcome", "route", "status")

_Key = tuple[datetime, str, str, str, str, int]


class RequestStats:
    """Counts requests in memory and writes the counts every few seconds. A crash loses only counts.

    Its thread also writes the durations of the statements of this ``process``.
    """

    def __init__(self, engine: Engine, process: str = "ingress") -> None:
        self._engine = engine
        self._statements = StatementStats(process)
        self._counter: Counter[tuple[_Key, int]] = Counter()
        self._minute = (datetime.min.replace(tzinfo=UTC),) * 2
        self._refused: dict[tuple[str, str, str], WebhookRefusals] = {}
        self._errors: list[RequestError] = []
        self._used_secrets: dict[int, datetime] = {}
        self._secret_uses = SecretUses()
        self._senders = WebhookSenders()
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="request-stats", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def count(
        self,
        now: datetime,
        shop: str,
        provider: str,
        outcome: str,
        route: str,
        status: int,
        duration_ms: float,
        refusal_detail: str = "",
        secret_id: int = 0,
        sender: str = "",
    ) -> None:
        """Count one request. A shop that does not exist is counted as ``UNKNOWN``.

        ``refusal_detail`` says why a signed delivery was refused; the next flush opens an incident with it.
        ``secret_id``: the secret that verified an accepted one. ``sender``: the address of one with a wrong
        signature.
        """
        minute, end = self._minute
        if not minute <= now < end:  # ``replace`` costs as much as all the rest
            minute = now.replace(second=0, microsecond=0)
            self._minute = minute, minute + timedelta(minutes=1)
        key = ((minute, shop, provider, outcome, route, status), bisect_left(BOUNDS_MS, duration_ms))
        if sender:
            self._senders.add(now, shop, provider, sender)
        with self._lock:
            self._counter[key] += 1
            if secret_id:
                self._used_secrets[secret_id] = now
            if refusal_detail:
                self._add_refusal(WebhookRefusals(shop, provider, outcome, now, now, refusal_detail))

    def add_error(self, error: RequestError) -> None:
        """Keep one request that was answered with 5xx for the next flush."""
        with self._lock:
            if len(self._errors) < MAX_ERRORS:
                self._errors.append(error)

    def close(self) -> None:
        """Stop the thread and write the remaining counts."""
        self._stop.set()
        self._thread.join(2)
        if self.flush():
            self._statements.flush(self._engine)

    def flush(self) -> bool:
        """Write the counts and errors, and return True; keep them while the database is unreachable."""
        with self._lock:
            counted, self._counter = self._counter, Counter()
            refused, self._refused = self._refused, {}
            errors, self._errors = self._errors, []
            used, self._used_secrets = self._used_secrets, {}
        if not (counted or errors):
            return True
        try:
            with transaction(self._engine) as tx:
                slugs = {shop for (_, shop, *_), _ in counted} | {one.shop for one in errors}
                shops = _find_shops(tx, slugs)
                if counted:
                    tx.exec_driver_sql(_ADD, _encode(counted, shops) | {"total": TOTAL})
                if errors:
                    record_errors(tx, errors, {slug: shop_id for slug, (shop_id, _) in shops.items()})
                if refused:
                    report_refusals(tx, refused.values(), utc_now())
        except Exception:  # noqa: BLE001 - the counts are kept
            with self._lock:
                self._counter.update(counted)
                self._errors = (errors + self._errors)[:MAX_ERRORS]
                for one in refused.values():
                    self._add_refusal(one)
            return False
        self._secret_uses.record_ids(self._engine, used)
        if senders := self._senders.take():
            with suppress(DBAPIError, PoolTimeout), transaction(self._engine) as tx:
                record_senders(tx, senders)
        return True

    def _add_refusal(self, one: WebhookRefusals) -> None:
        """Merge ``one``: the first and last time of both, and the detail of the earlier one."""
        scope = (one.shop, one.provider, one.outcome)
        other = self._refused.get(scope, one)
        earlier = min(other, one, key=lambda refusal: refusal.first_at)
        self._refused[scope] = earlier._replace(last_at=max(other.last_at, one.last_at))

    def _run(self) -> None:
        next_at = 0.0
        while not self._stop.wait(FLUSH_SECONDS):
            self.flush()
            if time.monotonic() >= next_at:
                self._statements.flush(self._engine)
                next_at = time.monotonic() + STATEMENTS_SECONDS


def _encode(counted: Mapping[tuple[_Key, int], int], shops: Container[str]) -> dict[str, Any]:
    """Return the values of ``_ADD``; requests of other shops than ``shops`` are those of ``UNKNOWN``."""
    histograms: dict[_Key, list[int]] = {}
    for ((minute, shop, *rest), bucket), number in counted.items():
        key: Any = (minute, shop if shop in shops else UNKNOWN, *rest)
        histograms.setdefault(key, [0] * BUCKETS)[bucket] += number
    keys = sorted(histograms)
    values: dict[str, Any] = dict(zip(_COLUMNS, map(list, zip(*keys, strict=True)), strict=True))
    values["count"] = [sum(histograms[key]) for key in keys]
    return values | {"latency": [format_buckets(histograms[key]) for key in keys]}


def _find_shops(tx: Connection, slugs: Iterable[str]) -> dict[str, tuple[int, str]]:
    """Return id and time zone of the shops among ``slugs`` that exist."""
    found = tx.exec_driver_sql(_FIND_SHOPS, {"slug": text_array(sorted(slugs))})
    return {slug: (shop_id, zone) for slug, shop_id, zone in found}


def report_refusals(tx: Connection, refusals: Collection[WebhookRefusals], now: datetime) -> None:
    """Record ``refusals`` for the backfill, and open a P2 incident per shop, outcome and local day."""
    shops = _find_shops(tx, {one.shop for one in refusals})
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
