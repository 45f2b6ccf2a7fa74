"""``celery -A tasks pause | resume``: stops and resumes a queue, a topic, a shop or everything."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

import click
from sqlalchemy import Connection

from services.cli.base import audit_author, confirm, find_shop_id
from services.cli.incident_link import incident_option, link_incident
from services.cli.output import print_json
from services.cli.params import COST, DURATION, ParsedType
from services.cli.pauses import describe_pause
from services.core.clock import utc_now
from services.core.db import transaction
from services.core.times import format_time
from services.ledger.backoff import list_backoffs
from services.ledger.pause import (
    PauseScope,
    clear_pauses,
    describe_scope,
    format_rate,
    list_pauses,
    parse_rate,
    record_pause,
)
from services.ledger.queries import count_waiting
from services.shops.shops import find_slugs
from tasks.commands.options import (
    act_options,
    celery_command,
    reason_option,
    scope_options,
)

cost_option = click.option(
    "--cost", type=COST, default="", help="Only work that causes this metered cost: ai or sms."
)


@celery_command(
    scope_options,
    cost_option,
    click.option("--refuse", is_flag=True, help="Also answer 503 to webhooks, so that they are sent again."),
    click.option(
        "--for",
        "lasts",
        type=DURATION,
        help="End after this time, such as 2h or 1h30m.",
    ),
    click.option("--reason", default="", help="Why, for the audit and for other operators."),
    incident_option,
    act_options,
)
def pause(
    _ctx: click.Context,
    refuse: bool,
    lasts: timedelta | None,
    reason: str,
    incident: int | None,
    actor: str,
    **options: Any,
) -> None:
    """Stop the work of a queue, a topic, a shop or (without any of them) of everything, until it is resumed.

    Events are still accepted and stored, except with --refuse. Workers finish work that they have locked.
    With --for the sweep ends the pause, and all waiting work starts at once. Without it, a pause older than 4
    hours opens the incident pause_long.

    \b
    Example: celery -A tasks pause -Q inventory --shop harbour --for 2h --reason "counting stock"
    """
    mode = "refuse" if refuse else "hold"
    ends_at = utc_now() + lasts if lasts else None
    with transaction() as tx:
        scope = _read_scope(tx, options)
        named = describe_scope(scope, {scope.shop_id or 0: options["shop"]})
        waiting = count_waiting(tx, [scope])
        before = next((one for one in list_pauses(tx) if one.scope == scope), None)
    until = f", until {format_time(ends_at)}" if ends_at else ""
    what = f"{named} ({mode}){until}"
    fields = {"scope": named, "mode": mode, "waiting": waiting, "ends_at": ends_at, "replaces": before}
    replaced = f", which replaces the {describe_pause(before)}" if before else ""
    if _is_dry_run(f"pause {what}{replaced}", fields, options):
        return
    author: dict[str, Any] = {"now": utc_now(), "reason": reason, **audit_author(actor)}
    with transaction() as tx:
        record_pause(tx, scope, mode, ends_at=ends_at, **author)
        link_incident(tx, incident, f"paused {what}", **author)
    _report(f"Paused {what}{replaced}: {waiting} waiting.", fields, options, changed=True)


@celery_command(
    scope_options,
    cost_option,
    click.option(
        "--rate",
        type=ParsedType("rate", parse_rate),
        help="Drain the backlog at this rate of items, such as 20/s or 300/m (without unit: a second).",
    ),
    reason_option,
    incident_option,
    act_options,
)
def resume(
    _ctx: click.Context,
    rate: float | None,
    reason: str,
    incident: int | None,
    actor: str,
    **options: Any,
) -> None:
    """End pauses at once, or with --rate drain the backlog at a rate.

    Without -Q, --topic, --cost and --shop every pause ends; with them, the pause with exactly this scope. If
    no pause matches, nothing changes, and the message lists the pauses.

    \b
    Example: celery -A tasks resume -Q inventory --shop harbour --rate 20/s
    """
    how = f"at {format_rate(rate)}" if rate else "at once"
    with transaction() as tx:
        wanted = _read_scope(tx, options)
        in_force = [pause.scope for pause in list_pauses(tx)]
        slugs = find_slugs(tx)
        scopes = [scope for scope in in_force if wanted in (PauseScope(), scope)]
        waiting = count_waiting(tx, scopes)
        longer = [one.topic for one in list_backoffs(tx)]
    named = _list(scopes, slugs)
    mode = "drain" if rate else None
    fields = {"scope": named, "mode": mode, "waiting": waiting, "ends_at": None}
    if not scopes:
        text = "Nothing was changed: nothing is paused."
        if in_force:
            text = (
                f"Nothing was changed: {describe_scope(wanted, slugs)} is not paused. Paused: "
                f"{_list(in_force, slugs)}. Name exactly one of them with -Q, --topic, --cost and --shop, or "
                "use none of these options to resume all"
            )
        elif longer:
            commands = " and ".join(
                f"`celery -A tasks backoff --topic {topic} --factor 1`" for topic in longer
            )
            text += f" Retries of {', '.join(longer)} wait longer: {commands} ends that."
        _report(text, fields, options, changed=False)
        return
    if _is_dry_run(f"resume {named} {how}", fields, options):
        return
    author: dict[str, Any] = {"now": utc_now(), "reason": reason, **audit_author(actor)}
    with transaction() as tx:
        cleared = clear_pauses(tx, scopes, rate, **author)
        if cleared:
            link_incident(tx, incident, f"resumed {_list(cleared, slugs)} {how}", **author)
    if not cleared:
        _report(f"Nothing to resume: {named} has ended in the meantime.", fields, options, changed=False)
        return
    left = _list([scope for scope in in_force if scope not in cleared], slugs)
    still = f" Still paused: {left}." if left else ""
    text = f"Resumed {_list(cleared, slugs)} {how}: {waiting} waiting.{still}"
    _report(text, fields, options, changed=True)


def _list(scopes: Sequence[PauseScope], slugs: Mapping[int, str]) -> str:
    return "; ".join(describe_scope(scope, slugs) for scope in scopes)


def _read_scope(tx: Connection, options: Mapping[str, Any]) -> PauseScope:
    names = {name: options[name] for name in ("queue", "topic", "cost")}
    return PauseScope(**names, shop_id=find_shop_id(tx, options["shop"]))


def _is_dry_run(act: str, fields: Mapping[str, Any], options: Mapping[str, Any]) -> bool:
    """Return False once the operator agrees to ``act``; with --dry-run report it and return True."""
    if options["dry_run"]:
        _report(f"Would {act}: {fields['waiting']} waiting.", fields, options, changed=False)
    else:
        confirm(f"{act}? {fields['waiting']} waiting", force=options["force"])
    return bool(options["dry_run"])


def _report(text: str, fields: Mapping[str, Any], options: Mapping[str, Any], *, changed: bool) -> None:
    """Print ``text``, or with --json ``fields`` with ``text`` as the note."""
    if options["as_json"]:
        print_json({**fields, "changed": changed, "note": text})
    else:
        click.echo(text)
