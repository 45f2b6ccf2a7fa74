"""Parts of what Shopify's GraphQL answers, in the shape that REST gives them. Pure."""

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from services.providers.delivery import find_dict

Node = Mapping[str, Any]
"""An object of a GraphQL answer."""


def number_of(gid: str | None) -> int:
    """Return the id at the end of ``gid://shopify/Order/123`` as a whole number; 0 where there is none.

    Refund line items and inventory levels carry a query behind their number.
    """
    number = (gid or "").partition("?")[0].rpartition("/")[2]
    return int(number) if number.isdecimal() else 0


def taxes_of(lines: Sequence[Node]) -> list[dict[str, Any]]:
    """Return tax lines; their rate is a number in both."""
    return [
        {
            "title": line["title"],
            "rate": line["rate"],
            "channel_liable": line["channelLiable"],
            "price": amount_of(line, "priceSet"),
            "price_set": money_set_of(line, "priceSet"),
        }
        for line in lines
    ]


def named_of(attributes: Sequence[Node]) -> list[dict[str, Any]]:
    """Return custom attributes as REST has properties and note attributes: by name, not by key."""
    return [{"name": entry["key"], "value": entry["value"]} for entry in attributes]


def money_set_of(source: Node, name: str) -> dict[str, Any] | None:
    """Return the money bag ``name`` with the shop's own currency alone; None where there is none."""
    money = find_dict(find_dict(source, name), "shopMoney")
    if not money:
        return None
    return {"shop_money": {"amount": money["amount"], "currency_code": money["currencyCode"]}}


def amount_of(source: Node, name: str) -> str | None:
    """Return the decimal text of the money bag ``name`` in the shop's currency; None where there is none."""
    amount = find_dict(find_dict(source, name), "shopMoney").get("amount")
    return amount if isinstance(amount, str) else None


def moved_of(source: Node, name: str) -> Node:
    """Return the amount and currency that moved, the buyer's in a foreign sale; empty where there is none."""
    bag = find_dict(source, name)
    return find_dict(bag, "presentmentMoney") or find_dict(bag, "shopMoney")


def duties_of(refund: Node) -> dict[str, Any]:
    """Return the money bag of a refund's duties; 0 in the shop's currency where it has none."""
    bags = [money_set_of(duty, "amountSet") for duty in refund["duties"]]
    total = sum((Decimal(bag["shop_money"]["amount"]) for bag in bags if bag), Decimal(0))
    return {"shop_money": {"amount": format(total, "f"), "currency_code": currency_of(refund)}}


def currency_of(refund: Node) -> str:
    """Return the shop's currency as a refund's total states it; empty where it does not."""
    return str(find_dict(find_dict(refund, "totalRefundedSet"), "shopMoney").get("currencyCode") or "")
