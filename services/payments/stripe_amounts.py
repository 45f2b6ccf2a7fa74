"""Stripe's amounts in the minor units of ISO 4217, which Shopify's amounts and our books have. Pure.

Stripe writes ISK and UGX with two decimals although they have none, and MGA with none although it has two.
Source: https://docs.stripe.com/currencies, "Special cases" and "Zero-decimal currencies".
"""

from collections.abc import Mapping
from decimal import ROUND_HALF_UP, Decimal
from types import MappingProxyType
from typing import Any

from services.core.fields import LARGEST_ID, Unreadable

_LARGEST = LARGEST_ID // 100
_FACTORS = MappingProxyType({"ISK": Decimal("0.01"), "UGX": Decimal("0.01"), "MGA": Decimal(100)})


def convert_amount(amount: int, currency: str) -> int:
    """Return Stripe's ``amount`` in minor units of ``currency`` (upper case); half a unit is rounded up."""
    factor = _FACTORS.get(currency)
    return amount if factor is None else int((amount * factor).quantize(Decimal(1), ROUND_HALF_UP))


def read_amount(source: Mapping[str, Any], name: str, currency: str, *, is_signed: bool = False) -> int:
    """Return the field in minor units of ``currency``; raise ``Unreadable`` for what is no whole number."""
    value = source.get(name)
    if type(value) is int and (-_LARGEST if is_signed else 0) <= value <= _LARGEST:
        return convert_amount(value, currency)
    kind = "a whole number of minor units"
    raise Unreadable(name, value, kind if is_signed else f"{kind}, zero or more")
