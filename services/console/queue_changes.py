"""What a person changes on ``/queues``: pauses, their end, and the backoff of a topic. Plans first."""

from collections.abc import Callable, Mapping
from typing import Any

from flask import g
from sqlalchemy import Connection

from services.accounts.roles import Role
from services.console.list_reader import find_visible_slugs, parse_whole
from services.console.planned_change import ChangeResult, Given, PlannedChange, check_role, choose
from services.core.counts import format_count
from services.core.db import MAX_COUNTED
from services.core.durations import parse_positive_duration
from services.core.errors import InputInvalid
from services.core.fields import LARGEST_ID
from services.core.times import format_time
from services.ledger.backoff import MAX_FACTOR, format_factor, list_backoffs, set_backoff
from services.ledger.filters import check_scope
from services.ledger.pause import (
    Pause,
    PauseScope,
    check_mode,
    clear_pauses,
    describe_scope,
    format_rate,
    list_pauses,
    parse_rate,
    record_pause,
)
from services.ledger.queries import count_waiting
from services.ledger.work import FLEET


def plan_change(tx: Connection, given: Given) -> PlannedChange:
    """Return the change that ``given`` describes; raise ``InputInvalid``.

    Answers 403 to a person who is no operator of the scope, and 404 for a shop that they may not see.
    """
    return PLANS[choose("act", given.get("act", ""), tuple(PLANS))](tx, given)


def list_visible_pauses(tx: Connection) -> list[Pause]:
    """Return the pauses of the whole fleet and of the shops that this person may see, oldest first."""
    visible = g.access.shops_with(Role.VIEWER)
    return [
        one
        for one in list_pauses(tx)
        if visible is None or one.scope.shop_id is None or one.scope.shop_id in visible
    ]


def list_operated_shops(tx: Connection) -> dict[int, str]:
    """Return the slugs, by id, of the shops whose work this person may pause."""
    slugs = find_visible_slugs(tx, g.access)
    return {one: slug for one, slug in slugs.items() if one != FLEET and g.access.may(Role.OPERATOR, one)}


def _plan_pause(tx: Connection, given: Given) -> PlannedChange:
    kind, _, name = given.get("what", "").partition(":")
    if given.get("what") and not (kind in ("queue", "topic", "cost") and name):
        raise InputInvalid(f"what={given['what']!r} should be queue, topic or cost, a colon and its name")
    shops = {slug: one for one, slug in list_operated_shops(tx).items()}
    slug = given.get("shop", "").strip()
    if slug and slug not in shops:
        raise InputInvalid(f"shop={slug!r} is no shop at which you are an operator")
    scope = PauseScope(**({kind: name} if kind else {}), shop_id=shops[slug] if slug else None)
    check_role(Role.OPERATOR, scope.shop_id)
    mode = given.get("mode") or "hold"
    check_mode(scope, mode)
    lasts = parse_positive_duration(given["lasts"]) if given.get("lasts") else None
    ends_at = g.at + lasts if lasts else None
    named = describe_scope(scope, {one: slug for slug, one in shops.items()})
    before = next((one for one in list_pauses(tx) if one.scope == scope), None)
    effect = f"{_count(tx, scope)} of work will wait" + (
        ", and webhooks are answered 503, so that their senders send them again."
        if mode == "refuse"
        else "; webhooks are accepted and recorded."
    )
    effect += f" It ends {format_time(ends_at)}." if ends_at else " It lasts until a person resumes it."
    if before:
        effect += f" It replaces the {before.mode} of {before.created_by}."

    def act(tx: Connection, author: Mapping[str, Any]) -> ChangeResult:
        record_pause(tx, scope, mode, ends_at=ends_at, **author)
        return ChangeResult(f"Paused {named} ({mode}).")

    return PlannedChange(f"Pause {named}", effect, act)


def _plan_resume(tx: Connection, given: Given) -> PlannedChange:
    number = parse_whole("pause", given.get("pause", ""), 1, LARGEST_ID)
    found = next((one for one in list_visible_pauses(tx) if one.id == number), None)
    if found is None:
        raise InputInvalid("this pause has ended")
    scope = found.scope
    check_role(Role.OPERATOR, scope.shop_id)
    named = describe_scope(scope, find_visible_slugs(tx, g.access))
    rate = parse_rate(given["rate"]) if given.get("rate") else None
    how = f"at {format_rate(rate)}" if rate else "at once"

    def act(tx: Connection, author: Mapping[str, Any]) -> ChangeResult:
        cleared = clear_pauses(tx, [scope], rate, **author)
        text = f"Resumed {named} {how}." if cleared else f"{named} has ended in the meantime."
        return ChangeResult(text)

    return PlannedChange(f"Resume {named} {how}", f"{_count(tx, scope)} of work will start {how}.", act)


def _plan_backoff(tx: Connection, given: Given) -> PlannedChange:
    topic = given.get("topic", "")
    if not topic:
        raise InputInvalid("topic is empty: choose one")
    check_scope("", topic)
    check_role(Role.OPERATOR, None)
    try:
        factor = float(given.get("factor", ""))
    except ValueError:
        factor = 0.0
    if not 1 <= factor <= MAX_FACTOR:
        raise InputInvalid(
            f"factor={given.get('factor', '')!r} should be a number from 1 (normal) to {MAX_FACTOR:g}"
        )
    before = next((one.factor for one in list_backoffs(tx) if one.topic == topic), 1.0)
    title = f"Retries of {topic} wait {format_factor(factor)}"

    def act(tx: Connection, author: Mapping[str, Any]) -> ChangeResult:
        set_backoff(tx, topic, factor, **author)
        return ChangeResult(f"{title}.")

    effect = f"It is {before:g} now. It applies to tries that fail from now on; what waits keeps its time."
    return PlannedChange(title, effect, act)


PLANS: Mapping[str, Callable[[Connection, Given], PlannedChange]] = {
    "pause": _plan_pause,
    "resume": _plan_resume,
    "backoff": _plan_backoff,
}


def _count(tx: Connection, scope: PauseScope) -> str:
    found = count_waiting(tx, [scope], MAX_COUNTED + 1)
    return f"More than {MAX_COUNTED:,} items" if found > MAX_COUNTED else format_count(found, "item")
