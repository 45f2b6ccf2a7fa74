"""A change that a person sees before it is made, and the checks that all of them share."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from flask import abort, g
from sqlalchemy import Connection

from services.accounts.roles import Role
from services.console.account import make_author
from services.core.db import transaction
from services.core.errors import InputInvalid, describe_unknown
from services.ledger.accept import WorkRef
from services.ledger.dispatch import send_messages

Given = Mapping[str, str]


class ChangeResult(NamedTuple):
    """What was done, in words, the work to send messages for, and the page that shows the progress."""

    text: str
    sent: Sequence[WorkRef] = ()
    page: str = ""


class PlannedChange(NamedTuple):
    """A change before it is made: what it does, whom it affects, and the function that makes it."""

    title: str
    effect: str
    run: Callable[[Connection, Mapping[str, Any]], ChangeResult]
    lines: Sequence[str] = ()
    """More of the effect, such as the next runs."""


Planner = Callable[[Connection, Given], PlannedChange]


def make_change(plan: Planner, given: Given) -> ChangeResult:
    """Plan the change again and make it, in one transaction; return its result. Raises ``InputInvalid``.

    ``given`` has a reason, for the audit.
    """
    reason = given.get("reason", "").strip()
    with transaction() as tx:
        planned = plan(tx, given)
        if not reason:
            raise InputInvalid("reason is empty: say why, for the audit and for other operators")
        result = planned.run(tx, make_author(reason))
    send_messages(result.sent)
    return result


def choose(name: str, value: str, allowed: Sequence[str]) -> str:
    """Return ``value`` if it is allowed; else raise ``InputInvalid``."""
    if value not in allowed:
        raise InputInvalid(f"{name}={describe_unknown(value, allowed)}")
    return value


def check_role(role: Role, shop_id: int | None) -> None:
    """Answer 403 to a person without ``role`` at the shop; None: in the whole fleet."""
    if not g.access.may(role, shop_id):
        where = "in the whole fleet, or name one of your shops" if shop_id is None else "at the shop"
        abort(403, f"this needs the role {role.title} {where}")
