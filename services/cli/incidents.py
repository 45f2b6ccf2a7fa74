"""``fleet incidents``: list and show incidents, and record who does what about them."""

from collections.abc import Mapping
from datetime import timedelta
from functools import partial
from typing import Any
from zoneinfo import ZoneInfo

import click
from sqlalchemy import Connection

from services.alerts.gate import read_gate
from services.alerts.incidents import SEVERITIES, STATES, find_incidents, find_zone, get_incident
from services.alerts.notify import post_note
from services.alerts.people import (
    acknowledge,
    add_note,
    list_entries,
    record_action,
    resolve_by_person,
    snooze,
)
from services.alerts.runbook import FLEET as FLEET_NAME
from services.alerts.runbook import find_steps
from services.alerts.states import is_still_beyond
from services.cli.base import (
    CommandGroup,
    find_shop_id,
    json_option,
    limit_option,
    notify_workers,
    shop_option,
)
from services.cli.chain_engine import find_engine
from services.cli.incidents_act import act_on, act_options, format_shop, make_document
from services.cli.incidents_explain import explain
from services.cli.incidents_postmortem import postmortem
from services.cli.output import (
    Columns,
    print_fields,
    print_json,
    print_lines,
    print_list,
    to_document,
)
from services.cli.params import DURATION, INCIDENT, RULE, KnownType
from services.core.clock import utc_now
from services.core.db import transaction
from services.core.errors import ShopfleetError
from services.core.settings import get_settings
from services.core.times import format_moment, format_time
from services.ledger.accept import WorkRef
from services.shops.shops import find_slugs

SEVERITY = KnownType("severities", lambda: SEVERITIES, is_list=True)
STATUSES = KnownType("statuses", lambda: STATES, is_list=True)


@click.group(cls=CommandGroup)
def command() -> None:
    """List and show incidents; take, note, silence and resolve them.

    Some rules resolve their incidents when the cause is gone. The others stay open until a person resolves
    them with a reason.

    \b
    Example: fleet incidents list
    """


command.add_command(explain)
command.add_command(postmortem)


@command.command("list")
@click.option("--all", "is_all", is_flag=True, help="Show resolved incidents too.")
@click.option(
    "--status",
    "states",
    type=STATUSES,
    default="",
    help=f"Only these, comma-separated: {', '.join(STATES)} (default: all but resolved).",
)
@shop_option
@click.option(
    "--rule", type=RULE, default="", help="Only this rule, such as work_dead or work_dead:inventory_push."
)
@click.option("--severity", "severities", type=SEVERITY, default="", help="Only these, such as P1,P2.")
@limit_option
@json_option
def list_incidents(
    is_all: bool, states: Any, shop: str, rule: str, severities: Any, limit: int, as_json: bool
) -> None:
    """List the incidents that are not resolved, P1 first. The holder is the person who acknowledged it.

    \b
    Example: fleet incidents list --shop harbour --all
             fleet incidents list --status acknowledged,snoozed --severity P1,P2
    """
    if is_all and states:
        raise click.UsageError("give one of --all and --status")
    states = states or (STATES if is_all else STATES[:3])
    with transaction() as tx:
        shop_id = find_shop_id(tx, shop)
        lines = find_incidents(
            tx, shop_id=shop_id, rule=rule, severities=severities, states=states, limit=limit
        )
        slugs = find_slugs(tx)
    columns: Columns = {
        "id": "id",
        "severity": "severity",
        "status": "state",
        "shop": lambda line: format_shop(line, slugs),
        "rule": "rule",
        "period": lambda line: format_moment(line.period, get_settings().zone),
        "opened": "opened_at",
        "holder": "acknowledged_by",
        "summary": "summary",
    }
    documents = [make_document(line, slugs) for line in lines]
    empty = (
        "No incident is open."
        if states == STATES[:3] and not any((shop, rule, severities))
        else "No incident matches."
    )
    print_list("", columns, lines, documents, empty, as_json=as_json)


@command.command("show")
@click.argument("incident_id", type=INCIDENT)
@json_option
def show(incident_id: int, as_json: bool) -> None:
    """Show one incident with its details. All times are in the zone of its shop, or else of the fleet.

    \b
    Example: fleet incidents show 12
    """
    with transaction() as tx:
        line = get_incident(tx, incident_id)
        entries = list_entries(tx, incident_id)
        slugs, zone = find_slugs(tx), find_zone(tx, line.shop_id)
    if as_json:
        timeline = {"timezone": str(zone), "timeline": [to_document(one) for one in entries]}
        print_json(make_document(line, slugs) | timeline)
        return
    left_out = ("id", "shop_id", "detail")
    document = make_document(line, slugs).items()
    fields = {name: format_moment(value, zone) for name, value in document if name not in left_out}
    print_fields(f"Incident {line.id} (times: {zone})", {**fields, "shop": format_shop(line, slugs)})
    if line.detail:
        print_fields("Detail", _list_detail(line.detail, zone))
    columns: Columns = {
        "at": lambda entry: format_moment(entry.at, zone),
        "what": lambda entry: f"{entry.kind} {entry.detail.get('outcome', '')}".rstrip(),
        "by": "by",
        "text": "text",
    }
    print_lines("Timeline", columns, entries, "No entry is recorded.")
    if line.status == "open":
        shop = FLEET_NAME if line.shop_id is None else format_shop(line, slugs)
        steps = find_steps(line.rule, shop=shop, period=line.period, incident_id=line.id, detail=line.detail)
        for name, text in steps._asdict().items() if steps else ():
            click.echo(f"{name.capitalize():<8} {text}")
        click.echo("Most rules resolve their incidents when the cause is gone (docs/alerts.md).")
        click.echo(f'To close it now: fleet incidents resolve {line.id} --reason "..."')


