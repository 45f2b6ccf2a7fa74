"""Customers: whom an order is for. The only table of the storefront with a person in it."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import Connection

from services.audit.chain import Mutation
from services.core.errors import Refused
from services.core.fields import read_id, read_set
from services.core.pg_arrays import instant_array, int_array, text_array
from services.ledger.describe import audit_entry
from services.ledger.work import Done, HandlerResult, Outcome, WorkItem
from services.shopify.event_payload import read_event
from services.shopify.merge import (
    EPOCH,
    EntityKey,
    EntityState,
    EntityUpdate,
    ParsedUpdate,
    apply_updates,
    ignore_unknown_deletions,
)
from services.shopify.orders.customer_payload import Customer, read_customer
from services.shopify.upsert import describe_unknown_deletion

# Whoever is redacted stays so: nothing that comes later gives a name back. ``was`` is the row before.
_RECORD = """
with told as (
  select * from unnest(%(shop_id)s::int[], %(id)s::bigint[], %(updated_at)s::timestamptz[], %(name)s::text[],
                       %(email)s::text[], %(phone)s::text[], %(deleted_at)s::timestamptz[])
                as v(shop_id, customer_id, updated_at, name, email, phone, deleted_at)
), was as (
  select c.* from told v cross join lateral (
    select * from customers c where c.shop_id = v.shop_id and c.customer_id = v.customer_id offset 0) c
), written as (
  insert into customers as c (shop_id, customer_id, updated_at, name, email, phone, deleted_at)
  select * from told order by shop_id, customer_id
  on conflict (shop_id, customer_id) do update set
     updated_at = case when NEWER then excluded.updated_at else c.updated_at end,
     name = case when NEWER then excluded.name else c.name end,
     email = case when NEWER then excluded.email else c.email end,
     phone = case when NEWER then excluded.phone else c.phone end,
     deleted_at = least(c.deleted_at, excluded.deleted_at)
   where NEWER or least(c.deleted_at, excluded.deleted_at) is distinct from c.deleted_at
  returning c.*
)
select n.shop_id, n.customer_id, w.customer_id is null,
       w.customer_id is not null and n.name <> w.name, w.customer_id is not null and n.email <> w.email,
       w.customer_id is not null and n.phone <> w.phone, n.updated_at > %(untold)s,
       case when n.deleted_at is distinct from w.deleted_at then n.deleted_at end
  from written n left join was w on w.shop_id = n.shop_id and w.customer_id = n.customer_id
 where w.customer_id is null
    or (n.name, n.email, n.phone, n.deleted_at) is distinct from (w.name, w.email, w.phone, w.deleted_at)
""".replace(
    "NEWER",
    """(c.redacted_at is null
        and (excluded.updated_at, excluded.name collate "C", excluded.email collate "C",
             excluded.phone collate "C")
          > (c.updated_at, c.name collate "C", c.email collate "C", c.phone collate "C"))""",
)

# What ``_RECORD`` would find: for the outcomes of a set.
_FIND = """
select c.shop_id, c.customer_id, c.deleted_at, c.redacted_at, c.updated_at, c.name, c.email, c.phone
  from unnest(%(shop_id)s::int[], %(id)s::bigint[]) as v(shop_id, id)
  join customers c on c.shop_id = v.shop_id and c.customer_id = v.id
"""

_STATES = frozenset({"customers/create", "customers/update", "customers/enable", "customers/disable"})
_BLANK = Customer(EPOCH, "", "", "")


class Known(NamedTuple):
    """A customer's row after a set was recorded."""

    row: EntityState[Customer]
    is_redacted: bool


