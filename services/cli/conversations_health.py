"""``fleet conversations health``: the health checks of calls, messages and mails, by shop."""

from typing import Any

import click

from services.alerts.conversation_rules import CONVERSATIONS
from services.alerts.rule import FAILED, FigureRule
from services.alerts.thresholds import load_thresholds
from services.cli.base import ReportingCommand, json_option, shop_option
from services.cli.output import print_json, print_table
from services.conversations.figures import collect_figures
from services.core.clock import utc_now
from services.core.db import transaction
from services.shops.shops import list_shops

OK, DEGRADED, FAILING = "ok", "degraded", "failing"


@click.command("health", cls=ReportingCommand)
@shop_option
@json_option
def health(shop: str, as_json: bool) -> None:
    """Check the cache, merchants, pages and failed work of each shop now, as the rules do every 25 s.

    A check is degraded beyond its first threshold (an incident P3) and failing beyond its second (P2). The
    value is empty if there is nothing to count, or of fewer than 20 entries, pages or merchants. Exit code 1
    if a check is failing.

    \b
    Example: fleet conversations health --shop harbour
    """
    now = utc_now()
    with transaction() as tx:
        figures, thresholds = collect_figures(tx, now), load_thresholds(tx)
        shops = [one for one in list_shops(tx) if shop in ("", one.slug)]
    documents: list[dict[str, Any]] = []
    for one in shops:
        for rule in CONVERSATIONS:
            values = [figure.value for figure in figures[rule.name] if figure.shop_id == one.id]
            value, degraded_at = max(values, default=None), thresholds.find(rule, one.id)
            document = {"shop": one.slug, "check": rule.name, "value": value, "unit": rule.unit}
            limits = {"degraded_beyond": degraded_at, "failing_beyond": rule.fails_at}
            documents.append(document | limits | {"state": _find_state(rule, value, degraded_at)})
    if as_json:
        print_json({"at": now, "checks": documents})
    else:
        rows = [["" if cell is None else cell for cell in one.values()] for one in documents]
        print_table("", [name.replace("_", " ") for name in documents[0]] if documents else [], rows, "")
    if any(one["state"] == FAILING for one in documents):
        raise click.exceptions.Exit(1)


def _find_state(rule: FigureRule, value: float | None, degraded_at: float) -> str:
    if value is None or not rule.is_beyond(value, degraded_at):
        return OK
    return FAILING if rule.find_severity(value) == FAILED else DEGRADED
