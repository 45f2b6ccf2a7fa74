"""Shops (tenants): name, time zone, currency, addresses and stock owner."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import Connection, Select, func, select, update
from sqlalchemy.dialects.postgresql import insert as pg_insert
from sqlalchemy.exc import IntegrityError

from services.audit.append import AuditEntry, Mutation, append_all
from services.core.errors import InputInvalid, describe_unknown, join_faults, suggest
from services.ledger.work import FLEET
from services.shops.fields import find_faults, find_pool_faults, find_rate_faults, merge_rates
from services.shops.tables import shop_config, shops

_SLUG = re.compile(r"[a-z0-9-]{1,40}")
_OF_SHOP = ("name", "timezone", "currency")
DEFAULTS = {
    "owner_email": "",
    "accountant_email": "",
    "shopify_domain": "",
    "stock_location_id": "",
    "stock_owner": "shopify",
    "ai_cap": "",
    "sms_budget": "",
    "exchange_rates": "",
    "postal_address": "",
    "mail_contact": "",
    "mails_per_day": "1",
    "notion_data_source": "",
    "ai_uses": "",
    "shop_floor": "off",
}
"""The fields with a default."""

FIELDS = (*_OF_SHOP, *DEFAULTS)
"""Fields that ``set_shop`` may change. A slug cannot change: it is in the webhook URLs at the providers."""


class ShopInvalid(InputInvalid):
    """A shop's field is wrong, or its slug is taken. The message names every fault."""


