"""Figures of requests, work, heartbeats, connections, mail and the database: of the rooms below alerts."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial

from sqlalchemy import Connection

from services.alerts import database_figures, work_figures
from services.alerts.channel_figures import CHANNEL_FAILED, collect_channel_figures
from services.alerts.channels import list_channels
from services.alerts.figures import CLOCKS_APART, CollectFigures, Figure, Figures, collect_each, make_figure
from services.alerts.rules import FIGURE_RULES
from services.ledger.health import list_components_down, read_heartbeats, read_leases
from services.ledger.request_errors import NO_FAULT
from services.providers.delivery import INVALID_SIGNATURE
from services.shops.connections import BROKEN_LINES, ENDS_AT

STUCK_AFTER = timedelta(minutes=15)
DAY = timedelta(days=1)

# Each returns ``value``, ``shop_id`` (null: the fleet), ``subject``, and columns for the rule's summary.
# If nothing arrives at all, ingress may be down: then open incidents keep their figure.
_REQUESTS_FAILED = """
select 100.0 * failed / requests as value, shop_id, route as subject, route, requests, failed
  from (select s.id as shop_id, c.route, sum(c.count)::int as requests,
               sum(c.count) filter (where c.status >= 500)::int as failed
          from request_counts c left join shops s on s.slug = c.shop
         where c.minute > %(since)s and c.minute <= %(latest)s and c.outcome <> all(%(no_fault)s)
         group by s.id, c.route) counted
 where failed > 0
union all
select notified_value, nullif(shop_id, 0), subject, subject, 0, 0 from alert_states
 where rule = 'requests_failed' and opened_at is not null
   and not exists (select from request_counts where minute > %(since)s and minute <= %(latest)s)
"""
_SIGNATURE_FAILURES = r"""
with counted as (
  select shop, provider, address, sum(count) as count from webhook_senders
   where hour > %(since)s::timestamptz - interval '1 hour' and hour <= %(latest)s group by 1, 2, 3
), senders as (
  select shop, provider, array_agg(address || ' (' || count || ')' order by count desc, address) as list
    from counted group by 1, 2
)
select sum(c.count) as value, s.id as shop_id, c.provider as subject, c.provider,
       regexp_replace(c.provider, '^[^:]+', '\&-webhook') as secret,
       coalesce(array_to_string(a.list[:3], ', '), 'unknown addresses') as senders, a.list[:10] as addresses
  from request_counts c join shops s on s.slug = c.shop
  left join senders a on (a.shop, a.provider) = (c.shop, c.provider)
 where c.minute > %(since)s and c.minute <= %(latest)s and c.outcome = %(invalid_signature)s
 group by s.id, c.provider, a.list
"""
_LOCKS_STUCK = """
select count(*) as value, null as shop_id, topic as subject, topic from work_queue
 where status in ('pending', 'error') and locked_at is not null
   and locked_at < %(stuck)s and (lease_until is null or lease_until < %(now)s)
 group by topic
"""
_CONNECTION_BROKEN = f"""
select 1 as value, shop_id, name as subject, name as provider, why as code,
       since
  from ({BROKEN_LINES}) lines
"""  # noqa: S608 - constants only
_CREDENTIAL_EXPIRES = f"""
select extract(epoch from ends_at - %(now)s) / 86400 as value, shop_id, provider as subject, provider
  from (select shop_id, provider, {ENDS_AT} as ends_at from connections where status = 'ok') c
 where ends_at is not null
"""  # noqa: S608 - constants only
# A token that renews itself is refreshed a few minutes before its end; every hour a job uses it.
_REFRESH_FAILING = """
select extract(epoch from %(now)s - c.token_expires_at)
         / greatest(extract(epoch from c.token_expires_at - k.created_at), 60) as value,
       c.shop_id, c.provider as subject, c.provider,
       c.token_expires_at as since
  from connections c
 cross join lateral (
    select max(created_at) as created_at from shop_secrets
     where shop_id = c.shop_id and name = c.provider || '-token' and expires_at is null) k
 where c.status = 'ok' and c.token_expires_at < %(now)s and exists (
    select from shop_secrets r where r.shop_id = c.shop_id and r.name = c.provider || '-refresh-token')
"""
_AGE_OF_OLDEST = """
select distinct on (shop_id) extract(epoch from %(now)s - max(created_at)) / 86400 as value, shop_id,
       '' as subject, name as secret
  from shop_secrets where expires_at is null group by shop_id, name order by shop_id, value desc
