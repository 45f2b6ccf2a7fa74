"""The summary of a day in ``shop_config.last_daily_run``, which the morning scan reads."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from typing import Any

import orjson
from sqlalchemy import Connection

from services.audit.diagnose import AuditFinding
from services.shopify.stock.low_stock import LowStock

MAX_LEVELS = 500
"""Low levels that the summary lists, the worst first; it counts all."""

# The run of an older day does not replace a newer summary. The levels that were reported to the owner stay,
# if the new summary has none.
_RECORD = """
insert into shop_config as c (shop_id, last_daily_run) values (%(shop_id)s, %(summary)s::jsonb)
on conflict (shop_id) do update set
   last_daily_run = jsonb_build_object('low_told', coalesce(c.last_daily_run -> 'low_told', '[]'::jsonb))
                    || excluded.last_daily_run
 where coalesce(c.last_daily_run ->> 'day', '') <= excluded.last_daily_run ->> 'day'
"""

_FIND_REPORTED_LOW = """
select coalesce(last_daily_run -> 'low_told', '[]') from shop_config where shop_id = %(shop_id)s
"""

LowStockKey = tuple[str, int]
"""(sku, location) of a low level."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DailySummary:
    """The checks of a day. ``low_stock`` is None if stock was not checked."""

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
        """The worst result of the checks."""
        return "audit_failed" if self.findings else self.payments

    def compared(self, verdict: str, figures: Mapping[str, Any]) -> "DailySummary":
        """Return the summary with the result of the comparison."""
        return replace(self, payments=verdict, figures=figures)

    def not_compared(self, error_code: str) -> "DailySummary":
        """Return the summary with the error of the comparison."""
        return replace(self, error_code=error_code)

    def stats(self) -> dict[str, int | float | str]:
        """Return the figures of the run."""
        flat = {name: value for name, value in self.figures.items() if isinstance(value, int | float | str)}
        low = {} if self.low_stock is None else {"low_stock": len(self.low_stock)}
        return {**flat, **low, "audit_rows": self.audit_rows, "audit_findings": len(self.findings)}

    def as_json(self) -> dict[str, Any]:
        """Return the stored JSON."""
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
            **self._reported_low(),
        }  # fmt: skip

    def _reported_low(self) -> dict[str, Any]:
        """Return the levels that are reported to the owner; empty while the day is not done."""
        if self.low_stock is None or self.payments == "not_compared":
            return {}
        return {"low_told": [[one.sku, one.location_id] for one in self.low_stock]}


def record_summary(tx: Connection, shop_id: int, summary: DailySummary) -> None:
    """``shop_config.last_daily_run`` is ``summary``, unless it is of a later day."""
    values = {"shop_id": shop_id, "summary": orjson.dumps(summary.as_json()).decode()}
    tx.exec_driver_sql(_RECORD, values)


def find_reported_low(tx: Connection, shop_id: int) -> set[LowStockKey]:
    """Return the levels that the last completed day reported; they are not reported again."""
    reported = tx.exec_driver_sql(_FIND_REPORTED_LOW, {"shop_id": shop_id}).scalar() or []
    return {(sku, location_id) for sku, location_id in reported}


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
            for one in low[:MAX_LEVELS]
        ],
    }
