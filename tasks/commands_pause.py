"""``celery -A tasks pause | resume``: a queue, a topic, a shop or everything stands still, or moves again."""

import re
from typing import Any

import click
from celery.bin.base import CeleryCommand, handle_preload_options
from sqlalchemy import Connection

from services.core.clock import utc_now
from services.core.db import transaction
from services.fleet.commands.edge import ask, find_shop_id, new_request_id, operator_label, tell_faults
from services.fleet.commands.show import print_json
from services.ledger.filters import FilterInvalid, WorkFilter
from services.ledger.look import count_work
from services.ledger.pause import PauseScope, clear_pause, find_pauses, record_pause
from tasks.commands_options import act_options, scope_options

_RATE = re.compile(r"(\d{1,6}(?:\.\d{1,3})?)(?:/([sm]))?")


@click.command(cls=CeleryCommand)
@scope_options
@click.option("--refuse", is_flag=True, help="Also answer 503 to webhooks, so that they are sent again.")
@click.option("--reason", default="", help="Why, for the audit and for whoever finds it paused.")
@act_options
@click.pass_context
@handle_preload_options
@tell_faults
def pause(_ctx: click.Context, refuse: bool, reason: str, acting_as: str, **options: Any) -> None:
    """Let a queue, a topic, a shop or (with none named) everything stand still, until resumed.

    Events are accepted and kept meanwhile, unless --refuse. What a worker has in hand is finished.

    \b
    Example: celery -A tasks pause -Q inventory --shop harbour --reason "counting stock"
    """
    mode = "refuse" if refuse else "hold"
    with transaction() as tx:
        scope, named = _read_scope(tx, options)
        waiting = _count_waiting(tx, scope)
    told = _Told(options["as_json"], named, mode, waiting)
    if options["dry_run"]:
        told.tell(f"Would pause {named} ({mode}): {waiting} waiting.", changed=False)
        return
    ask(f"pause {named} ({mode})? {waiting} waiting", force=options["force"])
    with transaction() as tx:
        by, request_id = operator_label(acting_as), new_request_id()
        record_pause(tx, scope, mode, now=utc_now(), by=by, reason=reason, request_id=request_id)
    told.tell(f"Paused {named} ({mode}): {waiting} waiting.", changed=True)


@click.command(cls=CeleryCommand)
@scope_options
@click.option("--rate", default="", help="Drain what waited at this rate, such as 20/s or 300/m.")
@click.option("--reason", default="", help="Why, for the audit.")
@act_options
@click.pass_context
@handle_preload_options
@tell_faults
def resume(_ctx: click.Context, rate: str, reason: str, acting_as: str, **options: Any) -> None:
    """Let what is paused move again: at once, or at a chosen rate until its backlog is gone.

    Name exactly what was paused.

    \b
    Example: celery -A tasks resume -Q inventory --shop harbour --rate 20/s
    """
    per_second = read_rate(rate) if rate else None
    how = f"at {per_second:g}/s" if per_second else "at once"
    with transaction() as tx:
        scope, named = _read_scope(tx, options)
        waiting = _count_waiting(tx, scope)
        paused = [pause.scope for pause in find_pauses(tx)]
    told = _Told(options["as_json"], named, "drain" if per_second else None, waiting)
    if scope not in paused:
        others = f"These are: {'; '.join(map(str, paused))}." if paused else "Nothing is."
        told.tell(f"Not paused: {named}. {others}", changed=False)
        return
    if options["dry_run"]:
        told.tell(f"Would resume {named} {how}: {waiting} waiting.", changed=False)
        return
    ask(f"resume {named} {how}? {waiting} waiting", force=options["force"])
    by = operator_label(acting_as)
    with transaction() as tx:
        changed = clear_pause(
            tx, scope, per_second, now=utc_now(), by=by, reason=reason, request_id=new_request_id()
        )
    told.tell(f"Resumed {named} {how}: {waiting} waiting.", changed=changed)


def read_rate(text: str) -> float:
    """Return items a second from ``20/s``, ``300/m`` or ``20``; raise ``FilterInvalid``. Pure."""
    match = _RATE.fullmatch(text.strip())
    if match is None or not float(match[1]):
        raise FilterInvalid(f"rate={text!r} should be a number above 0 such as 20/s, 300/m or 0.5/s")
    return float(match[1]) / (60 if match[2] == "m" else 1)


def _read_scope(tx: Connection, options: dict[str, Any]) -> tuple[PauseScope, str]:
    """Return the scope that the options name, and its name for people."""
    shop = options["shop"]
    scope = PauseScope(queue=options["queue"], topic=options["topic"], shop_id=find_shop_id(tx, shop))
    return scope, str(scope).replace(f"shop {scope.shop_id}", f"shop {shop}") if shop else str(scope)


def _count_waiting(tx: Connection, scope: PauseScope) -> int:
    statuses = ("pending", "error")
    wanted = WorkFilter(queue=scope.queue, topic=scope.topic, shop_id=scope.shop_id, statuses=statuses)
    return count_work(tx, wanted)


class _Told:
    """Says what happened, as text or as JSON."""

    def __init__(self, as_json: bool, named: str, mode: str | None, waiting: int) -> None:
        self._as_json = as_json
        self._facts = {"scope": named, "mode": mode, "waiting": waiting}

    def tell(self, text: str, *, changed: bool) -> None:
        """Print ``text``, or the facts with ``text`` as their note."""
        if self._as_json:
            print_json(self._facts | {"changed": changed, "note": text})
        else:
            click.echo(text)