"""
_BREAK_OLD = """
select extract(epoch from %(now)s - opened_at) / 86400 as value, shop_id, period as subject, period as day
  from incidents where status = 'open' and rule = 'reconciliation_break'
"""
_MAILS_REFUSED = """
select count(*) as value, shop_id, '' as subject, max(code) as code from (
  select shop_id, error_code as code from mail_outbox
   where emptied_at is null and created_at > %(since)s and status = 'refused'
     and not (is_commercial and error_code = 'mail.suppressed')
   union all
  select shop_id, 'mail.bounced' from mail_outbox where bounced_at > %(since)s) m
 group by shop_id
"""
_DRIFT = """
select d.value::float8 as value, null as shop_id, d.key as subject, d.key as queue
  from heartbeats h cross join lateral jsonb_each_text(h.detail) as d(key, value)
 where h.name = 'drift' and h.at > %(now)s::timestamptz - interval '10 minutes'
"""

QUERIES = {
    "requests_failed": _REQUESTS_FAILED,
    "signature_failures": _SIGNATURE_FAILURES,
    "locks_stuck": _LOCKS_STUCK,
    "connection_broken": _CONNECTION_BROKEN,
    "credential_expires": _CREDENTIAL_EXPIRES,
    "refresh_failing": _REFRESH_FAILING,
    "secret_old": _AGE_OF_OLDEST,
    "break_old": _BREAK_OLD,
    "mails_refused": _MAILS_REFUSED,
    "ledger_broker_drift": _DRIFT,
}


def collect_figures(tx: Connection, now: datetime) -> Figures:
    """Return the figures of the rules about the rooms below, without those that cannot be read."""
    return collect_each(tx, _COLLECTORS, now)


def _run_query(rule: str, tx: Connection, now: datetime) -> Figures:
    rows = tx.exec_driver_sql(QUERIES[rule], bind_values(rule, now))
    return {rule: [make_figure(row) for row in rows]}


def _collect_channels(tx: Connection, now: datetime) -> Figures:
    return collect_channel_figures(tx, now, [channel.name for channel in list_channels()])


def bind_values(rule: str, now: datetime) -> dict[str, object]:
    """Return the values of the query of ``rule``."""
    return {
        "now": now,
        "since": now - FIGURE_RULES[rule].window,
        "latest": now + CLOCKS_APART,
        "stuck": now - STUCK_AFTER,
        "invalid_signature": INVALID_SIGNATURE,
        "no_fault": list(NO_FAULT),
    }


def collect_heartbeats(tx: Connection, now: datetime) -> Figures:
    """Return a figure for each part that is down: one for all queues of a worker, one for those without any.

    Without beat, workers get no canaries and do not count.
    """
    # Beat's heartbeat says whether the broker takes messages; its latency is not measured here.
    health = replace(read_heartbeats(tx), broker_latency_ms=0.0, leases=read_leases(tx))
    heartbeats: list[Figure] = []
    silent: dict[str, dict[str, float]] = {}
    down = list_components_down(health, now)
    # Without canaries nothing is known about a worker that was never seen.
    first_canary = None if {"beat", "broker"} & {*down} else health.sending_since
    for part in down:
        kind, _, queue = part.partition(":")
        name = {"broker": "beat"}.get(
            part, f"queue:{queue}" if queue else part
        )  # beat: the broker took a message
        seen = health.heartbeats.get(name, first_canary)
        if seen is None:
            continue
        age = (now - seen).total_seconds()
        if kind == "worker":
            silent.setdefault(health.find_node(queue), {})[queue] = age
        elif kind in ("beat", "sweep", "broker"):
            heartbeats.append(Figure(age, subject=part, detail={"name": part}))
    workers = [_make_worker_figure(node, ages) for node, ages in silent.items()]
    return {"heartbeat_old": heartbeats, "worker_not_consuming": workers}


def _make_worker_figure(node: str, ages: Mapping[str, float]) -> Figure:
    worker = f"the worker {node} has taken no message" if node else "no worker has ever taken a message"
    return Figure(max(ages.values()), subject=node, detail={"worker": worker, "queues": ", ".join(ages)})


_COLLECTORS: Mapping[str, CollectFigures] = {
    **{rule: partial(_run_query, rule) for rule in QUERIES},
    "heartbeat_old, worker_not_consuming": collect_heartbeats,
    CHANNEL_FAILED: _collect_channels,
    **work_figures.COLLECTORS,
    **database_figures.COLLECTORS,
}
