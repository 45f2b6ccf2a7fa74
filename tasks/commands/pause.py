"""``celery -A tasks pause | resume``: a queue, a topic, a shop or everything stands still, or moves again."""

import re
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import click
from celery.bin.base import CeleryCommand, handle_preload_options
from sqlalchemy import Connection

from services.cli.base import (
    confirm,
    find_shop_id,
    new_request_id,
    operator_label,
    report_errors,
)
from services.cli.output import format_time, print_json
from services.core.clock import utc_now
from services.core.db import transaction
from services.core.durations import TimeInvalid, parse_duration
from services.ledger.filters import FilterInvalid, WorkFilter
from services.ledger.pause import PauseScope, clear_pauses, find_pauses, record_pause
from services.ledger.queries import count_work
from services.shops.shops import find_slugs
from tasks.commands.options import act_options, scope_options

_RATE = re.compile(r"(\d{1,6}(?:\.\d{1,3})?)(?:/([sm]))?")


@click.command(cls=CeleryCommand)
@scope_options
@click.option("--refuse", is_flag=True, help="Also answer 503 to webhooks, so that they are sent again.")
@click.option("--for", "lasts", default="", help="End by itself after this long, such as 2h or 1h30m.")
@click.option("--reason", default="", help="Why, for the audit and for the next person on duty.")
@act_options
@click.pass_context
@handle_preload_options
@report_errors
def pause(_ctx: click.Context, refuse: bool, lasts: str, reason: str, actor: str, **options: Any) -> None:
    """Let a queue, a topic, a shop or (with none named) everything stand still, until resumed.

    Events are accepted and kept meanwhile, unless --refuse. What a worker has in hand is finished.
    With --for the sweep ends the pause, and all that waited starts at once. Without it, a pause older than
    4 hours is the incident pause_long.

    \b
    Example: celery -A tasks pause -Q inventory --shop harbour --for 2h --reason "counting stock"
    """
    mode = "refuse" if refuse else "hold"
    lasting = read_lasting(lasts) if lasts else None
    with transaction() as tx:
        slug = options["shop"]
        scope = PauseScope(queue=options["queue"], topic=options["topic"], shop_id=find_shop_id(tx, slug))
        named = describe_scope(scope, {scope.shop_id or 0: slug})
        waiting = _count_waiting(tx, [scope])
    ends_at = utc_now() + lasting if lasting else None
    until = f", until {format_time(ends_at)}" if ends_at else ""
    told = _Told(options["as_json"], named, mode, waiting, ends_at)
    if options["dry_run"]:
        told.tell(f"Would pause {named} ({mode}){until}: {waiting} waiting.", changed=False)
        return
    confirm(f"pause {named} ({mode}){until}? {waiting} waiting", force=options["force"])
    with transaction() as tx:
        now, by, request_id = utc_now(), operator_label(actor), new_request_id()
        record_pause(tx, scope, mode, now=now, by=by, reason=reason, request_id=request_id, ends_at=ends_at)
    told.tell(f"Paused {named} ({mode}){until}: {waiting} waiting.", changed=True)


