"""Changes of one row by a person: the same for the pages and the API."""

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any, NamedTuple

from flask import abort, g, request
from sqlalchemy import Connection

from services.accounts.roles import Role
from services.alerts.incidents import get_incident
from services.alerts.people import acknowledge, add_note, resolve_by_person, snooze
from services.audit.append import Mutation, append_change
from services.bulk.kinds import LOCKED_FOR
from services.closing.letters import approve_letter, get_letter, hold_letter
from services.console.account import make_author
from services.core.counts import format_count
from services.core.db import transaction
from services.core.errors import InputInvalid, ShopfleetError
from services.ledger.accept import WorkRef, record_work
from services.ledger.dispatch import send_messages
from services.ledger.filters import EventFilter, WorkFilter
from services.ledger.queries import get_event, get_work
from services.ledger.replay import replay_events
from services.ledger.requeue import discard, requeue, unlock
from services.mail.outbox_admin import MailDecision, get_mail, mark_mail_delivered, resend_mail

SNOOZED_FOR = timedelta(hours=4)
NOT_FOUND = "There is no such row, or you have no role at its shop."


class RowChange(NamedTuple):
    """What was done, and the work to notify workers of after the commit."""

    text: str
    refs: Sequence[WorkRef] = ()


class RowAction(NamedTuple):
    """An action of an operator on a row of ``list``. ``needs_reason``: an empty reason is refused."""

    list: str
    name: str
    summary: str
    run: Callable[[Connection, int, Mapping[str, Any]], RowChange]
    needs_reason: bool = False

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


def run_action(action: RowAction, number: int, reason: str) -> str:
    """Do ``action`` on the row, notify workers, and return what was done.

    Answers 404 and 403 as ``check_shop`` does. Raises ``InputInvalid`` for a wrong reason, ``ShopfleetError``
    for a row whose state does not allow it.
    """
    with transaction() as tx:
        check_shop(find_row(lambda: _READERS[action.list](tx, number)).shop_id, Role.OPERATOR)
        change = action.run(tx, number, make_author(reason))
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


def _snooze(tx: Connection, number: int, author: Mapping[str, Any]) -> RowChange:
    snooze(tx, number, author["now"] + SNOOZED_FOR, **author)
    hours = SNOOZED_FOR // timedelta(hours=1)
    return RowChange(f"Incident {number}: snoozed, no message for {hours} h.")


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


def _approve(tx: Connection, number: int, author: Mapping[str, Any]) -> RowChange:
    letter, work = approve_letter(tx, number, seen=request.form.get("seen", ""), **author)
    text = f"The letter to the owner of {letter.slug} is mailed by the workers now."
    return RowChange(text, record_work(tx, [work], author["now"]))


def _hold(tx: Connection, number: int, author: Mapping[str, Any]) -> RowChange:
    hold_letter(tx, number, seen=request.form.get("seen", ""), **author)
    return RowChange("The letter is held until a person approves it.")


ROW_ACTIONS = (
    RowAction("work", "requeue", "Make dead or failed work pending, with no tries counted.", _requeue),
    RowAction("work", "discard", "Drop work permanently.", _discard, needs_reason=True),
    RowAction("work", "unlock", "Unlock work that is locked for more than 15 minutes.", _unlock),
    RowAction("events", "replay", "Record an event again, with work planned by the current code.", _replay),
    RowAction("incidents", "ack", "Take an incident.", _acknowledge),
    RowAction("incidents", "note", "Add the reason to the timeline as a note.", _note, needs_reason=True),
    RowAction(
        "incidents", "snooze", "Send no message about an incident for 4 h.", _snooze, needs_reason=True
    ),
    RowAction("incidents", "resolve", "Resolve an incident.", _resolve, needs_reason=True),
    RowAction("mails", "resend", "Send a mail once more, as a new one.", _resend, needs_reason=True),
    RowAction(
        "mails", "mark-sent", "Count a mail of unknown outcome as sent.", _mark_sent, needs_reason=True
    ),
    RowAction("letters", "approve", "Mail a letter now.", _approve),
    RowAction("letters", "hold", "Keep a letter until a person approves it.", _hold),
)
