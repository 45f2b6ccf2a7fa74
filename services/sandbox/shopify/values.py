"""How Shopify's GraphQL writes what its webhooks write otherwise: ids, times, money, enums. Pure."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Protocol

from services.sandbox.faults import ControlInvalid

Node = dict[str, Any]
"""An object as GraphQL reads it: values by field name, or functions that take the field's arguments.
A name that begins with "_" is no field of Shopify's."""


class HasFields(Protocol):
    """A ``Node`` or a ``WebhookNode``, as searches and pages read it."""

    def get(self, name: str, /) -> Any:
        """Return the field ``name``, or None."""


def gid(kind: str, number: object) -> str:
    """Return ``gid://shopify/<kind>/<number>``."""
    return f"gid://shopify/{kind}/{number}"


def id_of(text: object, kind: str) -> int:
    """Return the number in a gid of ``kind``; raise ``ControlInvalid`` for any other text."""
    prefix, _, number = str(text).rpartition("/")
    if prefix != f"gid://shopify/{kind}" or not number.isdecimal():
        raise ControlInvalid(f"{text!r} should be gid://shopify/{kind}/<number>")
    return int(number)


def utc_text(at: datetime) -> str:
    """Return ``at`` as GraphQL writes it: whole seconds, a Z. Such texts sort as their moments do."""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def instant(text: str | None) -> str | None:
    """Return a webhook's time, which has its shop's offset, in UTC."""
    return None if text is None else utc_text(datetime.fromisoformat(text))


def enum(text: str | None) -> str | None:
    """Return a webhook's status as the enum's name."""
    return None if text is None else text.upper()


def decimal(amount: object) -> str:
    """Return money as GraphQL's Decimal: no needless zeros, yet always a decimal place ("10.0", "1999.0")."""
    text = format(Decimal(str(amount)).normalize(), "f")
    return text if "." in text else f"{text}.0"


def money(amount: object, currency: str) -> Node:
    """Return a MoneyV2."""
    return {"__typename": "MoneyV2", "amount": decimal(amount), "currencyCode": currency}


def bag(price_set: Node | None, amount: object, currency: str) -> Node:
    """Return a MoneyBag of a webhook's ``..._set``, or where it has none of ``amount`` in ``currency``."""
    shop, presentment = (price_set or {}).get("shop_money"), (price_set or {}).get("presentment_money")
    in_shop = money(shop["amount"], _currency_of(shop)) if shop else money(amount or 0, currency)
    presented = money(presentment["amount"], _currency_of(presentment)) if presentment else in_shop
    return {"__typename": "MoneyBag", "shopMoney": in_shop, "presentmentMoney": presented}


def _currency_of(amount: Node) -> str:
    # Webhooks of order transactions say "currency", all others "currency_code".
    return str(amount.get("currency_code") or amount["currency"])
