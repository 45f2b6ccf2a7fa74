"""Many shops from one CSV file: all of them are added, or none."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import Connection

from services.core.csv_files import parse_csv, raise_faults
from services.shops.shops import (
    DEFAULTS,
    FIELDS,
    Shop,
    ShopInvalid,
    add_shop,
    list_new_faults,
    list_shops,
    normalize_domain,
)

COLUMNS = ("slug", *FIELDS)
REQUIRED = ("slug", "name", "timezone", "currency")
MAX_FAULTS = 10_000
"""Wrong lines that are named: every one of a file of a person."""


class NewShop(NamedTuple):
    """A line of the file. ``exists`` if there is such a shop with the same values already."""

    slug: str
    fields: Mapping[str, str]
    exists: bool


@dataclass(slots=True)
class _LineParser:
    known: Mapping[str, Shop]
    seen: dict[str, int]

    def parse(self, cells: Mapping[str, str], line: int) -> NewShop:
        """Return the shop of a line; raise ``ValueError`` with every fault of it."""
        slug = cells["slug"]
        fields = {name: cells[name] or DEFAULTS.get(name, "") for name in FIELDS}
        fields["shopify_domain"] = normalize_domain(fields["shopify_domain"])
        faults = list_new_faults(slug, fields)
        for name, value in (("slug", slug), ("shopify_domain", fields["shopify_domain"])):
            if value and (first := self.seen.setdefault(f"{name}={value}", line)) != line:
                faults.append(f"{name}={value!r} is in line {first} already")
        known = self.known.get(slug)
        if known is not None and (differs := [n for n in FIELDS if getattr(known, n) != fields[n]]):
            faults.append(
                f"slug={slug!r} exists with another {', '.join(differs)}: `fleet shops set` changes a shop"
            )
        if faults:
            raise ValueError("; ".join(faults))
        return NewShop(slug, fields, known is not None)


def parse_shops_csv(tx: Connection, text: str) -> list[NewShop]:
    """Return the shops of a file; raise ``ShopInvalid`` naming each wrong line with its fields."""
    parser = _LineParser({shop.slug: shop for shop in list_shops(tx)}, {})
    shops = parse_csv(text, COLUMNS, REQUIRED, parser.parse, ShopInvalid, MAX_FAULTS)
    if not shops:
        raise_faults(["the file has no line below its first"], ShopInvalid)
    return shops


def add_shops(
    tx: Connection, shops: Sequence[NewShop], now: datetime, *, by: str, request_id: str
) -> list[str]:
    """Add those that do not exist; return their slugs."""
    added = [shop for shop in shops if not shop.exists]
    for shop in added:
        add_shop(tx, slug=shop.slug, now=now, by=by, request_id=request_id, **shop.fields)
    return [shop.slug for shop in added]
