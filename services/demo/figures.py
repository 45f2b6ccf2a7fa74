"""The fleet's figures and state as its database, the sandbox and the mail sink hold them."""

import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from sqlalchemy import Connection, text

from services.core.db import transaction
from services.demo.expected import Key, Truth

_WAITING = text("select count(*) from work_queue where status in ('pending', 'error')")

# Each event falls into one class: somebody must decide, it waits, or all of its own work is over.
# Work that follows from an effect carries the event's id too; what the event itself asked for has its origin.
_ACCOUNT = text("""
select case when dead > 0 then 'dead' when waiting > 0 then 'waiting' else 'done' end as class, count(*)
  from (select e.id, count(*) filter (where w.status in ('dead', 'discarded')) as dead,
               count(*) filter (where w.status in ('pending', 'error')) as waiting
          from inbound_events e left join work_queue w on w.event_id = e.id
         where e.origin = 'webhook' group by e.id) events
 group by 1
""")

_DEAD = text("select error_code, count(*) from work_queue where status = 'dead' group by 1 order by 1")

_COUNTS = text("""
select (select count(*) from inbound_events where origin = 'backfill') as brought_in,
       (select coalesce(sum(duplicate_count), 0) from inbound_events) as duplicates,
       (select count(*) from work_queue where status = 'done') as work_done,
       (select count(*) from work_queue where status = 'done' and result = 'stale') as work_stale,
       (select count(*) from work_queue where retry_count > 0) as work_retried,
       (select coalesce(sum(retry_count), 0) from work_queue) as tries_again,
       (select count(*) from work_queue where dispatch_count > 1) as rung_again,
       (select count(*) from work_queue where topic = 'inventory_push' and result = 'pushed') as pushes,
       (select count(*) from orders) as orders, (select count(*) from transactions) as transactions
""")

_BREAKS = text("""
select s.slug, b.kind, b.provider_id from reconciliation_breaks b join shops s on s.id = b.shop_id
 where b.closed_at is null
""")

_MAILS = text("select kind, count(*) from mail_outbox where status = 'sent' group by kind order by kind")

_RUNS = text("select count(*) from job_runs where job = 'daily-reconciliation' and status = 'done'")


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What happened, in numbers."""

    counts: dict[str, int]
    account: dict[str, int]
    """Events by what became of them: done, waiting, dead."""
    dead: dict[str, int]
    event_ids: set[int]
    breaks: set[tuple[str, str, str]]
    runs_done: int
    mails: dict[str, int]
    """Mails that were handed over, by kind."""
    mail_files: int = 0


def count_waiting() -> int:
    """Return how many items of work are not over."""
    with transaction() as tx:
        return int(tx.scalar(_WAITING) or 0)


def wait_settled(timeout_seconds: float, *, fewer: Any = lambda _: None) -> int:
    """Return 0 once no work waits, or what still waits when the time is over. ``fewer`` hears each count."""
    deadline = time.monotonic() + timeout_seconds
    while waiting := count_waiting():
        fewer(waiting)
        if time.monotonic() > deadline:
            return waiting
        time.sleep(0.2)
    return 0


def read_figures(mail_folder: Path) -> Figures:
    """Return the figures as they are now."""
    with transaction() as tx:
        return Figures(
            counts={name: int(value) for name, value in tx.execute(_COUNTS).mappings().one().items()},
            account={row[0]: int(row[1]) for row in tx.execute(_ACCOUNT)},
            dead={str(row[0]): int(row[1]) for row in tx.execute(_DEAD)},
            event_ids=set(tx.scalars(text("select id from inbound_events where origin = 'webhook'"))),
            breaks={(row[0], row[1], row[2]) for row in tx.execute(_BREAKS)},
            runs_done=int(tx.scalar(_RUNS) or 0),
            mails={str(row[0]): int(row[1]) for row in tx.execute(_MAILS)},
            mail_files=len(list(mail_folder.glob("*.eml"))),
        )


def read_state() -> Truth:
    """Return the effects as the fleet's tables hold them, in the form of what they should be."""
    with transaction() as tx:
        slugs = {row[0]: row[1] for row in tx.execute(text("select id, slug from shops"))}
        return Truth(
            orders={
                (slugs[r[0]], r[1].rpartition("/")[2]): (r[2], r[3], r[4], r[5], r[6])
                for r in _rows(
                    tx,
                    "shop_id, order_gid, total_cents, refunded_cents, currency, financial_status,"
                    " cancelled_at is not null from orders",
                )
            },
            levels={
                (slugs[r[0]], str(r[1])): r[2]
                for r in _rows(tx, "shop_id, inventory_item_id, available from inventory_levels")
            },
            transactions={
                (slugs[r[0]], r[1]): (r[2], r[3], r[4], r[5], r[6])
                for r in _rows(
                    tx,
                    "shop_id, provider_id, kind, status, amount_cents, refunded_cents, currency"
                    " from transactions",
                )
            },
            interactions={(slugs[r[0]], r[1]) for r in _rows(tx, "shop_id, provider_id from interactions")},
        )


@dataclass(frozen=True, slots=True)
class Outside:
    """What the sandbox's Shopify holds, and how often each level was changed under each idempotency key."""

    levels: dict[Key, int]
    applied: Counter[str]
    answers: Counter[str]


def read_outside(sandbox_url: str) -> Outside:
    """Return what the sandbox holds now."""
    with httpx.Client(timeout=10) as http:
        state = http.get(f"{sandbox_url}/_control").json()["shops"]
        changes = http.get(f"{sandbox_url}/_control/log").json()["changes"]
    answers: Counter[str] = Counter()
    for shop in state.values():
        answers.update(shop["counts"])
    return Outside(
        levels={
            (domain.partition(".")[0], str(level["inventory_item_id"])): level["available"]
            for domain, shop in state.items()
            for level in shop["levels"]
        },
        applied=Counter(f"{change['idempotency_key']} {change['inventory_item_id']}" for change in changes),
        answers=answers,
    )


def _rows(tx: Connection, what: str) -> Any:
    return tx.execute(text(f"select {what}"))
