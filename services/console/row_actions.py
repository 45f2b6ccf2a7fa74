"""Changes of one row by a person: the same for the pages and the API."""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, time, timedelta
from types import MappingProxyType
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from flask import abort, g
from sqlalchemy import Connection

from services.accounts.roles import Role
from services.alerts.incidents import find_zone, get_incident
from services.alerts.people import acknowledge, add_note, resolve_by_person, snooze
from services.audit.append import Mutation, append_change
from services.bulk.kinds import LOCKED_FOR
from services.closing.letters import approve_letter, get_letter, hold_letter
from services.console.account import make_author
from services.core.counts import format_count
from services.core.db import transaction
from services.core.errors import InputInvalid, ShopfleetError, describe_unknown
from services.core.times import format_time
from services.ledger.accept import WorkRef, record_work
from services.ledger.dispatch import send_messages
from services.ledger.filters import EventFilter, WorkFilter
from services.ledger.queries import get_event, get_work
from services.ledger.replay import replay_events
from services.ledger.requeue import discard, requeue, unlock
from services.mail.outbox_admin import MailDecision, get_mail, mark_mail_delivered, resend_mail

TOMORROW = "tomorrow"
SNOOZES = {"1h": timedelta(hours=1), "4h": timedelta(hours=4), TOMORROW: None, "3d": timedelta(days=3)}
"""How long no message is sent about an incident; ``tomorrow``: until 8:00 of the next day in its zone."""
NOT_FOUND = "There is no such row, or you have no role at its shop."


class RowChange(NamedTuple):
    """What was done, and the work to notify workers of after the commit."""

    text: str
    refs: Sequence[WorkRef] = ()


class RowAction(NamedTuple):
    """An action of an operator on a row of ``list``. ``needs_reason``: an empty reason is refused.

    ``stays``: its page stays open after it, else the list from which it was opened is shown again.
    ``fields`` are further values that ``run`` takes by name, each with those allowed; none: any text.
    """

    list: str
    name: str
    summary: str
    run: Callable[..., RowChange]
    needs_reason: bool = False
    stays: bool = False
    fields: Mapping[str, Sequence[str]] = MappingProxyType({})

    @property
    def endpoint(self) -> str:
        return f"{self.name.replace('-', '_')}_{self.page}"

    @property
    def page(self) -> str:
        """The last part of the endpoint of the row's page: ``work``, ``event``, ``incident`` or ``mail``."""
        return self.list.removesuffix("s")

    @property
    def page_endpoint(self) -> str:
        return "letters.show" if self.list == "letters" else f"details.{self.page}"


def check_shop(shop_id: int | None, role: Role = Role.VIEWER) -> None:
    """Answer 404 for a row of a shop that this person may not see, and 403 if a higher role is needed."""
    if not g.access.may(Role.VIEWER, shop_id):
        abort(404, NOT_FOUND)
    if not g.access.may(role, shop_id):
        abort(403, f"this needs the role {role.title} at the shop")


def audit_unmask(tx: Connection, shop_id: int | None, table: str, number: int) -> None:
    """Record that this person sees a row unmasked; answer as ``check_shop`` does for who is no admin."""
    check_shop(shop_id, Role.ADMIN)
    mutation = Mutation(table, str(number), f"showed the payload of {table} {number} unmasked")
    append_change(tx, "payload.unmask", {shop_id or None: [mutation]}, **make_author())


def find_row(read: Callable[[], Any]) -> Any:
    """Return what ``read`` returns; answer 404 if it finds no row."""
    try:
        return read()
    except InputInvalid:
        abort(404, NOT_FOUND)


def run_action(action: RowAction, number: int, given: Mapping[str, str]) -> str:
    """Do ``action`` on the row for the reason and the fields in ``given``, notify workers, and return what
    was done.

    Answers 404 and 403 as ``check_shop`` does. Raises ``InputInvalid`` for a wrong reason, ``ShopfleetError``
    for a row whose state does not allow it.
    """
    with transaction() as tx:
        check_shop(find_row(lambda: _READERS[action.list](tx, number)).shop_id, Role.OPERATOR)
        fields = {name: given.get(name, "") for name in action.fields}
        change = action.run(tx, number, make_author(given.get("reason", "")), **fields)
    send_messages(change.refs)
    return change.text


_READERS: Mapping[str, Callable[[Connection, int], Any]] = {
    "work": get_work,
    "events": lambda tx, number: get_event(tx, number)[0],
    "incidents": get_incident,
    "mails": get_mail,
    "letters": get_letter,
}


def _requeue(tx: Connection, number: int, author: Mapping[str, Any]) -> RowChange:
    return _changed(number, "requeued", requeue(tx, WorkFilter(ids=(number,)), **author))


def _discard(tx: Connection, number: int, author: Mapping[str, Any]) -> RowChange:
    return RowChange(_changed(number, "discarded", discard(tx, WorkFilter(ids=(number,)), **author)).text)


