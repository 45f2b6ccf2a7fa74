"""Converts ids, times, money and enums of Shopify's webhooks to their GraphQL form. Pure."""

import re
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from services.sandbox.faults import ControlInvalid

Node = dict[str, Any]
"""A GraphQL object: values by field name, or functions of the field's arguments.
Names that begin with "_" are not Shopify's."""


def to_snake_case(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()


def gid(kind: str, number: object) -> str:
    return f"gid://shopify/{kind}/{number}"


def id_of(text: object, kind: str) -> int:
    """Return the number in a gid of ``kind``; raise ``ControlInvalid`` for any other text."""
    prefix, _, number = str(text).rpartition("/")
    if prefix != f"gid://shopify/{kind}" or not number.isdecimal():
        raise ControlInvalid(f"{text!r} should be gid://shopify/{kind}/<number>")
    return int(number)


def utc_text(at: datetime) -> str:
    """Return ``at`` as GraphQL writes it: whole seconds, a Z. The texts sort by time."""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def instant(text: str | None) -> str | None:
    """Return a webhook's time in UTC."""
    return None if text is None else utc_text(datetime.fromisoformat(text))


def enum(text: str | None) -> str | None:
    return None if text is None else text.upper()


def money(amount: object, currency: str) -> Node:
    """Return a MoneyV2. Its Decimal has at least one decimal and else no trailing zeros: "10.0"."""
    text = format(Decimal(str(amount)).normalize(), "f")
    return {"amount": text if "." in text else f"{text}.0", "currencyCode": currency}


def bag(price_set: Node | None, amount: object, currency: str) -> Node:
    """Return the MoneyBag of a webhook's ``..._set``, or without one, of ``amount`` in ``currency``."""
    # Webhooks of order transactions have "currency", all others "currency_code".
    given = {
        name: money(part["amount"], str(part.get("currency_code") or part["currency"]))
        for name, part in (price_set or {}).items()
        if part
    }
    in_shop = given.get("shop_money") or money(amount or 0, currency)
    return {"shopMoney": in_shop, "presentmentMoney": given.get("presentment_money") or in_shop}
