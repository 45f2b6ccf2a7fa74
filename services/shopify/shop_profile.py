"""The shop object of Shopify: name, currency, time zone, province, plan.

Whether our app is installed there is ``uninstall.py``.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Connection

from services.alerts.incidents import Incident, record_incidents, resolve_incident
from services.core.fields import find_id, find_text, read_set
from services.core.pg_arrays import int_array
from services.ledger.work import HandlerResult, WorkItem
from services.shopify.entity_spec import Deletion, EntitySpec
from services.shopify.event_payload import read_event
from services.shopify.merge import EPOCH, EntityState, EntityUpdate, merge_states
from services.shopify.payload_fields import find_province, updated_at_or_event_time
from services.shopify.shop_identity import Identity, check_description, find_identities
from services.shopify.tables import storefronts
from services.shopify.upsert import upsert_parsed

UNINSTALLED = "shopify_uninstalled"
CURRENCY_DIFFERS = "shopify_currency_differs"
ZONE_DIFFERS = "shopify_timezone_differs"


class Storefront(NamedTuple):
    """The shop at Shopify; ``timezone`` is an IANA name, ``province`` as in ``CA-BC``."""

    updated_at: datetime
    shopify_id: int | None
    name: str
    currency: str
    timezone: str
    province: str
    plan_name: str

    @property
    def version(self) -> tuple[Any, ...]:
        """The time; the rest decides between two states of the same second."""
        return (self.updated_at, self.shopify_id or 0, *self[2:])


class ShopSettings(NamedTuple):
    """The settings of the shop in Shopfleet, which a person decides and no event changes."""

    slug: str
    currency: str
    timezone: str


def ingest_storefronts(tx: Connection, items: Sequence[WorkItem], now: datetime) -> HandlerResult:
    """Upsert Shopify's data of shops; data newer than ``uninstalled_at`` clears that.

    Where Shopify's currency or time zone differs from the shop's settings, a P3 incident names the command
    to run: the settings never change by themselves, as the figures of days and months depend on them.
    """
    identities = find_identities(tx, {item.shop_id for item in items})
    parsed = read_set(
        items,
        lambda item: _parse(item, identities.get(item.shop_id, Identity()), now),
        STOREFRONTS.unreadable,
    )
    result = upsert_parsed(tx, items, parsed, STOREFRONTS)
    settings = _find_settings(tx, {shop_id for shop_id, _ in result.changed})
    for key in result.changed:
        before, after = result.before.get(key, EntityState(None)), result.after[key]
        if after.deleted_at is None and before.deleted_at is not None:
            resolve_incident(tx, key[0], UNINSTALLED, None, now, "The app is installed again.")
        if after.data is not None and after.data != before.data and key[0] in settings:
            _compare(tx, key[0], after.data, settings[key[0]], now)
    return result.to_handler_result(items)


def _compare(tx: Connection, shop_id: int, data: Storefront, settings: ShopSettings, now: datetime) -> None:
    """Open an incident for each setting that differs from Shopify's, resolve that of each that agrees."""
    for rule, name, at_shopify, setting in (
        (CURRENCY_DIFFERS, "currency", data.currency, settings.currency),
        (ZONE_DIFFERS, "timezone", data.timezone, settings.timezone),
    ):
        if not at_shopify or not setting:
            continue
        if at_shopify == setting:
            resolve_incident(tx, shop_id, rule, None, now, "They agree now.")
            continue
        summary = (
            f"{settings.slug}: Shopify says the shop's {name} is {at_shopify}, ours is {setting}: if Shopify "
            f"is right, `fleet shops set {settings.slug} {name}={at_shopify}`; else change it in Shopify's "
            "settings."
        )
        detail = {"shopify": at_shopify, "ours": setting}
        record_incidents(tx, [Incident(shop_id, rule, at_shopify, "P3", summary, detail)], now)


def _merge(one: EntityState[Storefront], other: EntityState[Storefront]) -> EntityState[Storefront]:
    """Return the newer data, and the later uninstallation unless the data is newer than it."""
    data = merge_states(one, other).data
    uninstalled_at = max((at for at in (one.deleted_at, other.deleted_at) if at is not None), default=None)
    if uninstalled_at is not None and data is not None and data.updated_at > uninstalled_at:
        uninstalled_at = None
    return EntityState(data, uninstalled_at)


def _parse(item: WorkItem, identity: Identity, now: datetime) -> list[EntityUpdate[Storefront]]:
    source = read_event(item)
    check_description(source, identity)
    data = Storefront(
        updated_at=updated_at_or_event_time(source, item, now),
        shopify_id=find_id(source, "id"),
        name=find_text(source, "name"),
        currency=find_text(source, "currency"),
        timezone=find_text(source, "iana_timezone"),
        province=find_province(source),
        plan_name=find_text(source, "plan_name"),
    )
    return [EntityUpdate((item.shop_id, item.shop_id), data)]


def _find_settings(tx: Connection, shops: Collection[int]) -> Mapping[int, ShopSettings]:
    rows = tx.exec_driver_sql(
        "select id, slug, currency, timezone from shops where id = any(%(id)s::int[])",
        {"id": int_array(shops)},
    )
    return {row.id: ShopSettings(row.slug, row.currency, row.timezone) for row in rows}


STOREFRONTS = EntitySpec(
    name="storefront",
    table=storefronts,
    make=Storefront,
    audited=("currency", "timezone", "province", "plan_name"),
    blank=Storefront(EPOCH, None, "", "", "", "", ""),
    merge=_merge,
    deletion=Deletion("uninstalled_at", "our app uninstalled", "our app installed again"),
    row_key=lambda key: key[:1],
)