def _unlock(tx: Connection, number: int, author: Mapping[str, Any]) -> RowChange:
    found = unlock(tx, WorkFilter(ids=(number,)), older_than=LOCKED_FOR, **author)
    return _changed(number, "unlocked", found)


def _changed(number: int, past: str, refs: Sequence[WorkRef]) -> RowChange:
    if not refs:
        raise ShopfleetError(f"Work {number} cannot be {past} now.")
    return RowChange(f"Work {number} is {past}.", refs)


def _replay(tx: Connection, number: int, author: Mapping[str, Any]) -> RowChange:
    work = replay_events(tx, EventFilter(ids=(number,)), **author).work
    return RowChange(f"Event {number} is replayed, with {format_count(len(work), 'work item')}.", work)


def _acknowledge(tx: Connection, number: int, author: Mapping[str, Any]) -> RowChange:
    acknowledge(tx, number, **author)
    return RowChange(f"Incident {number}: you hold it.")


def _note(tx: Connection, number: int, author: Mapping[str, Any]) -> RowChange:
    add_note(tx, number, author["reason"], **author)
    return RowChange(f"Incident {number}: the note is recorded.")


def find_snooze_end(lasts: str, now: datetime, zone: ZoneInfo) -> datetime:
    """Return when a snooze of ``SNOOZES`` that begins ``now`` ends; raise ``InputInvalid`` for another."""
    if lasts not in SNOOZES:
        raise InputInvalid(f"lasts={describe_unknown(lasts, SNOOZES)}")
    if duration := SNOOZES[lasts]:
        return now + duration
    day = now.astimezone(zone).date() + timedelta(days=1)
    return datetime.combine(day, time(8), zone).astimezone(UTC)


def _snooze(tx: Connection, number: int, author: Mapping[str, Any], *, lasts: str) -> RowChange:
    zone = find_zone(tx, get_incident(tx, number).shop_id)
    until = find_snooze_end(lasts or "4h", author["now"], zone)
    snooze(tx, number, until, **author)
    return RowChange(f"Incident {number}: snoozed, no message until {format_time(until, zone)}.")


def _resolve(tx: Connection, number: int, author: Mapping[str, Any]) -> RowChange:
    resolve_by_person(tx, number, **author)
    return RowChange(f"Incident {number}: resolved.")


def _resend(tx: Connection, number: int, author: Mapping[str, Any]) -> RowChange:
    refs = resend_mail(tx, _make_decision(number, author), author["now"])
    return RowChange(f"Mail {number} is sent again.", refs)


def _mark_sent(tx: Connection, number: int, author: Mapping[str, Any]) -> RowChange:
    refs = mark_mail_delivered(tx, _make_decision(number, author), author["now"])
    return RowChange(f"Mail {number} counts as sent.", refs)


def _make_decision(number: int, author: Mapping[str, Any]) -> MailDecision:
    names = ("by", "reason", "request_id")
    return MailDecision(mail_id=number, **{name: author[name] for name in names if name in author})


def _approve(tx: Connection, number: int, author: Mapping[str, Any], *, seen: str) -> RowChange:
    letter, work = approve_letter(tx, number, seen=seen, **author)
    text = f"The letter to the owner of {letter.slug} is mailed by the workers now."
    return RowChange(text, record_work(tx, [work], author["now"]))


def _hold(tx: Connection, number: int, author: Mapping[str, Any], *, seen: str) -> RowChange:
    hold_letter(tx, number, seen=seen, **author)
    return RowChange("The letter is held until a person approves it.")


_VERSION: Mapping[str, Sequence[str]] = {"seen": ()}
"""The version of a letter that the person read."""

ROW_ACTIONS = (
    RowAction("work", "requeue", "Make dead or failed work pending, with no tries counted.", _requeue),
    RowAction("work", "discard", "Drop work permanently.", _discard, needs_reason=True),
    RowAction("work", "unlock", "Unlock work that is locked for more than 15 minutes.", _unlock),
    RowAction("events", "replay", "Record an event again, with work planned by the current code.", _replay),
    RowAction("incidents", "ack", "Take an incident.", _acknowledge, stays=True),
    RowAction(
        "incidents",
        "note",
        "Add the reason to the timeline as a note.",
        _note,
        needs_reason=True,
        stays=True,
    ),
    RowAction(
        "incidents",
        "snooze",
        "Send no message about an incident for a time, 4 h if not given; `tomorrow`: until 8:00 in its zone.",
        _snooze,
        needs_reason=True,
        fields={"lasts": tuple(SNOOZES)},
    ),
    RowAction("incidents", "resolve", "Resolve an incident.", _resolve, needs_reason=True),
    RowAction("mails", "resend", "Send a mail once more, as a new one.", _resend, needs_reason=True),
    RowAction(
        "mails", "mark-sent", "Count a mail of unknown outcome as sent.", _mark_sent, needs_reason=True
    ),
    RowAction("letters", "approve", "Mail a letter now.", _approve, fields=_VERSION),
    RowAction("letters", "hold", "Keep a letter until a person approves it.", _hold, fields=_VERSION),
)
