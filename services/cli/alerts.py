"""``fleet alerts``: the rules that open incidents."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from operator import itemgetter
from pathlib import Path
from typing import Any

import click

from services.alerts.prometheus import render_prometheus
from services.alerts.rule import AlertRule, FigureRule
from services.alerts.rules import RULES
from services.alerts.states import RuleStatus, list_rule_status
from services.alerts.thresholds import list_rule_settings
from services.cli.alerts_quiet import quiet
from services.cli.alerts_set import set_rule, unset_rule
from services.cli.alerts_test import test
from services.cli.base import CommandGroup, json_option
from services.cli.output import Columns, print_list, to_document
from services.cli.params import OUTPUT_FILE, SHOP
from services.core.clock import utc_now
from services.core.counts import format_count
from services.core.db import transaction
from services.shops.shops import find_slugs


@click.group(cls=CommandGroup)
def command() -> None:
    """List the rules that open incidents, set their thresholds, export them, and test the channels.

    \b
    Example: fleet alerts list
    """


for one in (quiet, set_rule, test, unset_rule):
    command.add_command(one)


@command.command("list")
@click.option("--shop", type=SHOP, default="", help="Show the thresholds in force for this shop (its slug).")
@click.option("--all", "is_all", is_flag=True, help="Also what to do for each rule.")
@json_option
def list_rules(shop: str, is_all: bool, as_json: bool) -> None:
    """List the rules, P1 first: what opens an incident, and how many are open; with --all what to do.

    A rule that is evaluated from a figure shows when that was done last; the others are recorded by the part
    that finds the fault. `set` has the thresholds of `fleet alerts set`. With --shop the list has the
    thresholds in force for the shop, each from the shop, the fleet or the default of its rule.

    \b
    Examples:
      fleet alerts list
      fleet alerts list --all
      fleet alerts list --shop harbour
    """
    with transaction() as tx:
        status = list_rule_status(tx)
        slugs = find_slugs(tx)
        settings: dict[str, list[dict[str, Any]]] = {}
        for row in list_rule_settings(tx):
            of = {"shop": slugs.get(row.shop_id, "") if row.shop_id else None}
            set_here = {name: getattr(row, name) for name in ("threshold", "by", "reason", "at")}
            settings.setdefault(row.rule, []).append(of | set_here)
    rules = sorted(RULES.values(), key=lambda rule: (rule.severity, rule.name))
    if shop:
        _print_of_shop(shop, rules, settings, as_json=as_json)
        return
    columns: Columns = {
        "rule": "name",
        "severity": "severity",
        "opens": "opens",
        "set": lambda rule: _describe_settings(settings.get(rule.name, ())),
        "evaluated": lambda rule: _format_age(status[rule.name].computed_at),
        "open": lambda rule: status[rule.name].incidents_open,
    }
    if is_all:
        columns = {**columns, "do": "steps.fix"}
    documents = [
        _document(rule, status[rule.name]) | {"settings": settings.get(rule.name, [])} for rule in rules
    ]
    print_list("", columns, rules, documents, "", as_json=as_json)


def _print_of_shop(
    shop: str,
    rules: Iterable[AlertRule],
    settings: Mapping[str, Sequence[Mapping[str, Any]]],
    *,
    as_json: bool,
) -> None:
    """Print each threshold in force for ``shop``, from the shop, the fleet or the default."""
    documents: list[dict[str, Any]] = []
    for rule in rules:
        if not isinstance(rule, FigureRule) or rule.is_of_fleet:
            continue
        found = {one["shop"]: one for one in settings.get(rule.name, ())}
        setting = found.get(shop) or found.get(None)
        origin = "default" if setting is None else "shop" if setting["shop"] else "fleet"
        document: dict[str, Any] = {
            **{"rule": rule.name, "severity": rule.severity, "unit": rule.unit, "from": origin},
            **{"threshold": rule.threshold, "by": None, "reason": None, "at": None},
            **(setting or {}),
            "shop": shop,
        }
        documents.append(document | {"opens": replace(rule, threshold=document["threshold"]).opens})
    columns: Columns = {
        "rule": itemgetter("rule"),
        "severity": itemgetter("severity"),
        "opens": itemgetter("opens"),
        "from": itemgetter("from"),
        "set by": itemgetter("by"),
        "reason": itemgetter("reason"),
    }
    print_list(f"Thresholds in force for {shop}", columns, documents, documents, "", as_json=as_json)


def _format_age(at: datetime | None) -> str:
    return "" if at is None else f"{(utc_now() - at).total_seconds():.0f} s ago"


def _describe_settings(settings: Iterable[Mapping[str, Any]]) -> str:
    return ", ".join(f"{one['shop'] or 'fleet'} {one['threshold']:g}" for one in settings)


def _document(rule: Any, status: RuleStatus) -> dict[str, Any]:
    times = ("window", "lasts", "clears") if isinstance(rule, FigureRule) else ()
    fields = {name: value for name, value in to_document(rule).items() if name not in times}
    fields |= {f"{name}_seconds": getattr(rule, name).total_seconds() for name in times}
    return fields | {"opens": rule.opens, "recovers": rule.ends} | status._asdict()


@command.command("export")
@click.option("--prometheus", is_flag=True, required=True, help="Alert rules for Prometheus, as YAML.")
@click.option("--out", type=OUTPUT_FILE, help="Write to this file.")
def export(prometheus: bool, out: Path | None) -> None:  # noqa: ARG001 - the only format
    """Print the rules as alert rules for Prometheus, over the metrics of `GET /metrics`.

    \b
    Example: fleet alerts export --prometheus --out shopfleet.rules.yml
    """
    text = render_prometheus(RULES.values())
    if out is None:
        click.echo(text, nl=False)
        return
    try:
        out.write_text(text, encoding="utf-8")
    except OSError as fault:
        raise click.ClickException(
            f"{out}: {fault.strerror}: name a file that this user can write"
        ) from fault
    click.echo(f"Wrote {format_count(len(RULES), 'rule')} to {out}.")
