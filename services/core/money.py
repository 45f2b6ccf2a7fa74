"""Money: an integer of minor units and its currency. Amounts that are not exact are refused."""

import re
from decimal import ROUND_HALF_UP, Decimal
from functools import lru_cache

from services.core.counts import format_count
from services.core.errors import ShopfleetError
from services.core.log_redaction import quote_value

# ISO 4217 amendment 176: every active currency that does not have two decimals.
_EXPONENTS = {
    **dict.fromkeys(
        ("BIF", "CLP", "DJF", "GNF", "ISK", "JPY", "KMF", "KRW", "PYG", "RWF", "UGX", "UYI", "VND", "VUV",
         "XAF", "XOF", "XPF"), 0,
    ),
    **dict.fromkeys(("BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND"), 3),
    **dict.fromkeys(("CLF", "UYW"), 4),
}  # fmt: skip

_CODES = (
    "AED AFN ALL AMD ANG AOA ARS AUD AWG AZN BAM BBD BDT BGN BHD BIF BMD BND BOB BRL BSD BTN BWP BYN "
    "BZD CAD CDF CHF CLP CNY COP CRC CUP CVE CZK DJF DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS "
    "GIP GMD GNF GTQ GYD HKD HNL HTG HUF IDR ILS INR IQD IRR ISK JMD JOD JPY KES KGS KHR KMF KPW KRW "
    "KWD KYD KZT LAK LBP LKR LRD LSL LYD MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MYR MZN NAD "
    "NGN NIO NOK NPR NZD OMR PAB PEN PGK PHP PKR PLN PYG QAR RON RSD RUB RWF SAR SBD SCR SDG SEK SGD "
    "SHP SLE SOS SRD SSP STN SVC SYP SZL THB TJS TMT TND TOP TRY TTD TWD TZS UAH UGX USD UYU UZS VED "
    "VES VND VUV WST XAF XCD XCG XOF XPF YER ZAR ZMW ZWG "
)
CURRENCIES = frozenset(_CODES.split())
"""Every currency of ISO 4217 that a country uses; shops sell in no others."""

_AMOUNT = re.compile(r"(-?)([0-9]{1,15})(?:\.([0-9]{1,8}))?")
_ANY_DECIMALS = re.compile(r"-?[0-9]{1,15}(?:\.[0-9]{1,60})?")
_CURRENCY = re.compile(r"[A-Z]{3}")
LARGEST_MINOR = 2**63 - 1
MICROS = 1_000_000
"""Micros of one unit of any currency: costs of single calls are fractions of a cent."""


class MoneyInvalid(ShopfleetError, ValueError):
    """An amount or a currency is malformed."""


@lru_cache(maxsize=512)
def exponent_of(currency: str) -> int:
    """Return how many decimals ``currency`` has: JPY 0, most 2, KWD 3."""
    if not _CURRENCY.fullmatch(currency):
        raise MoneyInvalid(f"currency {quote_value(currency)} should be three capital letters such as CAD")
    return _EXPONENTS.get(currency, 2)


def to_minor(amount: str, currency: str) -> int:
    """Return the decimal string ``amount`` in minor units of ``currency``: "12.5" CAD is 1250.

    Zeros beyond the currency's decimals are allowed ("100.00" JPY is 100). Anything else than a decimal
    string of the currency's decimals raises ``MoneyInvalid``: nothing is rounded.
    """
    exponent = exponent_of(currency)
    if exponent == 2 and isinstance(amount, str) and amount[-3:-2] == "." and len(amount) <= 18:
        digits = amount[:-3] + amount[-2:]  # nearly all amounts: faster than the pattern
        if len(digits) > 2 and digits.isascii() and digits.isdigit():
            return int(digits)
    match = _AMOUNT.fullmatch(amount) if isinstance(amount, str) else None
    if match is None:
        raise _not_decimal(amount)
    sign, whole, fraction = match[1], match[2], match[3] or ""
    if fraction[exponent:].strip("0"):
        most = f"the {format_count(exponent, 'decimal')} of {currency}"
        raise MoneyInvalid(f"amount {quote_value(amount)} has more than {most}")
    return _check_size(int(sign + whole + fraction[:exponent].ljust(exponent, "0")), amount, currency)


def round_to_minor(amount: str, currency: str) -> int:
    """Return the decimal string ``amount``, rounded half away from zero, in minor units of ``currency``.

    "33.335" CAD is 3334, as Shopify rounds it in its own money bags.
    """
    exponent = exponent_of(currency)
    if not isinstance(amount, str) or not _ANY_DECIMALS.fullmatch(amount):
        raise _not_decimal(amount)
    minor = int(Decimal(amount).scaleb(exponent).quantize(Decimal(1), ROUND_HALF_UP))
    return _check_size(minor, amount, currency)


def _not_decimal(amount: object) -> MoneyInvalid:
    return MoneyInvalid(f"amount {quote_value(amount)} should be a decimal string such as '12.50'")


def _check_size(minor: int, amount: str, currency: str) -> int:
    if abs(minor) > LARGEST_MINOR:
        raise MoneyInvalid(f"amount {quote_value(amount)} {currency} is more than a bigint can hold")
    return minor


def format_minor(minor: int, currency: str) -> str:
    """Return ``minor`` units for people: 1250 CAD is "12.50 CAD"."""
    exponent = exponent_of(currency)
    digits = str(abs(minor)).rjust(exponent + 1, "0")
    whole, fraction = digits[: len(digits) - exponent], digits[len(digits) - exponent :]
    sign = "-" if minor < 0 else ""
    return f"{sign}{whole}{'.' if fraction else ''}{fraction} {currency}"


@lru_cache(maxsize=1024)
def parse_money(text: str) -> tuple[int, str]:
    """Return the minor units and the currency of ``text`` such as "50.00 CAD"; raise ``MoneyInvalid``."""
    amount, _, currency = text.partition(" ")
    if currency not in CURRENCIES:
        raise MoneyInvalid(f"money {quote_value(text)} should be like '50.00 CAD'")
    return to_minor(amount, currency), currency


def is_amount(text: str) -> bool:
    """Return whether ``text`` is money above zero such as "50.00 CAD"."""
    try:
        return parse_money(text)[0] > 0
    except MoneyInvalid:
        return False


def to_micros(amount: str) -> int:
    """Return the decimal string ``amount`` in micros, rounded half away from zero: "0.0075" is 7500."""
    if not isinstance(amount, str) or not _ANY_DECIMALS.fullmatch(amount):
        raise _not_decimal(amount)
    return int((Decimal(amount) * MICROS).quantize(Decimal(1), ROUND_HALF_UP))


def micros_to_minor(micros: int | Decimal, currency: str) -> int:
    """Return ``micros`` in minor units of ``currency``, rounded half away from zero."""
    exact = Decimal(micros).scaleb(exponent_of(currency)) / MICROS
    return int(exact.quantize(Decimal(1), ROUND_HALF_UP))
