"""``fleet alerts``: the rules that open incidents."""

from pathlib import Path
from typing import Any

import click

from services.alerts.prometheus import render_prometheus
from services.alerts.rules import RULES, FigureRule
from services.alerts.states import RuleStatus, list_rule_status
from services.cli.alerts_test import test
from services.cli.base import CommandGroup, json_option
from services.cli.output import Columns, print_list, to_document
from services.core.db import transaction


@click.group(cls=CommandGroup)
def command() -> None:
    """List the rules that open incidents, export them, and test the channels.

    \b
    Example: fleet alerts list
    """


command.add_command(test)


@command.command("list")
@json_option
def list_rules(as_json: bool) -> None:
    """List the rules, P1 first: what opens an incident, what to do, and how many are open.

    A rule that is evaluated from a figure shows when that was done last; the others are recorded by the part
    that finds the fault.

    \b
    Example: fleet alerts list
    """
    with transaction() as tx:
        status = list_rule_status(tx)
    rules = sorted(RULES.values(), key=lambda rule: (rule.severity, rule.name))
    columns: Columns = {
        "rule": "name",
        "severity": "severity",
        "opens": "opens",
        "means": "about",
        "do": lambda rule: rule.action or "docs/operations.md",
        "evaluated": lambda rule: status[rule.name].computed_at,
        "open": lambda rule: status[rule.name].incidents_open,
    }
    print_list(
        "", columns, rules, [_document(rule, status[rule.name]) for rule in rules], "", as_json=as_json
    )


def _document(rule: Any, status: RuleStatus) -> dict[str, Any]:
    times = ("window", "lasts", "clears") if isinstance(rule, FigureRule) else ()
    fields = {name: value for name, value in to_document(rule).items() if name not in times}
    fields |= {f"{name}_seconds": getattr(rule, name).total_seconds() for name in times}
    return fields | {"opens": rule.opens} | status._asdict()


@command.command("export")
@click.option("--prometheus", is_flag=True, required=True, help="Alert rules for Prometheus, as YAML.")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Write to this file.")
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
    click.echo(f"Wrote {len(RULES)} rules to {out}.")
