"""The costs of a shop and kind in one month, compared with its limit. Pure."""

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from functools import lru_cache
from types import MappingProxyType
from typing import NamedTuple
from zoneinfo import ZoneInfo

from services.core.money import MICROS, exponent_of, format_minor, micros_to_minor, parse_money
from services.jobs.definition import Covers
from services.jobs.schedule import period_bounds

AI, SMS = "ai", "sms"
LIMITS = {AI: "ai_cap", SMS: "sms_budget"}
"""The field of a shop with the monthly limit of each kind of cost."""


class MonthCosts(NamedTuple):
    """The costs of one kind in ``month`` (``2026-11``), which begins in the shop's ``timezone``.

    ``micros`` are millionths of one unit, by the currency in which they were billed. ``limit`` is money such
    as "50.00 CAD", or empty. ``rates`` are the shop's ``exchange_rates``.
    """

    shop_id: int
    shop: str
    timezone: str
    kind: str
    month: str
    micros: Mapping[str, int]
    limit: str
    rates: str

    @property
    def ends_at(self) -> datetime:
        return period_bounds(Covers.MONTH, self.month, ZoneInfo(self.timezone))[1]

    @property
    def spent(self) -> str:
        """All costs as they were billed: "41.00 CAD + 3.20 USD"."""
        return _format(self.micros) or "nothing"

    @property
    def not_converted(self) -> str:
        """The costs that do not count, because no rate of their currency is stated."""
        rates = _parse_rates(self.rates, self.limit) if self.limit else self.micros
        return _format({name: micros for name, micros in self.micros.items() if name not in rates})

    @property
    def counted(self) -> str:
        """What counts against the limit, in its currency; empty without a limit."""
        if not self.limit:
            return ""
        currency = parse_money(self.limit)[1]
        return format_minor(micros_to_minor(self._convert(), currency), currency)

    @property
    def percent(self) -> float | None:
        """What counts, in percent of the limit; None without a limit."""
        if not self.limit:
            return None
        return float(100 * self._convert() / _parse_micros(self.limit))

    @property
    def is_at_limit(self) -> bool:
        return self.percent is not None and self.percent >= 100

    def _convert(self) -> Decimal:
        """Return the micros that count, in the limit's currency."""
        rates = _parse_rates(self.rates, self.limit)
        return sum(
            (micros * rates[name] for name, micros in self.micros.items() if name in rates), Decimal(0)
        )


@lru_cache(maxsize=1024)
def _parse_micros(limit: str) -> Decimal:
    minor, currency = parse_money(limit)
    return Decimal(minor).scaleb(-exponent_of(currency)) * MICROS


@lru_cache(maxsize=1024)
def _parse_rates(text: str, limit: str) -> Mapping[str, Decimal]:
    """Return by currency what one unit of it is in the currency of ``limit``."""
    wanted = parse_money(limit)[1]
    rates = {wanted: Decimal(1)}
    for rate in filter(None, text.split(",")):
        pair, _, number = rate.strip().partition("=")
        billed, _, counted = pair.partition("/")
        if counted == wanted:
            rates[billed] = Decimal(number)
    return MappingProxyType(rates)


def _format(micros: Mapping[str, int]) -> str:
    return " + ".join(
        format_minor(micros_to_minor(amount, currency), currency)
        for currency, amount in sorted(micros.items())
    )
