"""Customers: the only Shopify table with personal data. Every order also contains its customer."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Connection

from services.audit.chain import Mutation
from services.core.errors import Refused
from services.core.fields import find_instant, find_text, parse_items, read_id
from services.core.pg_arrays import array_parameters, encode_rows, find_by_key
from services.ledger.audit_text import audit_entry
from services.ledger.work import Done, HandlerResult, Outcome, WorkItem
from services.shopify.entities import (
    EPOCH,
    UNKNOWN_ID,
    EntityKey,
    EntityState,
    EntityUpdate,
    apply_updates,
    describe_unknown_deletion,
    split_unknown_deletions,
)
from services.shopify.payload import read_event
from services.shopify.tables import customers

_COLUMNS = ("shop_id", "customer_id", "updated_at", "name", "email", "phone", "deleted_at")

# Every order contains its customer, so one statement finds, compares and writes in one round trip, without
# another lock. A redacted customer stays without a name. ``old`` is the row before. ``changes``
# names the changed fields, without values.
_UPSERT = f"""
with received as (
  select * from unnest({array_parameters(customers, _COLUMNS)}) as v({", ".join(_COLUMNS)})
), old as (
  select c.* from received v cross join lateral (
    select * from customers c where c.shop_id = v.shop_id and c.customer_id = v.customer_id offset 0) c
), new as (
  insert into customers as c ({", ".join(_COLUMNS)})
  select * from received order by shop_id, customer_id
  on conflict (shop_id, customer_id) do update set
     {" ".join(f"{name} = case when NEWER then excluded.{name} else c.{name} end," for name in _COLUMNS[2:6])}
     deleted_at = least(c.deleted_at, excluded.deleted_at)
   where NEWER or least(c.deleted_at, excluded.deleted_at) is distinct from c.deleted_at
  returning c.*
)
select new.shop_id, new.customer_id,
       concat_ws(', ',
         case when old.customer_id is null and new.updated_at > %(epoch)s then 'recorded' end,
         case when new.name <> old.name then 'another name' end,
         case when new.email <> old.email then 'another email' end,
         case when new.phone <> old.phone then 'another phone' end,
         case when new.deleted_at is distinct from old.deleted_at then 'deleted at Shopify' end) as changes,
       case when new.deleted_at is distinct from old.deleted_at then new.deleted_at end as deleted_at
  from new left join old on old.shop_id = new.shop_id and old.customer_id = new.customer_id
 where old.customer_id is null
    or (new.name, new.email, new.phone, new.deleted_at)
       is distinct from (old.name, old.email, old.phone, old.deleted_at)
""".replace(  # noqa: S608 - our own names
    "NEWER",
    """(c.redacted_at is null
        and (excluded.updated_at, excluded.name collate "C", excluded.email collate "C",
             excluded.phone collate "C")
          > (c.updated_at, c.name collate "C", c.email collate "C", c.phone collate "C"))""",
)

_DESCRIBING = frozenset({"customers/create", "customers/update", "customers/enable", "customers/disable"})
_DESCRIBING_FIELDS = frozenset({"first_name", "last_name", "email", "phone"})


class Customer(NamedTuple):
    """A customer. These data are only in the table ``customers``, never in the audit or a log."""

    updated_at: datetime
    name: str
    email: str
    phone: str

    @property
    def version(self) -> tuple[Any, ...]:
        """The time; the texts decide between two states of the same second."""
        return tuple(self)

    def __repr__(self) -> str:
        return f"Customer(updated_at={self.updated_at.isoformat()})"


_BLANK = Customer(EPOCH, "", "", "")


def describes_customer(source: Mapping[str, Any]) -> bool:
    """Return whether ``source`` contains more of a customer than the id."""
    return not _DESCRIBING_FIELDS.isdisjoint(source)


def parse_customer(source: Mapping[str, Any], event_time: datetime) -> Customer:
    """Return the customer in ``source``; ``event_time`` replaces an absent ``updated_at``."""
    updated_at = find_instant(source, "updated_at") or event_time
    name = f"{find_text(source, 'first_name')} {find_text(source, 'last_name')}".strip()
    return Customer(updated_at, name, find_text(source, "email"), find_text(source, "phone"))


def ingest_customers(tx: Connection, items: Sequence[WorkItem], now: datetime) -> HandlerResult:
    """Upsert customers; a redacted customer stays redacted, and a deletion is final.

    A deletion of an unknown customer changes nothing. Topics that do not describe a customer (merges,
    consents) are ``ignored``: their changes are in ``customers/update``.
    """
    parsed = parse_items(items, lambda item: _parse(item, now), "shopify.unreadable_customer")
    updates = [(item, e) for item, e in zip(items, parsed, strict=True) if isinstance(e, EntityUpdate)]
    deleted = {update.key for _, update in updates if update.data is None}
    accepted, unknown = split_unknown_deletions(find_by_key(tx, customers, deleted), updates)
    states, changed_by = apply_updates({}, accepted)
    mutations = upsert_customers(tx, states)
    rows = find_by_key(tx, customers, states)
    applied = {item.id for item, _ in accepted}

    def settle(item: WorkItem, update: EntityUpdate[Customer] | Done | Refused) -> Outcome:
        if not isinstance(update, EntityUpdate):
            return update
        if item.id not in applied:
            return Done(UNKNOWN_ID)
        row = rows[update.key]
        if update.data is not None and row["redacted_at"] is not None:
            return Done("redacted")
        known = row["deleted_at"] if update.data is None else tuple(row[name] for name in Customer._fields)
        return Done() if known == (update.data or update.deleted_at) else Done("stale")

    audit = [audit_entry(changed_by[key], [mutation]) for key, mutation in mutations.items()]
    audit += [
        audit_entry(item, [describe_unknown_deletion("customers", "customer", update.key[1])])
        for item, update in unknown
    ]
    return HandlerResult(list(map(settle, items, parsed)), (), audit)


def upsert_customers(
    tx: Connection, states: Mapping[EntityKey, EntityState[Customer]]
) -> dict[EntityKey, Mutation]:
    """Update customers to ``states``; return the mutations of those that changed.

    If only ``updated_at`` is newer, it is written and not audited: every order contains its customer. The
    statement waits for a redaction of the same customer by another transaction.
    """
    if not states:
        return {}
    received = [(*key, *(state.data or _BLANK), state.deleted_at) for key, state in states.items()]
    values = {**encode_rows(customers, _COLUMNS, received), "epoch": EPOCH}
    return {
        (shop_id, number): Mutation(
            "customers", str(number), f"customer {number}: {changes}", None, at and {"deleted_at": at}
        )
        for shop_id, number, changes, at in tx.exec_driver_sql(_UPSERT, values)
    }


def _parse(item: WorkItem, now: datetime) -> EntityUpdate[Customer] | Done:
    at = item.event_time(now)
    if item.event_topic == "customers/delete":
        return EntityUpdate((item.shop_id, read_id(read_event(item), "id")), deleted_at=at)
    if item.event_topic not in _DESCRIBING:
        return Done("ignored")
    source = read_event(item)
    return EntityUpdate((item.shop_id, read_id(source, "id")), parse_customer(source, at))
