"""Shops (tenants): name, time zone, currency, addresses and stock owner."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from sqlalchemy import Connection, Select, func, insert, select, update
from sqlalchemy.dialects.postgresql import insert as pg_insert

from services.audit.append import Mutation, append_audit
from services.core.errors import ShopfleetError
from services.ledger.work import FLEET
from services.shops.tables import shop_config, shops

_SLUG = re.compile(r"[a-z0-9-]{1,40}")
_CURRENCY = re.compile(r"[A-Z]{3}")
_MAIL = re.compile(r"[^@\s,;<>\x00]{1,64}@[^@\s,;<>\x00]{1,255}")
_DOMAIN = re.compile(r"[a-z0-9][a-z0-9-]{0,62}\.myshopify\.com")
_OF_SHOP = ("name", "timezone", "currency")
_OF_CONFIG = ("owner_email", "accountant_email", "shopify_domain", "stock_location_id", "stock_owner")
FIELDS = _OF_SHOP + _OF_CONFIG
"""What ``set_shop`` may change. A slug cannot change: it is in the webhook URLs at the providers."""

_WANTED = {
    "name": "1 to 200 printable characters",
    "timezone": "an IANA name such as America/Vancouver",
    "currency": "three capital letters of ISO 4217 such as CAD",
    "owner_email": "one mail address such as owner@example.com",
    "accountant_email": "one mail address such as books@example.com",
    "shopify_domain": "the name that Shopify gave the shop, such as harbour.myshopify.com",
    "stock_location_id": "the location's number at Shopify, digits only",
    "stock_owner": "shopify, shopfleet or pool:NAME, a name of 1 to 40 of a-z, 0-9 and '-'",
}
OWNERS = ("shopify", "shopfleet")
"""Who owns a shop's stock levels: Shopify (we follow it), or we (counts entered here are pushed)."""

OF_POOL = "pool:"
"""Prefix of the name of the pool that owns a shop's stock levels together with other shops."""


class ShopInvalid(ShopfleetError):
    """A shop's field is wrong, or its slug is taken. The message names every fault."""


class ShopUnknown(ShopfleetError):
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
    former_shopify_domains: tuple[str, ...] = ()
    """Webhooks that name one of these still belong to the shop."""

    @property
    def zone(self) -> ZoneInfo:
        """The time zone of the shop's days and schedules."""
        return ZoneInfo(self.timezone)


def add_shop(
    tx: Connection,
    *,
    slug: str,
    name: str,
    timezone: str,
    currency: str,
    owner_email: str = "",
    accountant_email: str = "",
    shopify_domain: str = "",
    stock_location_id: str = "",
    stock_owner: str = "shopify",
    now: datetime,
    by: str = "fleet",
    request_id: str = "",
) -> Shop:
    """Add a shop with its settings and return it; ``ShopInvalid`` names every fault, or the taken slug."""
    fields = {
        "name": name,
        "timezone": timezone,
        "currency": currency,
        "owner_email": owner_email,
        "accountant_email": accountant_email,
        "shopify_domain": normal_domain(shopify_domain),
        "stock_location_id": stock_location_id,
        "stock_owner": stock_owner,
    }
    faults = [] if _SLUG.fullmatch(slug) else [f"slug={slug!r} should be 1 to 40 of a-z, 0-9 and '-'"]
    _refuse(faults + _find_faults(fields) + _find_pool_faults(stock_owner, stock_location_id))
    shop_id = tx.scalar(
        pg_insert(shops)
        .values(slug=slug, created_at=now, **{field: fields[field] for field in _OF_SHOP})
        .on_conflict_do_nothing(index_elements=["slug"])
        .returning(shops.c.id)
    )
    if shop_id is None:
        raise ShopInvalid(f"slug={slug!r} is taken: choose another, or use `fleet shops set`")
    tx.execute(insert(shop_config).values(shop_id=shop_id, **{field: fields[field] for field in _OF_CONFIG}))
    append_audit(
        tx,
        shop_id=shop_id,
        staff_label=by,
        action="shop.add",
        request_id=request_id,
        now=now,
        mutations=[Mutation("shops", str(shop_id), f"added shop {slug}", None, {"slug": slug, **fields})],
    )
    return get_shop(tx, slug)


def set_shop(
    tx: Connection,
    slug: str,
    changes: Mapping[str, str],
    *,
    now: datetime,
    by: str = "fleet",
    request_id: str = "",
) -> Shop:
    """Change the named fields (see ``FIELDS``) and return the shop; equal values change and audit nothing."""
    unknown = [field for field in changes if field not in FIELDS]
    faults = [f"{field!r} is no field of a shop: use {', '.join(FIELDS)}" for field in unknown]
    if "shopify_domain" in changes:
        changes = {**changes, "shopify_domain": normal_domain(changes["shopify_domain"])}
    _refuse(faults + _find_faults({field: changes[field] for field in changes if field not in unknown}))
    shop_id = tx.scalar(select(shops.c.id).where(shops.c.slug == slug).with_for_update())
    shop = get_shop(tx, slug)
    owner = changes.get("stock_owner", shop.stock_owner)
    here = shop.stock_location_id if owner == shop.stock_owner else ""
    _refuse(_find_pool_faults(owner, changes.get("stock_location_id", shop.stock_location_id), here))
    after = {field: value for field, value in changes.items() if getattr(shop, field) != value}
    if not after:
        return shop
    before = {field: getattr(shop, field) for field in after}
    of_shop = {field: value for field, value in after.items() if field in _OF_SHOP}
    of_config: dict[str, Any] = {field: value for field, value in after.items() if field in _OF_CONFIG}
    if "shopify_domain" in after:
        of_config["former_shopify_domains"] = _find_former(shop, after["shopify_domain"])
    if of_shop:
        tx.execute(update(shops).where(shops.c.id == shop_id).values(**of_shop))
    if of_config:
        upsert = pg_insert(shop_config).values(shop_id=shop_id, **of_config)
        tx.execute(upsert.on_conflict_do_update(index_elements=["shop_id"], set_=of_config))
    append_audit(
        tx,
        shop_id=shop.id,
        staff_label=by,
        action="shop.set",
        request_id=request_id,
        now=now,
        mutations=[Mutation("shops", str(shop.id), f"set {', '.join(after)} of {slug}", before, after)],
    )
    return get_shop(tx, slug)


