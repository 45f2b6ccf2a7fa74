"""Fields of Stripe's objects: amounts, references, reason codes and the order that a payment is for. Pure.

Amounts become the minor units of ISO 4217, which Shopify's amounts and our tables have: Stripe writes ISK and
UGX with two decimals although they have none, and MGA with none although it has two. Source:
https://docs.stripe.com/currencies, "Special cases" and "Zero-decimal currencies".

Of texts only ids and codes of Stripe's are taken, never what a person may have typed.
"""

import re
from collections.abc import Mapping
from decimal import ROUND_HALF_UP, Decimal
from types import MappingProxyType
from typing import Any

from services.core.fields import LARGEST_ID, Unreadable

_LARGEST = LARGEST_ID // 100
_FACTORS = MappingProxyType({"ISK": Decimal("0.01"), "UGX": Decimal("0.01"), "MGA": Decimal(100)})

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
"""The fields with the code of why an object has its status, the most important first."""


def convert_amount(amount: int, currency: str) -> int:
    """Return Stripe's ``amount`` in minor units of ``currency`` (upper case); half a unit is rounded up."""
    factor = _FACTORS.get(currency)
    return amount if factor is None else int((amount * factor).quantize(Decimal(1), ROUND_HALF_UP))


def read_amount(source: Mapping[str, Any], name: str, currency: str, *, is_signed: bool = False) -> int:
    """Return the field in minor units of ``currency``; raise ``Unreadable`` if it is not a whole number."""
    value = source.get(name)
    if type(value) is int and (-_LARGEST if is_signed else 0) <= value <= _LARGEST:
        return convert_amount(value, currency)
    expected = "a whole number of minor units"
    raise Unreadable(name, value, expected if is_signed else f"{expected}, zero or more")


def find_fee(source: Mapping[str, Any], currency: str) -> int | None:
    """Return Stripe's fee if the object contains its balance transaction and that has the same currency."""
    entry = source.get("balance_transaction")
    if not isinstance(entry, dict) or str(entry.get("currency", "")).upper() != currency:
        return None
    fee = entry.get("fee")
    return convert_amount(fee, currency) if type(fee) is int and abs(fee) <= _LARGEST else None


def find_reference(source: Mapping[str, Any], name: str) -> str | None:
    """Return the id that the field refers to; Stripe may have expanded it to the whole object."""
    value = source.get(name)
    if isinstance(value, dict):
        value = value.get("id")
    return value.replace("\0", "") if isinstance(value, str) and value else None


def find_reason(kind: str, source: Mapping[str, Any]) -> str:
    """Return Stripe's code, such as ``insufficient_funds`` or ``fraudulent``; empty if there is none."""
    for name in _REASONS[kind]:
        value = source.get(name)
        if isinstance(value, str) and _CODE.fullmatch(value):
            return value
    return ""


def find_order_ref(source: Mapping[str, Any]) -> str:
    """Return the order in the object's metadata; empty if there is none.

    A number or a gid is Shopify's id and becomes ``gid://shopify/Order/<n>``, the key of ``orders``. Another
    reference (``#1001``, ``web-88``) stays as it is; free text is dropped.
    """
    metadata = source.get("metadata")
    if not isinstance(metadata, dict) or not metadata:
        return ""
    values = [str(metadata[key]).strip() for key in _ORDER_KEYS if type(metadata.get(key)) in (str, int)]
    for text in values:
        gid = _GID.fullmatch(text)
        number = gid[1] if gid else text
        if number.isascii() and number.isdecimal() and len(number) <= 19 and 0 < int(number) <= LARGEST_ID:
            return f"gid://shopify/Order/{int(number)}"
    return next((text for text in values if _PLAIN_REF.fullmatch(text)), "")
