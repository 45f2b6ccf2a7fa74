"""``/platform/health``: one line for each shop and provider, the fleet's first, then the worst."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import Connection

from services.console.scan_facts import FINE, RED, STATES, UNKNOWN, WARN
from services.core.counts import format_count
from services.core.pg_arrays import int_array
from services.providers.registry import PROVIDERS
from services.shops.connections import ENDS_AT, IN_USE

ENDS_WITHIN = timedelta(days=14)
"""As the rule ``credential_expires``: from then on a person should renew it."""
FAILURES_SINCE = timedelta(days=7)

_FIND_CONNECTIONS = f"""
select shop_id, provider, status, code, detail, since, {ENDS_AT} as ends_at
  from connections where {IN_USE}
"""  # noqa: S608 - the text is a constant

_FIND_SECRETS = """
select shop_id, name, max(created_at) filter (where expires_at is null) as recorded_at,
       max(expires_at) as previous_until, max(last_used_at) filter (where expires_at is null) as used_at,
       max(last_used_at) filter (where expires_at is not null) as previous_used_at
  from shop_secrets
 where name not like 'retired:%%' and (expires_at is null or expires_at > %(now)s)
 group by shop_id, name order by shop_id, name
"""

_FIND_SHOPS = """
select s.id, s.slug, s.timezone from shops s left join shop_config c on c.shop_id = s.id
 where c.settings ->> 'removed_at' is null
"""

# The newest run of each job by its index, then the newest of these.
_FIND_LAST_RUNS = """
select v.shop_id, last.job, last.period, last.status, last.ended_at
  from unnest(%(shop_id)s::int[]) as v(shop_id)
 cross join lateral (
   select r.* from jobs j cross join lateral (
      select job, period, status, ended_at from job_runs
       where job = j.name and shop_id = v.shop_id and ended_at is not null order by due_at desc limit 1) r
    where j.per_shop and j.retired_at is null order by r.ended_at desc limit 1) last
"""

_COUNT_FAILURES = """
select shop_id, count(*) as failed from job_runs
 where status = 'failed' and ended_at > %(since)s and shop_id = any(%(shop_id)s::int[]) group by shop_id
"""


class SecretAge(NamedTuple):
    """A secret without its value. "Previous" is the one that it replaced, which is valid until then too."""

    name: str
    recorded_at: datetime | None
    previous_until: datetime | None
    used_at: datetime | None = None
    previous_used_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CompanyLine:
    """A provider of a shop (``shop_id`` None: of the fleet). ``ends_at``: when it needs a new credential."""

    shop_id: int | None
    slug: str
    timezone: str
    provider: str
    state: str
    text: str
    since: datetime | None
    ends_at: datetime | None = None
    secrets: Sequence[SecretAge] = field(default_factory=tuple)


class RunFigures(NamedTuple):
    """The last run of any job of a shop, None if there was none, and its failed runs in 7 days."""

    last: Any
    failed: int


def find_secret_provider(name: str) -> str:
    """Return the provider of the secret ``name``: ``shopify`` for ``shopify-token``."""
    kind = name.partition(":")[0]
    found = (one.name for one in PROVIDERS if any(kind == secret.name for secret in one.secrets))
    return next(found, kind)


def list_company_lines(tx: Connection, now: datetime) -> list[CompanyLine]:
    """Return a line for each connection, each provider with a secret, and each shop without either."""
    shops = {row.id: row for row in tx.exec_driver_sql(_FIND_SHOPS)}
    secrets: dict[tuple[int | None, str], list[SecretAge]] = {}
    for shop_id, *values in tx.exec_driver_sql(_FIND_SECRETS, {"now": now}):
        if shop_id in shops:
            secret = SecretAge(*values)
            secrets.setdefault((shop_id, find_secret_provider(secret.name)), []).append(secret)
    found = {(row.shop_id, row.provider): row for row in tx.exec_driver_sql(_FIND_CONNECTIONS)}
    keys = {key for key in {*found, *secrets} if key[0] is None or key[0] in shops}
    keys |= {(shop_id, "") for shop_id in shops.keys() - {shop_id for shop_id, _ in keys}}
    lines = []
    for shop_id, provider in keys:
        row, kept = found.get((shop_id, provider)), secrets.get((shop_id, provider), [])
        state, text = classify_connection(row, kept, now)
        shop = shops[shop_id] if shop_id is not None else None
        lines.append(
            CompanyLine(
                shop_id=shop_id,
                slug=shop.slug if shop else "",
                timezone=shop.timezone if shop else "",
                provider=provider,
                state=state,
                text=text,
                since=row.since if row else None,
                ends_at=row.ends_at if row else None,
                secrets=tuple(kept),
            )
        )
    return sorted(lines, key=lambda one: (bool(one.slug), STATES.index(one.state), one.slug, one.provider))


def classify_connection(row: Any, secrets: Collection[SecretAge], now: datetime) -> tuple[str, str]:
    """Return state and text of a row of ``connections``, None if the provider was never called. Pure."""
    if row is None:
        if not secrets:
            return UNKNOWN, "not connected"
        is_incoming = all("-webhook" in one.name for one in secrets)
        return (FINE, "sends webhooks only") if is_incoming else (UNKNOWN, "not called yet")
    if row.status == "broken":
        return RED, f"refused: {row.code}"
    ends_at = row.ends_at
    if ends_at is None or ends_at - now >= ENDS_WITHIN:
        return FINE, "accepted"
    days = (ends_at - now) // timedelta(days=1)
    return WARN, f"accepted, ends in {format_count(days, 'day')}" if days >= 0 else "accepted, past its end"


def find_run_figures(tx: Connection, shop_ids: Collection[int], now: datetime) -> Mapping[int, RunFigures]:
    """Return the figures of runs of each shop in ``shop_ids``."""
    values = {"shop_id": int_array(sorted(shop_ids)), "since": now - FAILURES_SINCE}
    last = {row.shop_id: row for row in tx.exec_driver_sql(_FIND_LAST_RUNS, values)}
    failed = {row.shop_id: row.failed for row in tx.exec_driver_sql(_COUNT_FAILURES, values)}
    return {shop_id: RunFigures(last.get(shop_id), failed.get(shop_id, 0)) for shop_id in shop_ids}
