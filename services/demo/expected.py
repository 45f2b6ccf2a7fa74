"""The expected state, computed from the bytes of the sent webhooks only. Pure.

It shares no code with the services, so that an error there is not repeated here.
"""

import json
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any

from services.demo.delivery import Delivery

Key = tuple[str, str]
"""(shop's slug, the provider's id as text)."""


@dataclass(slots=True)
class ExpectedState:
    orders: dict[Key, tuple[Any, ...]] = field(default_factory=dict)
    """(total, refunded, currency, financial status, is cancelled)"""
    levels: dict[Key, int] = field(default_factory=dict)
    transactions: dict[Key, tuple[Any, ...]] = field(default_factory=dict)
    """(kind, status, amount, refunded, currency)"""
    interactions: set[Key] = field(default_factory=set)


def recompute(
    deliveries: Iterable[Delivery], counted: Collection[str], follows: Mapping[str, str]
) -> ExpectedState:
    """Return the state that follows from ``deliveries`` in any order and with any repetition.

    The shops ``counted`` own their stock figures: the count at opening plus the later movements. The level of
    another shop is Shopify's last one; a shop that ``follows`` another one has that shop's levels.
    """
    parsed = [(one, json.loads(one.body)) for one in deliveries if not one.fault]
    shopify = [(one.shop, one.topic, body) for one, body in parsed if one.provider == "shopify"]
    return ExpectedState(
        orders=_orders(shopify),
        levels=_levels(shopify, counted, follows),
        transactions=_transactions([(one.shop, body) for one, body in parsed if one.provider == "stripe"]),
        interactions={
            (one.shop, (body["data"].get("object") or body["data"]["resource"])["id"])
            for one, body in parsed
            if one.provider in ("quo", "openphone")
        }
        | {
            (one.shop, f"mail:{body.get('id') or body['data']['email_id']}")
            for one, body in parsed
            if one.provider in ("standard", "resend")
        },
    )


def _orders(deliveries: list[tuple[str, str, dict[str, Any]]]) -> dict[Key, tuple[Any, ...]]:
    newest: dict[Key, dict[str, Any]] = {}
    refunds: dict[Key, dict[int, int]] = defaultdict(dict)
    for shop, topic, body in deliveries:
        if topic.startswith("orders/"):
            key = (shop, str(body["id"]))
            if key not in newest or _at(body["updated_at"]) > _at(newest[key]["updated_at"]):
                newest[key] = body
        elif topic == "refunds/create":
            paid = [t for t in body["transactions"] if t["status"] == "success"]
            refunds[shop, str(body["order_id"])][body["id"]] = sum(
                minor_units(t["amount"], t["currency"]) for t in paid
            )
    return {
        key: (
            minor_units(order["total_price"], order["currency"]),
            sum(refunds[key].values()),
            order["currency"],
            order["financial_status"],
            order["cancelled_at"] is not None,
        )
        for key, order in newest.items()
    }


def _levels(
    deliveries: list[tuple[str, str, dict[str, Any]]], own: Collection[str], follows: Mapping[str, str]
) -> dict[Key, int]:
    sku_of: dict[Key, str] = {}
    counted: dict[Key, dict[str, Any]] = {}
    moved: dict[Key, dict[tuple[str, int], tuple[datetime, int]]] = defaultdict(dict)
    for shop, topic, body in deliveries:
        if topic == "products/update":
            sku_of |= {(shop, str(v["inventory_item_id"])): v["sku"] for v in body["variants"]}
        elif topic == "inventory_levels/update":
            key = (shop, str(body["inventory_item_id"]))
            is_newer = key in counted and _at(body["updated_at"]) > _at(counted[key]["updated_at"])
            if key not in counted or is_newer != (shop in own):
                counted[key] = body
        elif topic.startswith("orders/"):
            for line in body["line_items"]:
                sold = (_at(body["created_at"]), -line["quantity"])
                moved[shop, line["sku"]]["line", line["id"]] = sold
        elif topic == "refunds/create":
            for line in body["refund_line_items"]:
                if line["restock_type"] == "return":
                    back = (_at(body["created_at"]), line["quantity"])
                    moved[shop, line["line_item"]["sku"]]["refund", line["id"]] = back
    levels = {
        key: level["available"]
        + sum(
            pieces
            for at, pieces in moved[key[0], sku_of[key]].values()
            if key[0] in own and at > _at(level["updated_at"])
        )
        for key, level in counted.items()
    }
    by_sku = {(shop, sku_of[shop, item]): pieces for (shop, item), pieces in levels.items()}
    return {(shop, item): by_sku[follows.get(shop, shop), sku_of[shop, item]] for shop, item in levels}


def _transactions(deliveries: list[tuple[str, dict[str, Any]]]) -> dict[Key, tuple[Any, ...]]:
    newest: dict[Key, dict[str, Any]] = {}
    for shop, event in deliveries:
        key = (shop, event["data"]["object"]["id"])
        if key not in newest or event["created"] > newest[key]["created"]:
            newest[key] = event
    found = {}
    for key, event in newest.items():
        subject = event["data"]["object"]
        status = (
            "paid" if (subject["object"], subject["status"]) == ("charge", "succeeded") else subject["status"]
        )
        refunded = subject.get("amount_refunded", 0)
        currency = subject["currency"].upper()
        found[key] = (subject["object"], status, subject["amount"], refunded, currency)
    return found


def minor_units(text: str, currency: str) -> int:
    """Return Shopify's money text in minor units; the demo's currencies have two decimals or none."""
    return int(Decimal(text) * (1 if currency == "JPY" else 100))


def _at(text: str) -> datetime:
    return datetime.fromisoformat(text)
