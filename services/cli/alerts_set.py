"""``fleet alerts set | unset``: the threshold of a rule, for one shop or for the fleet."""

from typing import Any

import click

from services.alerts.rules import FIGURE_RULES, RULES
from services.alerts.thresholds import load_thresholds, set_threshold
from services.cli.base import (
    Decorator,
    ReportingCommand,
    actor_option,
    add_options,
    audit_author,
    dry_run_option,
    find_shop_id,
    json_option,
)
from services.cli.output import print_json
from services.cli.params import SHOP, KnownType
from services.core.clock import utc_now
from services.core.db import transaction_or_plan
from services.core.errors import describe_unknown
from services.ledger.work import FLEET


class FigureRuleType(KnownType):
    """A rule that compares a figure with a threshold."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value in RULES and value not in FIGURE_RULES:
            self.fail(f"{value} is recorded when it is found: it has no threshold", param, ctx)
        if value not in FIGURE_RULES:
            self.fail(describe_unknown(value, FIGURE_RULES, "fleet alerts list"), param, ctx)
        return super().convert(value, param, ctx)


_RULE = FigureRuleType("figure rule", lambda: FIGURE_RULES)
_COMMON: Decorator = add_options(
    click.option("--shop", type=SHOP, default="", help="This shop (default: each shop without its own)."),
    click.option("--reason", required=True, help="Why, for the audit."),
    actor_option,
    dry_run_option,
    json_option,
)


@click.command("set", cls=ReportingCommand)
@click.argument("rule", type=_RULE)
@click.option("--threshold", type=float, required=True, help="In the unit that `fleet alerts list` shows.")
@_COMMON
def set_rule(rule: str, threshold: float, **options: Any) -> None:
    """Set the threshold of a rule, for a shop or for all; it is in force within a minute, without a restart.

    \b
    Example: fleet alerts set sms_over_budget --shop harbour --threshold 200 --reason "a sale this week"
    """
    _change(rule, threshold, **options)


@click.command("unset", cls=ReportingCommand)
@click.argument("rule", type=_RULE)
@_COMMON
def unset_rule(rule: str, **options: Any) -> None:
    """Remove a threshold that was set, so that the fleet's or the one of the table of rules is in force.

    \b
    Example: fleet alerts unset sms_over_budget --shop harbour --reason "the sale is over"
    """
    _change(rule, None, **options)


def _change(
    rule: str, threshold: float | None, *, shop: str, reason: str, actor: str, dry_run: bool, as_json: bool
) -> None:
    spec = FIGURE_RULES[rule]
    with transaction_or_plan(dry_run=dry_run) as tx:
        shop_id = find_shop_id(tx, shop) or FLEET
        before = load_thresholds(tx).find(spec, shop_id)
        author: Any = {"now": utc_now(), "reason": reason.strip(), **audit_author(actor)}
        set_threshold(tx, rule, shop_id, threshold, **author)
        after = load_thresholds(tx).find(spec, shop_id)
    if as_json:
        print_json(
            {"rule": rule, "shop": shop or None, "before": before, "threshold": after, "unit": spec.unit}
        )
        return
    where = f"{rule} of {shop}" if shop else rule
    if before == after:
        click.echo(f"The threshold of {where} is {after:g} {spec.unit} already: no limit changes.")
    else:
        verb = "would change" if dry_run else "changed"
        click.echo(f"{where} {verb}: {before:g} -> {after:g} {spec.unit}")