def get_shop(tx: Connection, slug: str) -> Shop:
    """Return the shop of ``slug``; raise ``ShopUnknown`` naming the slug."""
    row = tx.execute(_all_shops().where(shops.c.slug == slug)).mappings().one_or_none()
    if row is None:
        raise ShopUnknown(f"there is no shop {slug!r}: `fleet shops list` shows those there are")
    return _read_shop(row)


def get_shop_by_id(tx: Connection, shop_id: int) -> Shop:
    """Return the shop of ``shop_id``; raise ``ShopUnknown`` naming it."""
    row = tx.execute(_all_shops().where(shops.c.id == shop_id)).mappings().one_or_none()
    if row is None:
        raise ShopUnknown(f"there is no shop with the id {shop_id}: `fleet shops list` shows those there are")
    return _read_shop(row)


def find_shops(tx: Connection) -> list[Shop]:
    """Return every shop, by slug."""
    return [_read_shop(row) for row in tx.execute(_all_shops().order_by(shops.c.slug)).mappings()]


def normal_domain(domain: str) -> str:
    """Return ``domain`` as it is stored and compared: lower case, without spaces around it."""
    return domain.strip().lower()


def check_domain(domain: str) -> None:
    """Return if ``domain`` may be a shop's; raise ``ShopInvalid`` naming it otherwise."""
    _refuse(_find_faults({"shopify_domain": domain}))


def _find_former(shop: Shop, current: str) -> list[str]:
    """Return the former domains of ``shop`` once its domain is ``current``, the newest last."""
    known = dict.fromkeys(name for name in (*shop.former_shopify_domains, shop.shopify_domain) if name)
    return [name for name in known if name != current]


def _read_shop(row: Mapping[Any, Any]) -> Shop:
    former = row["former_shopify_domains"] or ()
    return Shop(**{**row, "former_shopify_domains": tuple(former)})


def _all_shops() -> Select[Any]:
    absent = {"stock_owner": OWNERS[0]}
    texts = [func.coalesce(shop_config.c[field], absent.get(field, "")).label(field) for field in _OF_CONFIG]
    return select(
        shops.c.id,
        shops.c.slug,
        shops.c.name,
        shops.c.timezone,
        shops.c.currency,
        shops.c.created_at,
        *texts,
        shop_config.c.former_shopify_domains,
    ).join_from(shops, shop_config, shops.c.id == shop_config.c.shop_id, isouter=True)


def _find_faults(fields: Mapping[str, str]) -> list[str]:
    checks: dict[str, Callable[[str], object]] = {
        "name": lambda value: len(value.strip()) > 0 and len(value) <= 200 and value.isprintable(),
        "timezone": _is_zone,
        "currency": _CURRENCY.fullmatch,
        "owner_email": lambda value: not value or _MAIL.fullmatch(value),
        "accountant_email": lambda value: not value or _MAIL.fullmatch(value),
        "shopify_domain": lambda value: not value or _DOMAIN.fullmatch(value),
        "stock_location_id": lambda value: not value or (value.isascii() and value.isdecimal()),
        "stock_owner": _is_owner,
    }
    return [
        f"{field}={value!r} should be {_WANTED[field]}"
        for field, value in fields.items()
        if not checks[field](value)
    ]


def _is_owner(value: str) -> bool:
    return value in OWNERS or (value.startswith(OF_POOL) and bool(_SLUG.fullmatch(value[len(OF_POOL) :])))


def _find_pool_faults(owner: str, location_id: str, before: str = "") -> list[str]:
    """Return what keeps a shop of ``owner`` from having ``location_id``; ``before`` is the present one."""
    if not owner.startswith(OF_POOL):
        return []
    if not location_id:
        return [
            f"stock_location_id='' should be the location of this shop in {owner}: name it with "
            "--stock-location-id; `fleet stock show SHOP --json` has the numbers"
        ]
    if before and before != location_id:
        return [
            f"stock_location_id={location_id!r} should stay {before} while the shop is in {owner}: "
            "take it out first with --stock-owner shopify"
        ]
    return []


def _is_zone(value: str) -> bool:
    try:
        ZoneInfo(value)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return False
    return bool(value)


def _refuse(faults: list[str]) -> None:
    if faults:
        raise ShopInvalid("; ".join(faults))


def find_slugs(tx: Connection) -> dict[int, str]:
    """Return every shop's slug by id, and ``(fleet)`` for the fleet's own work."""
    return {FLEET: "(fleet)"} | {shop.id: shop.slug for shop in find_shops(tx)}
