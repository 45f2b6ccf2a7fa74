"""Texts that we take from Stripe's objects: references, codes and the order a payment is for. Pure.

Whatever a person may have typed stays out: only what looks like an id or a code of Stripe's is taken.
"""

import re
from collections.abc import Mapping
from typing import Any

from services.core.fields import LARGEST_ID

_ORDER_KEYS = ("order_gid", "shopify_order_gid", "order_id", "shopify_order_id", "order")
_GID = re.compile(r"gid://shopify/Order/([0-9]{1,19})")
_PLAIN_REF = re.compile(r"#?[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_CODE = re.compile(r"[a-z0-9_]{1,64}")

_REASONS = {
    "charge": ("failure_code",),
    "refund": ("failure_reason", "reason"),
    "payment_intent": ("cancellation_reason",),
    "dispute": ("reason",),
    "payout": ("failure_code",),
}
"""The fields that hold the code of why an object is as it is, the weightiest first."""


def find_reference(source: Mapping[str, Any], name: str) -> str | None:
    """Return the id that the field refers to, which Stripe may have expanded to the whole object."""
    value = source.get(name)
    if isinstance(value, dict):
        value = value.get("id")
    return value.replace("\0", "") if isinstance(value, str) and value else None


def find_reason(kind: str, source: Mapping[str, Any]) -> str:
    """Return Stripe's code for why: ``insufficient_funds``, ``fraudulent``; empty where it gives none."""
    for name in _REASONS[kind]:
        value = source.get(name)
        if isinstance(value, str) and _CODE.fullmatch(value):
            return value
    return ""


def find_order_ref(source: Mapping[str, Any]) -> str:
    """Return the order that the object's metadata names; empty where it names none.

    A number or a gid is Shopify's id and becomes ``gid://shopify/Order/<n>``, the name by which the
    books know orders. Another reference (``#1001``, ``web-88``) stays as it is; free text is none.
    """
    metadata = source.get("metadata")
    if not isinstance(metadata, dict) or not metadata:
        return ""
    told = [str(metadata[key]).strip() for key in _ORDER_KEYS if type(metadata.get(key)) in (str, int)]
    for text in told:
        gid = _GID.fullmatch(text)
        number = gid[1] if gid else text
        if number.isascii() and number.isdecimal() and len(number) <= 19 and 0 < int(number) <= LARGEST_ID:
            return f"gid://shopify/Order/{int(number)}"
    return next((text for text in told if _PLAIN_REF.fullmatch(text)), "")
