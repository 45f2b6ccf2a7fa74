"""The fleet's figures and state, read from its database, the sandbox and the mail sink."""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from sqlalchemy import Connection, Row, text

from services.core.db import transaction
from services.demo.expected import ExpectedState, Key

# Each event is in one class: dead (a person decides), waiting, or all of its work is done.
_ACCOUNT = """
select case when dead > 0 then 'dead' when waiting > 0 then 'waiting' else 'done' end, count(*)
  from (select e.id, count(*) filter (where w.status in ('dead', 'discarded')) as dead,
               count(*) filter (where w.status in ('pending', 'error')) as waiting
          from inbound_events e left join work_queue w on w.event_id = e.id
         where e.origin = 'webhook' group by e.id) events
 group by 1
"""
_DEAD = "select error_code, count(*) from work_queue where status = 'dead' group by 1 order by 1"
_MAILS = "select kind, count(*) from mail_outbox where status = 'sent' group by kind order by kind"
_COUNTS = """
select (select count(*) from inbound_events where origin = 'backfill') as backfilled,
       (select count(*) from work_queue where status = 'done') as work_done,
       (select count(*) from work_queue where status = 'done' and result = 'stale') as work_stale,
       (select count(*) from work_queue where retry_count > 0) as work_retried,
       (select coalesce(sum(retry_count), 0) from work_queue) as failed_tries,
       (select count(*) from work_queue where dispatch_count > 1) as sent_again,
       (select count(*) from work_queue where topic = 'inventory_push' and result = 'pushed') as pushes,
       (select count(*) from orders) as orders, (select count(*) from transactions) as transactions,
       (select count(*) from job_runs
         where job = 'daily-reconciliation' and status = 'done' and origin = 'http') as runs_done
"""
_BREAKS = """
select s.slug, b.kind, b.provider_id from reconciliation_breaks b join shops s on s.id = b.shop_id
 where b.closed_at is null
"""
_INCIDENTS = """
select i.severity, i.rule, i.status, min(i.summary) as summary,
       string_agg(coalesce(s.slug, 'fleet'), ', ' order by s.slug) as shops
  from incidents i left join shops s on s.id = i.shop_id group by 1, 2, 3 order by 1, 2, 3
"""
_ORDERS = """
select s.slug, split_part(o.order_gid, '/', 5), o.total_cents, o.refunded_cents, o.currency,
       o.financial_status, o.cancelled_at is not null
  from orders o join shops s on s.id = o.shop_id
"""
_LEVELS = """
select s.slug, l.inventory_item_id::text, l.available
  from inventory_levels l join shops s on s.id = l.shop_id
"""
_TRANSACTIONS = """
select s.slug, t.provider_id, t.kind, t.status, t.amount_cents, t.refunded_cents, t.currency
  from transactions t join shops s on s.id = t.shop_id
"""
_INTERACTIONS = "select s.slug, i.provider_id from interactions i join shops s on s.id = i.shop_id"


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    counts: dict[str, int]
    account: dict[str, int]
    dead: dict[str, int]
    event_ids: set[int]
    breaks: set[tuple[str, str, str]]
    mails: dict[str, int]
    incidents: Sequence[Row[Any]] = ()
    """One row for each severity, rule and status, with the shops and one of the summaries."""
    mail_files: int = 0


# A letter to an owner is planned for Tuesday.
_WAITING = """
select count(*) from work_queue
 where status in ('pending', 'error') and not (topic = 'letter_send' and next_retry_at > now())
"""


def wait_settled(timeout_seconds: float, *, report: Callable[[int], None] = lambda _: None) -> int:
    """Return 0 once no work waits, else the count after the timeout. Calls ``report`` with each count."""
    deadline = time.monotonic() + timeout_seconds
    while True:
        with transaction() as tx:
            found = tx.scalar(text(_WAITING))
        waiting = int(found or 0)
        if waiting:
            report(waiting)
        if not waiting or time.monotonic() > deadline:
            return waiting
        time.sleep(0.2)


def read_figures(mail_folder: Path) -> Figures:
    with transaction() as tx:
        counts = tx.execute(text(_COUNTS)).mappings().one()
        return Figures(
            counts={name: int(value) for name, value in counts.items()},
            account=dict(_read(tx, _ACCOUNT)),
            dead=dict(_read(tx, _DEAD)),
            event_ids=set(tx.scalars(text("select id from inbound_events where origin = 'webhook'"))),
            breaks=set(_read(tx, _BREAKS)),
            mails=dict(_read(tx, _MAILS)),
            incidents=tx.execute(text(_INCIDENTS)).all(),
            mail_files=len(list(mail_folder.glob("*.eml"))),
        )


def read_state() -> ExpectedState:
    with transaction() as tx:
        return ExpectedState(
            orders={(slug, gid): tuple(state) for slug, gid, *state in _read(tx, _ORDERS)},
            levels={(slug, item): available for slug, item, available in _read(tx, _LEVELS)},
            transactions={(slug, ref): tuple(state) for slug, ref, *state in _read(tx, _TRANSACTIONS)},
            interactions=set(_read(tx, _INTERACTIONS)),
        )


def _read(tx: Connection, statement: str) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in tx.execute(text(statement))]


@dataclass(frozen=True, slots=True)
class SandboxFigures:
    """Levels at the sandbox's Shopify, and the number of changes of each per idempotency key.

    ``blocks``: how often each title is on a page at the sandbox's Notion; each has its own marker.
    """

    levels: dict[Key, int]
    applied: Counter[str]
    answers: Counter[str]
    pages: int = 0
    blocks: Counter[str] = field(default_factory=Counter)


def read_outside(sandbox_url: str) -> SandboxFigures:
    with httpx.Client(timeout=10) as http:
        found = http.get(f"{sandbox_url}/_control").json()
        pages = [
            page
            for key in found["notion"]
            for page in http.get(f"{sandbox_url}/_control/notion", params={"key": key}).json()["pages"]
        ]
        changes = http.get(f"{sandbox_url}/_control/log").json()["changes"]
    state, answers = found["shops"], Counter[str]()
    for shop in state.values():
        answers.update(shop["counts"])
    return SandboxFigures(
        levels={
            (domain.partition(".")[0], str(level["inventory_item_id"])): level["available"]
            for domain, shop in state.items()
            for level in shop["levels"]
        },
        applied=Counter(f"{change['idempotency_key']} {change['inventory_item_id']}" for change in changes),
        answers=answers,
        pages=len(pages),
        blocks=Counter(title for page in pages for title in page["texts"]),
    )
