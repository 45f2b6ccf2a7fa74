"""Order reference and reason code of a payment: only ids and codes, no free text."""

from typing import Any

import pytest

from services.payments.payload import find_order_ref, find_reason

GID = "gid://shopify/Order/9007199254740993"


@pytest.mark.parametrize(
    ("metadata", "order_ref"),
    [
        ({"order_id": "9007199254740993"}, GID),
        ({"order_id": 9007199254740993}, GID),
        ({"order_gid": GID}, GID),
        ({"shopify_order_gid": GID, "order": "#1001"}, GID),
        ({"order": "#1001", "shopify_order_id": "9007199254740993"}, GID),
        ({"order_id": " 0450789469 "}, "gid://shopify/Order/450789469"),
        ({"order_id": "#1001"}, "#1001"),
        ({"order": "web-88.b"}, "web-88.b"),
        ({"order_id": "0"}, "0"),
        ({"order_id": "9223372036854775808"}, "9223372036854775808"),
        ({"order_id": "\u0661\u0662"}, ""),
        ({"order": "a cake for Zerlina Quux"}, ""),
        ({"order": True}, ""),
        ({"order_id": ""}, ""),
        ({"order_id": None, "order": ["1"]}, ""),
        ({"order_id": "x" * 65}, ""),
        ({"note": "450789469"}, ""),
        ({}, ""),
        (None, ""),
        ("450789469", ""),
    ],
)
def test_order_is_shopifys_gid_where_it_can_be(metadata: Any, order_ref: str) -> None:
    assert find_order_ref({"metadata": metadata}) == order_ref


@pytest.mark.parametrize(
    ("kind", "source", "reason"),
    [
        ("charge", {"failure_code": "card_declined", "reason": "other"}, "card_declined"),
        ("refund", {"reason": "requested_by_customer", "failure_reason": None}, "requested_by_customer"),
        ("refund", {"reason": "duplicate", "failure_reason": "lost_or_stolen_card"}, "lost_or_stolen_card"),
        ("dispute", {"reason": "product_not_received"}, "product_not_received"),
        ("payout", {"failure_code": "could_not_process"}, "could_not_process"),
        ("payment_intent", {"cancellation_reason": "abandoned"}, "abandoned"),
        ("dispute", {"reason": "Zerlina was not content"}, ""),
        ("dispute", {"reason": 7}, ""),
        ("dispute", {}, ""),
    ],
)
def test_reason_is_a_code_or_nothing(kind: str, source: dict[str, Any], reason: str) -> None:
    assert find_reason(kind, source) == reason
