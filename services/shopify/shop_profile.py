"""The storefront itself: what Shopify says the shop is. Whether our app is there: ``uninstall.py``."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Connection

from services.alerts.incidents import Incident, record_incidents, resolve_incident
from services.core.fields import find_text, read_set
from services.core.pg_arrays import int_array
from services.ledger.work import HandlerResult, WorkItem
from services.shopify.event_payload import read_event
from services.shopify.merge import EPOCH, EntityKey, EntityState, EntityUpdate, merge_states
from services.shopify.payload_fields import find_id, find_province, updated_at_or_event_time
from services.shopify.shop_identity import Identity, check_description, find_identities
from services.shopify.upsert import EntitySpec, upsert_updates

UNINSTALLED = "shopify_uninstalled"
CURRENCY_DIFFERS = "shopify_currency_differs"
ZONE_DIFFERS = "shopify_timezone_differs"


class Storefront(NamedTuple):
    """The shop as one event told it; ``timezone`` is an IANA name, ``province`` as in ``CA-BC``."""

    updated_at: datetime
    shopify_id: int | None
    name: str
    currency: str
    timezone: str
    province: str
    plan_name: str

    @property
    def version(self) -> tuple[Any, ...]:
        """What makes one state newer; the rest only decides between states of one and the same second."""
        return (self.updated_at, self.shopify_id or 0, *self[2:])


class Ours(NamedTuple):
    """The shop as we know it: a person's decision, which no event changes."""

    slug: str
    currency: str
    timezone: str


def ingest_storefronts(tx: Connection, items: Sequence[WorkItem], now: datetime) -> HandlerResult:
    """The storefront is as its newest event describes it; one newer than ``uninstalled_at`` clears that.

    Where Shopify's currency or time zone is another than ours a P3 incident says what to run: ours never
    changes by itself, as figures of days and books depend on it.
    """
    known_by = find_identities(tx, {item.shop_id for item in items})
    read = read_set(items, lambda item: _read(item, known_by.get(item.shop_id, Identity()), now), _KIND.code)
    ingested = upsert_updates(tx, items, read, _KIND, _join)
    ours = _find_ours(tx, {shop_id for shop_id, _ in ingested.changed})
    for key in ingested.changed:
        row, known = ingested.rows[key], ingested.known.get(key)
        shop = ours.get(key[0], Ours(str(key[0]), "", ""))
        was_gone_at = known.deleted_at if known else None
        if row.deleted_at is None and was_gone_at is not None:
            resolve_incident(tx, key[0], UNINSTALLED, None, now, "The app is installed again.")
        if row.state is not None and (known is None or row.state != known.state):
            _compare(tx, key[0], row.state, shop, now)
    return ingested.effects(items)


def _compare(tx: Connection, shop_id: int, state: Storefront, ours: Ours, now: datetime) -> None:
    """Incidents are open where Shopify's currency or time zone differs from ours, and resolved where not."""
    for rule, what, theirs, our in (
        (CURRENCY_DIFFERS, "currency", state.currency, ours.currency),
        (ZONE_DIFFERS, "timezone", state.timezone, ours.timezone),
    ):
        if not theirs or not our:
            continue
        if theirs == our:
            resolve_incident(tx, shop_id, rule, None, now, "They agree now.")
            continue
        summary = (
            f"{ours.slug}: Shopify says the shop's {what} is {theirs}, ours is {our}: if Shopify is right, "
            f"`fleet shops set {ours.slug} {what}={theirs}`; else change it in Shopify's settings."
        )
        detail = {"shopify": theirs, "ours": our}
        record_incidents(tx, [Incident(shop_id, rule, theirs, "P3", summary, detail)], now)


def _join(one: EntityState[Storefront], other: EntityState[Storefront]) -> EntityState[Storefront]:
    """Return the newer state, and the uninstallation unless a state is newer than it."""
    state = merge_states(one, other).state
    gone_at = max((at for at in (one.deleted_at, other.deleted_at) if at is not None), default=None)
    if gone_at is not None and state is not None and state.updated_at > gone_at:
        gone_at = None
    return EntityState(state, gone_at)


def _read(item: WorkItem, known_by: Identity, now: datetime) -> EntityUpdate[Storefront]:
    source = read_event(item)
    check_description(source, known_by)
    key: EntityKey = (item.shop_id, item.shop_id)
    state = Storefront(
        updated_at=updated_at_or_event_time(source, item, now),
        shopify_id=find_id(source, "id"),
        name=find_text(source, "name"),
        currency=find_text(source, "currency"),
        timezone=find_text(source, "iana_timezone"),
        province=find_province(source),
        plan_name=find_text(source, "plan_name"),
    )
    return EntityUpdate(key, EntityState(state))


def _find_ours(tx: Connection, shops: set[int]) -> Mapping[int, Ours]:
    if not shops:
        return {}
    rows = tx.exec_driver_sql(
        "select id, slug, currency, timezone from shops where id = any(%(id)s::int[])",
        {"id": int_array(shops)},
    )
    return {r[0]: Ours(*r[1:]) for r in rows}


_FIND = """
select t.shop_id, t.shop_id, t.uninstalled_at, t.updated_at, t.shopify_id, t.name, t.currency, t.timezone,
       t.province, t.plan_name
  from unnest(%(shop_id)s::int[]) as v(shop_id) join storefronts t on t.shop_id = v.shop_id
"""

_WRITE = """
insert into storefronts (shop_id, uninstalled_at, updated_at, shopify_id, name, currency, timezone, province,
                         plan_name)
select * from unnest(%(shop_id)s::int[], %(deleted_at)s::timestamptz[], %(updated_at)s::timestamptz[],
                     %(shopify_id)s::bigint[], %(name)s::text[], %(currency)s::text[], %(timezone)s::text[],
                     %(province)s::text[], %(plan_name)s::text[])
on conflict (shop_id) do update set
   uninstalled_at = excluded.uninstalled_at, updated_at = excluded.updated_at,
   shopify_id = excluded.shopify_id, name = excluded.name, currency = excluded.currency,
   timezone = excluded.timezone, province = excluded.province, plan_name = excluded.plan_name
"""

_KIND = EntitySpec(
    table="storefronts",
    noun="storefront of shop",
    code="shopify.unreadable_storefront",
    find=_FIND,
    make=Storefront,
    write=_WRITE,
    columns={
        "updated_at": "timestamptz", "shopify_id": "bigint", "name": "text", "currency": "text",
        "timezone": "text", "province": "text", "plan_name": "text",
    },
    blank=Storefront(EPOCH, None, "", "", "", "", ""),
    shown=("currency", "timezone", "province", "plan_name"),
    lock=lambda _: "storefront",
    ended=("uninstalled_at", "our app uninstalled", "our app installed again"),
)  # fmt: skip
