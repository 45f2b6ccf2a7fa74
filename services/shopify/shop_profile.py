"""The shop object of Shopify (name, currency, time zone, province, plan), and the shop of a payload.

One app secret may sign for many shops, so a valid signature does not prove to which shop a payload belongs.
See ``uninstall.py`` for whether our app is installed there.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Connection, Row

from services.alerts.incidents import Incident, record_incidents, resolve_incident
from services.core.fields import find_id, find_text, parse_items
from services.core.pg_arrays import int_array
from services.ledger.work import HandlerResult, WorkItem
from services.shopify.entities import (
    EPOCH,
    EntitySpec,
    EntityState,
    EntityUpdate,
    merge_states,
    upsert_parsed,
)
from services.shopify.payload import WrongBody, find_province, read_event, updated_at_or_event_time
from services.shopify.tables import data_class, storefronts

UNINSTALLED = "shopify_uninstalled"
UNCONFIRMED = "shopify.erasure_not_confirmed"
"""The error code of an erasure of a shop that waits for a confirmation."""

_FIND_IDENTITIES = """
select s.shop_id, p.slug, array_prepend(s.shopify_domain, s.former_shopify_domains) as domains, t.shopify_id
  from shop_config s join shops p on p.id = s.shop_id
  left join storefronts t on t.shop_id = s.shop_id
 where s.shop_id = any(%(shop_id)s::int[])
"""

_FIND_DEAD_ERASURES = """
select w.id from work_queue w join inbound_events e on e.id = w.event_id and e.topic = 'shop/redact'
 where w.shop_id = %(shop_id)s and w.topic = 'privacy_redact' and w.status = 'dead'
   and w.error_code = %(code)s and (%(event_id)s::bigint is null or w.event_id = %(event_id)s)
"""


class ShopIdentity(NamedTuple):
    """A shop's current and former domains in lower case, its id at Shopify, and its slug."""

    domains: tuple[str, ...] = ()
    shopify_id: int | None = None
    slug: str = "SHOP"


_Storefront = data_class(storefronts)


def find_identities(tx: Connection, shop_ids: Collection[int]) -> dict[int, ShopIdentity]:
    rows = tx.exec_driver_sql(_FIND_IDENTITIES, {"shop_id": int_array(sorted(shop_ids))})
    return {
        row.shop_id: ShopIdentity(
            tuple(name.lower() for name in row.domains if name), row.shopify_id, row.slug
        )
        for row in rows
    }


def check_shop_payload(source: Mapping[str, object], known: ShopIdentity) -> None:
    """Raise ``WrongBody`` if a payload of ``shop/update`` or ``app/uninstalled`` belongs to another shop."""
    domain = find_text(source, "myshopify_domain").lower()
    if domain and known.domains and domain not in known.domains:
        raise WrongBody("myshopify_domain", domain, f"this shop's own domain, {known.domains[0]}")
    if known.shopify_id is not None and source.get("id") != known.shopify_id:
        raise WrongBody("id", source.get("id"), f"this shop's own id, {known.shopify_id}")


def check_shop_identity(domain: str, shopify_id: int, known: ShopIdentity) -> None:
    """Raise ``WrongBody`` unless a privacy request is about this shop, by its domain or by its id."""
    if shopify_id == known.shopify_id or domain in known.domains:
        return
    own = f"which is not set: `fleet shops set {known.slug} --shopify-domain NAME`"
    if known.domains:
        own = f"{known.domains[0]}; discard it if it is forged"
    raise WrongBody("shop_domain", domain, f"this shop's own domain, {own}")


def list_dead_erasures(tx: Connection, shop_id: int, event_id: int | None = None) -> list[int]:
    """Return the ids of the shop's erasures that wait for a confirmation, or only that of ``event_id``."""
    values = {"shop_id": shop_id, "code": UNCONFIRMED, "event_id": event_id}
    return list(tx.exec_driver_sql(_FIND_DEAD_ERASURES, values).scalars())


def ingest_storefronts(tx: Connection, items: Sequence[WorkItem], now: datetime) -> HandlerResult:
    """Upsert Shopify's data of shops; data newer than ``uninstalled_at`` clears it.

    If Shopify's currency or time zone differs from the shop's settings, a P3 incident names the command to
    run: only a person changes the settings, because the figures of days and months depend on them.
    """
    identities = find_identities(tx, {item.shop_id for item in items})
    parsed = parse_items(
        items,
        lambda item: _parse(item, identities.get(item.shop_id, ShopIdentity()), now),
        STOREFRONTS.unreadable,
    )
    result = upsert_parsed(tx, items, parsed, STOREFRONTS)
    rows = tx.exec_driver_sql(
        "select id, slug, currency, timezone from shops where id = any(%(id)s::int[])",
        {"id": int_array(shop_id for shop_id, _ in result.changed)},
    )
    settings = {row.id: row for row in rows}
    for key in result.changed:
        before, after = result.before.get(key, EntityState(None)), result.after[key]
        if after.deleted_at is None and before.deleted_at is not None:
            resolve_incident(tx, key[0], UNINSTALLED, None, now, "The app is installed again.")
        if after.data is not None and after.data != before.data and key[0] in settings:
            _compare(tx, after.data, settings[key[0]], now)
    return result.to_handler_result(items)


def _compare(tx: Connection, data: Any, shop: Row[Any], now: datetime) -> None:
    """Open an incident for each setting of ``shop`` that differs from Shopify's; resolve those that agree."""
    for name in ("currency", "timezone"):
        at_shopify, recorded, rule = getattr(data, name), getattr(shop, name), f"shopify_{name}_differs"
        if not at_shopify or not recorded:
            continue
        if at_shopify == recorded:
            resolve_incident(tx, shop.id, rule, None, now, "They are equal now.")
            continue
        summary = (
            f"{shop.slug}: the shop's {name} is {at_shopify} at Shopify and {recorded} here: if Shopify is "
            f"right, `fleet shops set {shop.slug} {name}={at_shopify}`; else change it in Shopify's settings."
        )
        detail = {"shopify": at_shopify, "ours": recorded}
        record_incidents(tx, [Incident(shop.id, rule, at_shopify, "P3", summary, detail)], now)


def _merge(one: EntityState[Any], other: EntityState[Any]) -> EntityState[Any]:
    """Return the newer data, and the later uninstallation unless the data is newer."""
    data = merge_states(one, other).data
    uninstalled_at = max(filter(None, (one.deleted_at, other.deleted_at)), default=None)
    if uninstalled_at is not None and data is not None and data.updated_at > uninstalled_at:
        uninstalled_at = None
    return EntityState(data, uninstalled_at)


def _parse(item: WorkItem, identity: ShopIdentity, now: datetime) -> list[EntityUpdate[Any]]:
    source = read_event(item)
    check_shop_payload(source, identity)
    data = _Storefront(
        updated_at=updated_at_or_event_time(source, item, now),
        shopify_id=find_id(source, "id"),
        name=find_text(source, "name"),
        currency=find_text(source, "currency"),
        timezone=find_text(source, "iana_timezone"),
        province=find_province(source),
        plan_name=find_text(source, "plan_name"),
    )
    return [EntityUpdate((item.shop_id, item.shop_id), data)]


STOREFRONTS: EntitySpec[Any] = EntitySpec(
    name="storefront",
    table=storefronts,
    make=_Storefront,
    audited=("currency", "timezone", "province", "plan_name"),
    blank=_Storefront(None, "", "", "", "", "", EPOCH),
    merge=_merge,
    deletion_column="uninstalled_at",
    deletion_texts=("our app uninstalled", "our app installed again"),
    row_key=lambda key: key[:1],
)
