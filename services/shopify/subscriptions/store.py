"""SQL of the table ``webhook_subscriptions``: the subscriptions found at Shopify, and lost ones."""

from collections.abc import Collection, Mapping
from datetime import datetime

from sqlalchemy import Connection

from services.audit.chain import Mutation
from services.core.pg_arrays import text_array, upsert_rows
from services.shopify.subscriptions.plan import StoredSubscription, Subscription
from services.shopify.tables import webhook_subscriptions

_FIND = """
select topic, subscription_gid as gid, uri, seen_at, lost_at, imported_at
  from webhook_subscriptions where shop_id = %(shop_id)s order by topic
"""

_FIND_LAST_RECEIVED = """
select t.topic, e.received_at
  from unnest(%(topic)s::text[]) as t(topic)
 cross join lateral (
   select max(received_at) as received_at from inbound_events
    where shop_id = %(shop_id)s and provider = 'shopify' and topic = t.topic and origin = 'webhook'
      and received_at >= %(since)s
 ) e
 where e.received_at is not null
"""

_MARK_LOST = """
update webhook_subscriptions set lost_at = %(now)s, imported_at = null
 where shop_id = %(shop_id)s and topic = any(%(topic)s::text[]) and lost_at is null
returning topic, subscription_gid, seen_at
"""

_MARK_IMPORTED = """
update webhook_subscriptions set imported_at = %(now)s
 where shop_id = %(shop_id)s and topic = any(%(topic)s::text[]) and lost_at is not null
   and imported_at is null
"""


def list_stored_subscriptions(tx: Connection, shop_id: int) -> list[StoredSubscription]:
    rows = tx.exec_driver_sql(_FIND, {"shop_id": shop_id}).mappings()
    return [StoredSubscription(**row) for row in rows]


def find_last_received(
    tx: Connection, shop_id: int, topics: Collection[str], since: datetime
) -> dict[str, datetime]:
    """Return the time of the last webhook of each of ``topics`` that has one after ``since``."""
    if not topics:
        return {}
    values = {"shop_id": shop_id, "topic": text_array(sorted(topics)), "since": since}
    rows = tx.exec_driver_sql(_FIND_LAST_RECEIVED, values)
    return {row.topic: row.received_at for row in rows}


def mark_subscriptions_lost(
    tx: Connection, shop_id: int, topics: Collection[str], now: datetime
) -> list[Mutation]:
    """Mark ``topics`` as lost now, unless they are already; return the mutations.

    Call this before they are created again: otherwise, after a crash in between, the next check would find
    them good and not import the missed events.
    """
    if not topics:
        return []
    values = {"shop_id": shop_id, "topic": text_array(sorted(topics)), "now": now}
    return [
        Mutation(
            webhook_subscriptions.name,
            row.topic,
            f"Shopify no longer has the subscription to {row.topic}",
            {"subscription_gid": row.subscription_gid, "seen_at": row.seen_at},
            {"lost_at": now},
        )
        for row in tx.exec_driver_sql(_MARK_LOST, values)
    ]


def record_subscription_check(
    tx: Connection, shop_id: int, good: Mapping[str, Subscription], imported: Collection[str], now: datetime
) -> list[Mutation]:
    """Store the ``good`` subscriptions as found now, and that the missed events of ``imported`` are imported.

    Returns the mutations of the subscriptions that are new or changed.
    """
    stored = {entry.topic: entry for entry in list_stored_subscriptions(tx, shop_id)}
    if good:
        rows = [(shop_id, topic, found.gid, found.uri, now, None, None) for topic, found in good.items()]
        names = webhook_subscriptions.columns.keys()
        columns = dict(zip(names, zip(*rows, strict=True), strict=True))
        upsert_rows(tx, webhook_subscriptions, columns)
    if still_lost := [topic for topic in imported if topic not in good]:
        values = {"shop_id": shop_id, "topic": text_array(still_lost), "now": now}
        tx.exec_driver_sql(_MARK_IMPORTED, values)
    return [
        _describe(entry, before)
        for topic, entry in good.items()
        if (before := stored.get(topic)) is None
        or (before.gid, before.uri, before.lost_at) != (entry.gid, entry.uri, None)
    ]


def _describe(entry: Subscription, old: StoredSubscription | None) -> Mutation:
    before = {"subscription_gid": old.gid, "uri": old.uri, "lost_at": old.lost_at} if old else None
    after = {"subscription_gid": entry.gid, "uri": entry.uri}
    verb = "subscribed again to" if old else "subscribed to"
    return Mutation(
        webhook_subscriptions.name, entry.topic, f"{verb} {entry.topic} at Shopify", before, after
    )
