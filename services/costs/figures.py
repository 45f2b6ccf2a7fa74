"""The figures of costs: each limit's share that is used, and costs that no rate converts."""

from datetime import datetime

from sqlalchemy import Connection

from services.alerts.figures import Figure, Figures
from services.costs.month import AI, SMS
from services.costs.store import list_month_costs

_RULES = {AI: "ai_at_cap", SMS: "sms_over_budget"}


def collect_figures(tx: Connection, now: datetime) -> Figures:
    """Return the share of each shop's cap and budget that is used in its month, in percent.

    A shop without costs in its month has no figure.
    """
    found: dict[str, list[Figure]] = {rule: [] for rule in (*_RULES.values(), "cost_not_converted")}
    for one in list_month_costs(tx, now):
        if one.percent is None or not one.micros:
            continue
        detail = {"month": one.month, "spent": one.spent, "counted": one.counted, "cap": one.limit}
        found[_RULES[one.kind]].append(Figure(one.percent, one.shop_id, detail=detail))
        if left := one.not_converted:
            detail = {"month": one.month, "kind": one.kind, "left": left, "cap": one.limit}
            found["cost_not_converted"].append(Figure(1, one.shop_id, one.kind, detail))
    return found