@click.command(cls=CeleryCommand)
@scope_options
@click.option("--rate", default="", help="Drain what waited at this rate, such as 20/s or 300/m.")
@click.option("--reason", default="", help="Why, for the audit.")
@act_options
@click.pass_context
@handle_preload_options
@report_errors
def resume(_ctx: click.Context, rate: str, reason: str, actor: str, **options: Any) -> None:
    """Let what is paused move again: at once, or at a chosen rate until its backlog is gone.

    Without -Q, --topic and --shop every pause in force ends. With them, the one pause that names exactly
    these. What matches no pause changes nothing, ends with exit code 2 and lists the pauses in force.

    \b
    Example: celery -A tasks resume -Q inventory --shop harbour --rate 20/s
    """
    per_second = read_rate(rate) if rate else None
    how = f"at {per_second:g}/s" if per_second else "at once"
    with transaction() as tx:
        wanted = PauseScope(
            queue=options["queue"], topic=options["topic"], shop_id=find_shop_id(tx, options["shop"])
        )
        in_force = [pause.scope for pause in find_pauses(tx)]
        slugs = find_slugs(tx)
        scopes = [scope for scope in in_force if wanted in (PauseScope(), scope)]
        waiting = _count_waiting(tx, scopes) if scopes else 0
    named = _list(scopes, slugs)
    if not scopes:
        raise FilterInvalid(
            f"{describe_scope(wanted, slugs)} is not paused; paused: {_list(in_force, slugs)}. Name exactly "
            "one of them with -Q, --topic and --shop, or none of the three to resume them all"
            if in_force
            else "nothing is paused"
        )
    told = _Told(options["as_json"], named, "drain" if per_second else None, waiting)
    if options["dry_run"]:
        told.tell(f"Would resume {named} {how}: {waiting} waiting.", changed=False)
        return
    confirm(f"resume {named} {how}? {waiting} waiting", force=options["force"])
    by = operator_label(actor)
    with transaction() as tx:
        cleared = clear_pauses(
            tx, scopes, per_second, now=utc_now(), by=by, reason=reason, request_id=new_request_id()
        )
    if not cleared:
        told.tell(f"Nothing to resume: {named} has ended in the meantime.", changed=False)
        return
    left = _list([scope for scope in in_force if scope not in cleared], slugs)
    still = f" Still paused: {left}." if left else ""
    told.tell(f"Resumed {_list(cleared, slugs)} {how}: {waiting} waiting.{still}", changed=True)


def read_lasting(text: str) -> timedelta:
    """Return how long a pause lasts; raise ``TimeInvalid`` or ``FilterInvalid``. Pure."""
    try:
        lasting = parse_duration(text)
    except TimeInvalid as fault:
        raise TimeInvalid(f"for={fault}") from None
    if not lasting:
        raise FilterInvalid(f"for={text!r} should be longer than 0, such as 2h")
    return lasting


def read_rate(text: str) -> float:
    """Return items a second from ``20/s``, ``300/m`` or ``20``; raise ``FilterInvalid``. Pure."""
    match = _RATE.fullmatch(text.strip())
    if match is None or not float(match[1]):
        raise FilterInvalid(f"rate={text!r} should be a number above 0 such as 20/s, 300/m or 0.5/s")
    return float(match[1]) / (60 if match[2] == "m" else 1)


def describe_scope(scope: PauseScope, slugs: Mapping[int, str]) -> str:
    """Return ``scope`` for people, its shop by the slug. Pure."""
    slug = slugs.get(scope.shop_id or 0, "")
    return (
        str(scope).replace(f"shop {scope.shop_id}", f"shop {slug}") if scope.shop_id and slug else str(scope)
    )


def _list(scopes: Sequence[PauseScope], slugs: Mapping[int, str]) -> str:
    return "; ".join(describe_scope(scope, slugs) for scope in scopes)


def _count_waiting(tx: Connection, scopes: Sequence[PauseScope]) -> int:
    statuses = ("pending", "error")
    return count_work(
        tx,
        *(
            WorkFilter(queue=scope.queue, topic=scope.topic, shop_id=scope.shop_id, statuses=statuses)
            for scope in scopes
        ),
    )


class _Told:
    """Says what happened, as text or as JSON."""

    def __init__(
        self, as_json: bool, named: str, mode: str | None, waiting: int, ends_at: datetime | None = None
    ) -> None:
        self._as_json = as_json
        self._facts = {"scope": named, "mode": mode, "waiting": waiting, "ends_at": ends_at}

    def tell(self, text: str, *, changed: bool) -> None:
        """Print ``text``, or the facts with ``text`` as their note."""
        if self._as_json:
            print_json(self._facts | {"changed": changed, "note": text})
        else:
            click.echo(text)
