"""The table ``webhook_subscriptions``: what was seen at Shopify, and what was lost since."""

from collections.abc import Collection, Mapping
from datetime import datetime

from sqlalchemy import Connection

from services.audit.chain import Mutation
from services.core.pg_arrays import text_array
from services.shopify.subscriptions.plan import Kept, Subscription

TABLE = "webhook_subscriptions"

_FIND = """
select topic, subscription_gid, uri, seen_at, lost_at, imported_at
  from webhook_subscriptions where shop_id = %(shop_id)s order by topic
"""

_FIND_ARRIVED = """
select t.topic, e.received_at
  from unnest(%(topic)s::text[]) as t(topic)
 cross join lateral (
   select max(received_at) as received_at from inbound_events
    where shop_id = %(shop_id)s and provider = 'shopify' and topic = t.topic and origin = 'webhook'
      and received_at >= %(since)s
 ) e
 where e.received_at is not null
"""

_LOSE = """
update webhook_subscriptions set lost_at = %(now)s, imported_at = null
 where shop_id = %(shop_id)s and topic = any(%(topic)s::text[]) and lost_at is null
returning topic, subscription_gid, seen_at
"""

_SEE = """
insert into webhook_subscriptions as w (shop_id, topic, subscription_gid, uri, seen_at)
select %(shop_id)s, topic, gid, uri, %(now)s
  from unnest(%(topic)s::text[], %(gid)s::text[], %(uri)s::text[]) as v(topic, gid, uri)
on conflict (shop_id, topic) do update set
   subscription_gid = excluded.subscription_gid, uri = excluded.uri, seen_at = excluded.seen_at,
   lost_at = null, imported_at = null
"""

_IMPORTED = """
update webhook_subscriptions set imported_at = %(now)s
 where shop_id = %(shop_id)s and topic = any(%(topic)s::text[]) and lost_at is not null
   and imported_at is null
"""


def find_kept(tx: Connection, shop_id: int) -> list[Kept]:
    """Return the subscriptions of the shop that were ever seen, by topic."""
    return [Kept(*row) for row in tx.exec_driver_sql(_FIND, {"shop_id": shop_id})]


def find_arrived(
    tx: Connection, shop_id: int, topics: Collection[str], since: datetime
) -> dict[str, datetime]:
    """Return when the last webhook of each of ``topics`` came, of those that came ``since`` then."""
    if not topics:
        return {}
    values = {"shop_id": shop_id, "topic": text_array(sorted(topics)), "since": since}
    return {row[0]: row[1] for row in tx.exec_driver_sql(_FIND_ARRIVED, values)}


def record_lost(tx: Connection, shop_id: int, topics: Collection[str], now: datetime) -> list[Mutation]:
    """``topics`` are lost since now, those that were not already; return what to audit.

    Written before anything is done about it: whoever made them anew and then crashed would find them
    there, and nobody would read what their outage kept from us.
    """
    if not topics:
        return []
    values = {"shop_id": shop_id, "topic": text_array(sorted(topics)), "now": now}
    return [
        Mutation(
            TABLE,
            topic,
            f"Shopify no longer has the subscription to {topic}",
            {"subscription_gid": gid, "seen_at": seen_at},
            {"lost_at": now},
        )
        for topic, gid, seen_at in tx.exec_driver_sql(_LOSE, values)
    ]


def record_watch(
    tx: Connection,
    shop_id: int,
    good: Mapping[str, Subscription],
    imported: Collection[str],
    now: datetime,
) -> list[Mutation]:
    """``good`` subscriptions were seen now, and the outages of the ``imported`` topics were read.

    Returns what to audit: what is new, or another than before. That one is still there is no news.
    """
    known = {kept.topic: kept for kept in find_kept(tx, shop_id)}
    if good:
        values = {
            "shop_id": shop_id,
            "topic": text_array(list(good)),
            "gid": text_array([entry.gid for entry in good.values()]),
            "uri": text_array([entry.uri for entry in good.values()]),
            "now": now,
        }
        tx.exec_driver_sql(_SEE, values)
    gone = [topic for topic in imported if topic not in good]
    if gone:
        tx.exec_driver_sql(_IMPORTED, {"shop_id": shop_id, "topic": text_array(gone), "now": now})
    return [
        _say_seen(entry, known.get(topic))
        for topic, entry in good.items()
        if (have := known.get(topic)) is None
        or (have.gid, have.uri, have.lost_at) != (entry.gid, entry.uri, None)
    ]


def _say_seen(entry: Subscription, have: Kept | None) -> Mutation:
    before = (
        None if have is None else {"subscription_gid": have.gid, "uri": have.uri, "lost_at": have.lost_at}
    )
    after = {"subscription_gid": entry.gid, "uri": entry.uri}
    word = "subscribed to" if have is None else "subscribed again to"
    return Mutation(TABLE, entry.topic, f"{word} {entry.topic} at Shopify", before, after)