def ingest_customers(tx: Connection, items: Sequence[WorkItem], now: datetime) -> HandlerResult:
    """Every customer stands as its newest event told it, and one who was redacted stays redacted.

    ``deleted_at`` stays once told; a deletion of a customer who is not recorded changes nothing. Topics that
    do not describe a customer (merges, consents) are ``ignored``: what they changed is in
    ``customers/update``.
    """
    read: list[ParsedUpdate[Customer]] = read_set(
        items, lambda i: _read(i, now), "shopify.unreadable_customer"
    )
    ends = {entry.key for entry in read if isinstance(entry, EntityUpdate) and entry.row.state is None}
    passed = ignore_unknown_deletions(_find(tx, ends), read)
    told = [
        (item, entry) for item, entry in zip(items, passed, strict=True) if isinstance(entry, EntityUpdate)
    ]
    rows, by = apply_updates({}, told)
    said = record_customers(tx, rows)
    known = _find(tx, rows)

    def settle(entry: ParsedUpdate[Customer]) -> Outcome:
        if isinstance(entry, (Done, Refused)):
            return entry
        row, is_redacted = known[entry.key]
        if entry.row.deleted_at is not None:
            return Done() if entry.row.deleted_at == row.deleted_at else Done("stale")
        if is_redacted:
            return Done("redacted")
        return Done() if entry.row.state == row.state else Done("stale")

    audit = [audit_entry(by[key], [mutation]) for key, mutation in said.items()]
    audit += [
        audit_entry(item, [describe_unknown_deletion("customers", "customer", entry.key[1])])
        for item, entry, after in zip(items, read, passed, strict=True)
        if isinstance(entry, EntityUpdate) and after is not entry
    ]
    return HandlerResult([settle(entry) for entry in passed], (), audit)


def record_customers(
    tx: Connection, rows: Mapping[EntityKey, EntityState[Customer]]
) -> dict[EntityKey, Mutation]:
    """Each customer is at least as new as in ``rows``; return what the audit says of those that changed.

    Of one who is told anew as he was only the time is written, and nothing said: each order tells of its
    customer. One statement, which also waits for whoever redacts one of them at the same time.
    """
    if not rows:
        return {}
    states = [row.state or _BLANK for row in rows.values()]
    changed = tx.exec_driver_sql(
        _RECORD,
        {
            "shop_id": int_array(shop_id for shop_id, _ in rows),
            "id": int_array(number for _, number in rows),
            "updated_at": instant_array(state.updated_at for state in states),
            "name": text_array([state.name for state in states]),
            "email": text_array([state.email for state in states]),
            "phone": text_array([state.phone for state in states]),
            "deleted_at": instant_array(row.deleted_at for row in rows.values()),
            "untold": EPOCH,
        },
    )
    return {(r[0], r[1]): _say(*r[1:]) for r in changed}


def _say(
    number: int, is_new: bool, name: bool, email: bool, phone: bool, is_told: bool, deleted: datetime | None
) -> Mutation:
    """Return which fields of a customer changed, and never to what."""
    said = ["recorded"] if is_new and is_told else []
    said += [f"another {what}" for what, is_other in (("name", name), ("email", email), ("phone", phone))
             if is_other]  # fmt: skip
    if deleted is None:
        return Mutation("customers", str(number), f"customer {number}: {', '.join(said)}")
    said.append("deleted at Shopify")
    summary = f"customer {number}: {', '.join(said)}"
    return Mutation("customers", str(number), summary, None, {"deleted_at": deleted})


def _find(tx: Connection, keys: Collection[EntityKey]) -> dict[EntityKey, Known]:
    if not keys:
        return {}
    values = {"shop_id": int_array(shop_id for shop_id, _ in keys), "id": int_array(n for _, n in keys)}
    return {
        (r[0], r[1]): Known(EntityState(Customer(*r[4:]), r[2]), r[3] is not None)
        for r in tx.exec_driver_sql(_FIND, values)
    }


def _read(item: WorkItem, now: datetime) -> ParsedUpdate[Customer]:
    if item.event_topic == "customers/delete":
        return EntityUpdate(
            (item.shop_id, read_id(read_event(item), "id")), EntityState(None, item.event_time(now))
        )
    if item.event_topic not in _STATES:
        return Done("ignored")
    source = read_event(item)
    return EntityUpdate(
        (item.shop_id, read_id(source, "id")), EntityState(read_customer(source, item.event_time(now)))
    )