def _list_detail(detail: Mapping[str, Any], zone: ZoneInfo) -> dict[str, object]:
    """Return ``detail`` for people: addresses and statements once, as text."""
    fields = {name: value for name, value in detail.items() if name != "statements"}
    if addresses := fields.pop("addresses", ()):
        fields["senders"] = ", ".join(addresses)
    return {name: format_moment(value, zone) for name, value in fields.items()}


@command.command("ack")
@click.argument("incident_ids", type=INCIDENT, nargs=-1, required=True)
@act_options
def ack(incident_ids: tuple[int, ...], dry_run: bool, actor: str, as_json: bool) -> None:
    """Say that you work on incidents, or take them over. A P1 is then not sent again every 30 minutes.

    \b
    Examples:
      fleet incidents ack 12
      fleet incidents ack 12 13 14
    """
    act_on(
        acknowledge, incident_ids, actor, ("acknowledge", "Acknowledged"), dry_run=dry_run, as_json=as_json
    )


@command.command("note")
@click.argument("incident_id", type=INCIDENT)
@click.argument("text")
@click.option(
    "--action",
    "outcome",
    type=click.Choice(["done", "failed"]),
    help="TEXT says what you did, and it worked or failed. After two that failed the incident is escalated.",
)
@click.option("--post", is_flag=True, help="Send the note to Slack and the webhook too.")
@act_options
def note(
    incident_id: int, text: str, outcome: str | None, post: bool, dry_run: bool, actor: str, as_json: bool
) -> None:
    """Add a note, or an action that you took, to the timeline of an incident.

    \b
    Example: fleet incidents note 12 "Stripe confirms the outage; their page says 14:00 UTC" --post
             fleet incidents note 12 "restarted worker-ops" --action failed
    """
    posted: list[WorkRef] = []

    def act(tx: Connection, incident_id: int, **author: Any) -> None:
        if outcome:
            record_action(tx, incident_id, "action", text, {"outcome": outcome}, **author)
        else:
            add_note(tx, incident_id, note=text, **author)
        if post:
            prefix = f"action {outcome}: " if outcome else ""
            posted.extend(post_note(tx, incident_id, prefix + text, author["by"], author["now"]))
            if not posted:
                settings = "SLACK_WEBHOOK_URL or ALERT_WEBHOOK_URL"
                raise ShopfleetError(f"no channel gets notes: set {settings}, or leave out --post")

    act_on(act, [incident_id], actor, ("note on", "Noted on"), dry_run=dry_run, as_json=as_json)
    if not dry_run and (hint := notify_workers(posted)):
        click.echo(hint, err=True)


@command.command("snooze")
@click.argument("incident_ids", type=INCIDENT, nargs=-1, required=True)
@click.option("--for", "lasts", type=DURATION, required=True, help="For this time, such as 2h or 1h30m.")
@click.option("--reason", required=True, help="Why nobody needs to hear of it until then. Audited.")
@act_options
def snooze_incident(
    incident_ids: tuple[int, ...], lasts: timedelta, reason: str, dry_run: bool, actor: str, as_json: bool
) -> None:
    """Send no messages about incidents for some time, a P1 for at most 24 h. They stay in the list.

    \b
    Example: fleet incidents snooze 12 --for 4h --reason "the provider repairs it tonight"
    """
    until = utc_now() + lasts
    act = partial(snooze, until=until, reason=reason)
    at = f"until {format_time(until)}"
    act_on(act, incident_ids, actor, (f"snooze {at}", f"Snoozed {at}"), dry_run=dry_run, as_json=as_json)


@command.command("resolve")
@click.argument("incident_ids", type=INCIDENT, nargs=-1, required=True)
@click.option("--reason", required=True, help="Why it needs no more work. Audited.")
@act_options
def resolve(incident_ids: tuple[int, ...], reason: str, dry_run: bool, actor: str, as_json: bool) -> None:
    """Resolve incidents. The same finding does not open one again; a new one does.

    A broken audit chain needs the role that owns the tables (MIGRATE_DATABASE_URL).

    \b
    Example: fleet incidents resolve 12 --reason "restored from the backup of 2026-11-20"
    """
    act = partial(resolve_by_person, reason=reason)
    engine, verbs = find_engine(incident_ids), ("resolve", "Resolved")
    act_on(act, incident_ids, actor, verbs, dry_run=dry_run, as_json=as_json, engine=engine)
    warnings = []
    with transaction() as tx:
        closing = {reason.incident for reason in read_gate(tx, utc_now()).reasons}
        for one in incident_ids:
            if is_still_beyond(tx, one):
                warnings.append(
                    f"The figure of incident {one} is still beyond the limit. "
                    "It opens again only if it gets worse."
                )
            if one in closing and not dry_run:
                warnings.append(f"Incident {one} still closes the deploy gate: see `fleet gate`.")
    for warning in warnings:
        click.secho(warning, fg="yellow", err=True)
