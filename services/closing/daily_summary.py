"""What a day came to, as ``shop_config.last_daily_run`` keeps it and the morning scan reads it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from typing import Any

import orjson
from sqlalchemy import Connection

from services.audit.diagnose import AuditFinding
from services.shopify.stock.low_stock import LowStock

LOW_KEPT = 500
"""Most low levels that the summary lists, the worst first; it counts all."""

# A run of an older day, done again, does not put itself in the place of a newer one. What the owner was told
# runs low stays known where a summary has nothing new to tell of it.
_RECORD = """
insert into shop_config as c (shop_id, last_daily_run) values (%(shop_id)s, %(summary)s::jsonb)
on conflict (shop_id) do update set
   last_daily_run = jsonb_build_object('low_told', coalesce(c.last_daily_run -> 'low_told', '[]'::jsonb))
                    || excluded.last_daily_run
 where coalesce(c.last_daily_run ->> 'day', '') <= excluded.last_daily_run ->> 'day'
"""

_FIND_TOLD_LOW = """
select coalesce(last_daily_run -> 'low_told', '[]') from shop_config where shop_id = %(shop_id)s
"""

LowStockKey = tuple[str, int]
"""(sku, location): what runs low."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DailySummary:
    """A day that was looked at. ``low_stock`` is None where its stock is no news any more."""

    day: date
    at: datetime
    audit_rows: int
    findings: Sequence[AuditFinding] = ()
    low_stock: Sequence[LowStock] | None = None
    payments: str = "not_compared"
    """``clean``, ``breaks``, ``no_stripe`` or ``not_compared``."""
    error_code: str = ""
    figures: Mapping[str, Any] = field(default_factory=dict)

    @property
    def status(self) -> str:
        """The word for the morning: the worst of what was found."""
        return "audit_failed" if self.findings else self.payments

    def compared(self, verdict: str, figures: Mapping[str, Any]) -> "DailySummary":
        """Return the summary with what the payments came to."""
        return replace(self, payments=verdict, figures=figures)

    def not_compared(self, error_code: str) -> "DailySummary":
        """Return the summary of a day whose payments could not be compared, and why."""
        return replace(self, error_code=error_code)

    def stats(self) -> dict[str, int | float | str]:
        """Return the figures of the run."""
        flat = {name: value for name, value in self.figures.items() if isinstance(value, int | float | str)}
        low = {} if self.low_stock is None else {"low_stock": len(self.low_stock)}
        return {**flat, **low, "audit_rows": self.audit_rows, "audit_findings": len(self.findings)}

    def as_json(self) -> dict[str, Any]:
        """Return what is kept."""
        return {
            "day": self.day.isoformat(),
            "at": self.at.isoformat(),
            "status": self.status,
            **self.figures,
            "payments": self.payments,
            **({"error_code": self.error_code} if self.error_code else {}),
            "audit": {"verified": not self.findings, "rows": self.audit_rows,
                      "findings": [str(finding) for finding in self.findings[:10]]},
            "low_stock": None if self.low_stock is None else _low_as_json(self.low_stock),
            **self._told(),
        }  # fmt: skip

    def _told(self) -> dict[str, Any]:
        """Return what the owner has been told runs low; nothing while the day is not done."""
        if self.low_stock is None or self.payments == "not_compared":
            return {}
        return {"low_told": [[one.sku, one.location_id] for one in self.low_stock]}


def record_summary(tx: Connection, shop_id: int, summary: DailySummary) -> None:
    """``shop_config.last_daily_run`` is ``summary``, unless it tells of a later day already."""
    values = {"shop_id": shop_id, "summary": orjson.dumps(summary.as_json()).decode()}
    tx.exec_driver_sql(_RECORD, values)


def find_told_low(tx: Connection, shop_id: int) -> set[LowStockKey]:
    """Return what was low when a day was last done: of that nobody is told again."""
    told = tx.exec_driver_sql(_FIND_TOLD_LOW, {"shop_id": shop_id}).scalar() or []
    return {(sku, location_id) for sku, location_id in told}


def _low_as_json(low: Sequence[LowStock]) -> dict[str, Any]:
    return {
        "count": len(low),
        "levels": [
            {
                "sku": one.sku,
                "location_id": one.location_id,
                "available": one.available,
                "reorder_point": one.reorder_point,
                "sold_30d": one.sold_30d,
                "days_cover": None if one.days_cover is None else str(one.days_cover),
            }
            for one in low[:LOW_KEPT]
        ],
    }