class ShopUnknown(InputInvalid):
    """There is no shop with that slug or id."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shop:
    """A tenant with its settings."""

    id: int
    slug: str
    name: str
    timezone: str
    currency: str
    owner_email: str
    accountant_email: str
    shopify_domain: str
    stock_location_id: str
    stock_owner: str
    created_at: datetime
    ai_cap: str = ""
    """The most that AI may cost in a month, such as ``50.00 CAD``; empty: no cap."""
    sms_budget: str = ""
    exchange_rates: str = ""
    """Such as ``USD/CAD=1.37``: how costs in other currencies count against cap and budget."""
    postal_address: str = ""
    """Of the sender, on one line; with ``mail_contact`` in each commercial mail."""
    mail_contact: str = ""
    mails_per_day: str = "1"
    """Most commercial mails for one person in a day."""
    notion_data_source: str = ""
    """The id of the data source at Notion that has a page for each merchant."""
    ai_uses: str = ""
    """What AI may read calls, messages and mails for: ``summaries``, ``vectors``, both, or nothing."""
    shop_floor: str = "off"
    """``on``: its orders go to the board of the shop floor."""
    former_shopify_domains: tuple[str, ...] = ()
    """Webhooks that name one of these still belong to the shop."""
    removed_at: datetime | None = None
    """Set by `fleet shops remove`: only the audit chain and the closed months of the shop are kept."""

    @property
    def zone(self) -> ZoneInfo:
        return ZoneInfo(self.timezone)


def add_shop(
    tx: Connection,
    *,
    slug: str,
    name: str,
    timezone: str,
    currency: str,
    now: datetime,
    by: str = "fleet",
    request_id: str = "",
    **of_config: str,
) -> Shop:
    """Add a shop with its settings and return it; ``ShopInvalid`` names every fault, or the taken slug.

    ``of_config`` are further ``FIELDS``; the default is empty, and ``shopify`` for ``stock_owner``.
    """
    fields = {"name": name, "timezone": timezone, "currency": currency, **DEFAULTS, **of_config}
    fields["shopify_domain"] = normalize_domain(fields["shopify_domain"])
    _check_faults(list_new_faults(slug, fields) + _find_domain_faults(tx, slug, fields["shopify_domain"]))
    shop_id = tx.scalar(
        pg_insert(shops)
        .values(slug=slug, created_at=now, **{field: fields[field] for field in _OF_SHOP})
        .on_conflict_do_nothing(index_elements=["slug"])
        .returning(shops.c.id)
    )
    if shop_id is None:
        raise ShopInvalid(f"slug={slug!r} is taken: choose another, or use `fleet shops set`")
    fields["exchange_rates"] = merge_rates("", fields["exchange_rates"])
    _write_config(tx, shop_id, slug, {field: fields[field] for field in DEFAULTS})
    mutation = Mutation("shops", str(shop_id), f"added shop {slug}", None, {"slug": slug, **fields})
    append_all(tx, [AuditEntry(shop_id, by, "shop.add", request_id, [mutation])], now)
    return get_shop(tx, slug)


def list_new_faults(slug: str, fields: Mapping[str, str]) -> list[str]:
    """Return every fault of a new shop with these ``FIELDS``. Pure."""
    faults = [] if _SLUG.fullmatch(slug) else [f"slug={slug!r} should be 1 to 40 of a-z, 0-9 and '-'"]
    if slug == "fleet":
        faults.append("slug='fleet' is the fleet itself: choose another")
    owner, location_id = fields["stock_owner"], fields["stock_location_id"]
    faults += find_faults(fields)
    if not faults:
        faults = find_rate_faults(fields)
    return faults + find_pool_faults(slug, owner, location_id)


def set_shop(
    tx: Connection,
    slug: str,
    changes: Mapping[str, str],
    *,
    now: datetime,
    by: str = "fleet",
    request_id: str = "",
) -> Shop:
    """Change the given ``FIELDS`` and return the shop; equal values are neither written nor audited.

    Rates of ``exchange_rates`` that are not given stay: see ``merge_rates``.
    """
    unknown = [field for field in changes if field not in FIELDS]
    faults = [f"field {describe_unknown(field, FIELDS)}" for field in unknown]
    if "shopify_domain" in changes:
        changes = {**changes, "shopify_domain": normalize_domain(changes["shopify_domain"])}
    _check_faults(faults + find_faults({field: changes[field] for field in changes if field not in unknown}))
    shop_id = tx.scalar(select(shops.c.id).where(shops.c.slug == slug).with_for_update())
    shop = get_shop(tx, slug)
    if "exchange_rates" in changes:
        _check_faults(find_rate_faults({field: getattr(shop, field) for field in DEFAULTS} | {**changes}))
        changes = {**changes, "exchange_rates": merge_rates(shop.exchange_rates, changes["exchange_rates"])}
    owner = changes.get("stock_owner", shop.stock_owner)
    here = shop.stock_location_id if owner == shop.stock_owner else ""
    _check_faults(
        find_pool_faults(slug, owner, changes.get("stock_location_id", shop.stock_location_id), here)
    )
    after = {field: value for field, value in changes.items() if getattr(shop, field) != value}
    if not after:
        return shop
    before = {field: getattr(shop, field) for field in after}
    of_shop = {field: value for field, value in after.items() if field in _OF_SHOP}
    of_config: dict[str, Any] = {field: value for field, value in after.items() if field in DEFAULTS}
    if "shopify_domain" in after:
        known = [*shop.former_shopify_domains, shop.shopify_domain]
        former = [name for name in dict.fromkeys(known) if name not in ("", after["shopify_domain"])]
        of_config["former_shopify_domains"] = former
    if of_shop:
        tx.execute(update(shops).where(shops.c.id == shop_id).values(**of_shop))
    if of_config:
        _write_config(tx, shop.id, slug, of_config)
    mutation = Mutation("shops", str(shop.id), f"set {', '.join(after)} of {slug}", before, after)
    append_all(tx, [AuditEntry(shop.id, by, "shop.set", request_id, [mutation])], now)
    return get_shop(tx, slug)


def _write_config(tx: Connection, shop_id: int, slug: str, values: dict[str, Any]) -> None:
    upsert = pg_insert(shop_config).values(shop_id=shop_id, **values)
    try:
        with tx.begin_nested():
            tx.execute(upsert.on_conflict_do_update(index_elements=["shop_id"], set_=values))
    except IntegrityError:  # also of a command that ran at the same time
        _check_faults(_find_domain_faults(tx, slug, values.get("shopify_domain", "")))
        raise


def _find_domain_faults(tx: Connection, slug: str, domain: str) -> list[str]:
    """Return a fault if another shop, not a removed one, has the Shopify store ``domain``."""
    if not domain:
        return []
    found = tx.execute(_all_shops().where(shop_config.c.shopify_domain == domain)).mappings()
    others = [row["slug"] for row in found if row["slug"] != slug and not row["removed_at"]]
    return [f"shopify_domain={domain!r} is the store of the shop {other!r}" for other in others]


def get_shop(tx: Connection, slug: str, *, is_removed_allowed: bool = False) -> Shop:
    """Return the shop of ``slug``; raise ``ShopUnknown``, also for a removed one unless that is allowed."""
    row = tx.execute(_all_shops().where(shops.c.slug == slug)).mappings().one_or_none()
    if row is None:
        known = tx.scalars(select(shops.c.slug).order_by(shops.c.slug)).all()
        hint = f"it {suggest(slug, known, 'fleet shops list')}" if known else "add it with fleet shops add"
        raise ShopUnknown(f"there is no shop {slug!r}: {hint}")
    shop = _read_shop(row)
    if shop.removed_at is not None and not is_removed_allowed:
        raise ShopUnknown(
            f"the shop {slug!r} was removed on {shop.removed_at:%Y-%m-%d}: only its audit chain "
            "(`fleet audit verify --shop`) and its closed months (`fleet month-close show`) are here"
        )
    return shop


def get_shop_by_id(tx: Connection, shop_id: int) -> Shop:
    """Return the shop of ``shop_id``; raise ``ShopUnknown``."""
    row = tx.execute(_all_shops().where(shops.c.id == shop_id)).mappings().one_or_none()
    if row is None:
        raise ShopUnknown(f"there is no shop with the id {shop_id}: `fleet shops list` lists all")
    return _read_shop(row)


def list_shops(tx: Connection) -> list[Shop]:
    """Return every shop that was not removed, by slug."""
    return [shop for shop in _list_with_removed(tx) if shop.removed_at is None]


def _list_with_removed(tx: Connection) -> list[Shop]:
    return [_read_shop(row) for row in tx.execute(_all_shops().order_by(shops.c.slug)).mappings()]


def normalize_domain(domain: str) -> str:
    """Return ``domain`` in its stored form: lower case, without spaces around it."""
    return domain.strip().lower()


def check_domain(tx: Connection, slug: str, domain: str) -> None:
    """Raise ``ShopInvalid`` unless ``domain`` may be that of the shop ``slug``."""
    _check_faults(find_faults({"shopify_domain": domain}) + _find_domain_faults(tx, slug, domain))


def _read_shop(row: Mapping[Any, Any]) -> Shop:
    former, at = tuple(row["former_shopify_domains"] or ()), row["removed_at"]
    return Shop(**{**row, "former_shopify_domains": former, "removed_at": at and datetime.fromisoformat(at)})


def _all_shops() -> Select[Any]:
    texts = [func.coalesce(shop_config.c[field], default).label(field) for field, default in DEFAULTS.items()]
    removed_at = shop_config.c.settings["removed_at"].astext.label("removed_at")
    return select(shops, *texts, shop_config.c.former_shopify_domains, removed_at).join_from(
        shops, shop_config, shops.c.id == shop_config.c.shop_id, isouter=True
    )


def _check_faults(faults: list[str]) -> None:
    if faults:
        raise ShopInvalid(join_faults(faults))


def find_slugs(tx: Connection) -> dict[int, str]:
    """Return every shop's slug by id, and ``(fleet)`` for work of the fleet."""
    return {FLEET: "(fleet)"} | {shop.id: shop.slug for shop in _list_with_removed(tx)}
