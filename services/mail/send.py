"""Topic ``mail_send``: a mail of the outbox is handed over, once.

A mail has no second chance to be un-sent. So a worker that went away between "handed over" and "noted"
leaves a mail whose outcome is unknown, and unless its transport can tell a repeat from a second mail, a
person decides. ``docs/mail.md`` says what each transport does.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import Any

from sqlalchemy import Connection, Engine

from services.audit.append import append_all
from services.core.clock import utc_now
from services.core.db import get_engine, transaction
from services.core.errors import Misconfigured, OutcomeUnknown, Refused, RetryLater, WorkError
from services.ledger.batch_result import is_connection_fault
from services.ledger.work import Done, Outcome, PreparedCall, WorkItem
from services.mail.circuit_breaker import CircuitBreaker
from services.mail.delivery_log import DeliveryLog, SendResult, SendStarted
from services.mail.delivery_plan import (
    UNKNOWN,
    LostDelivery,
    MailDelivery,
    OutboxRow,
    ask_person,
    may_repeat,
    plan_delivery,
    plan_entry,
)
from services.mail.outbox import find_parts
from services.mail.routes import apply_rate_limits, find_routes
from services.mail.transports import OpenTransports
from services.providers.outgoing_mail import AddressInvalid, AlreadySubmitted, OutgoingMail, parse_sender

_FIND = """
select id, shop_id, kind, recipient, subject, text, html, headers, has_parts, status, attempt, token,
       message_id, transport, account, created_at, handed_over_at
  from mail_outbox where id = any(%(id)s::bigint[])
"""

_LOSE = """
update mail_outbox set status = 'unknown', error_code = %(code)s, last_error = %(detail)s
 where id = any(%(id)s::bigint[]) and status = 'sending'
returning id
"""


class MailSend:
    """Hands mails over. ``clock`` dates what becomes of them."""

    def __init__(
        self,
        engine: Callable[[], Engine] = get_engine,
        clock: Callable[[], datetime] = utc_now,
        transports: OpenTransports | None = None,
    ) -> None:
        self._engine, self._clock = engine, clock
        self._transports = transports or OpenTransports()
        self._notes = DeliveryLog(engine, clock)
        self._doors = CircuitBreaker()

    def prepare(
        self, tx: Connection, items: Sequence[WorkItem], now: datetime
    ) -> Sequence[PreparedCall | Outcome]:
        """Return, per item, the handing over of its mail, or what stands in its way.

        ``already_sent`` where a worker noted so before it went away, or a person decided so.
        """
        rows = find_outbox_rows(tx, (item.key for item in items))
        routes = find_routes(tx, {row.shop_id for row in rows.values()})
        plans: list[PreparedCall | Outcome] = []
        lost: list[MailDelivery] = []
        for item in items:
            row = rows.get(item.key)
            plan = plan_delivery(item, row, routes[row.shop_id] if row else None, now)
            if isinstance(plan, MailDelivery):
                plans.append(PreparedCall(item=item, act=partial(self._act, plan)))
                continue
            if isinstance(plan, LostDelivery):
                lost.append(plan.handing)
                plan = plan.outcome
            plans.append(plan)
        plans = apply_rate_limits(tx, plans, rows, routes, now)
        _lose(tx, lost, now)
        return plans

    def _act(self, handing: MailDelivery) -> Outcome:
        """Hand the mail over and write down what became of it."""
        closed = self._doors.find_closed(handing.route)
        if closed is not None:
            return closed
        try:
            letter = self._letter(handing)
            begun = self._begin(handing, letter)
        except Exception as fault:
            if not is_connection_fault(fault):
                raise
            return RetryLater("mail.database_away", "the database went away before the mail was handed over")
        if not begun:
            return RetryLater("mail.changed_meanwhile", "somebody else had this mail in hand: looking again")
        return self._hand_over(handing, letter)

    def _hand_over(self, handing: MailDelivery, letter: OutgoingMail) -> Outcome:
        try:
            provider_id = self._transports.get(handing.route).send(letter)
        except OutcomeUnknown as doubt:
            return self._in_doubt(handing, doubt)
        except WorkError as fault:
            return self._not_sent(handing, fault)
        except AddressInvalid as fault:
            return self._not_sent(handing, Refused("mail.address_invalid", str(fault)))
        entry = plan_entry(handing, "mail.sent", "sent", letter.message_id, work_id=handing.item.id)
        self._end(handing, "sent", provider_id=provider_id, entry=entry)
        return Done("sent")

    def _begin(self, handing: MailDelivery, letter: OutgoingMail) -> bool:
        return self._notes.begin(
            SendStarted(
                mail_id=handing.row.id,
                attempt=handing.row.attempt,
                transport=handing.route.transport,
                account=handing.route.fingerprint,
                message_id=letter.message_id,
                work_id=handing.item.id,
            )
        )

    def _letter(self, handing: MailDelivery) -> OutgoingMail:
        row, route = handing.row, handing.route
        domain = parse_sender(route.sender)[1].rpartition("@")[2]
        letter = OutgoingMail(
            sender=route.sender,
            recipient=row.recipient,
            subject=row.subject,
            text=row.text,
            html=row.html,
            message_id=row.message_id or f"{row.token}@{domain}",
            date=row.created_at,
            idempotency_key=f"shopfleet-{row.token}",
            headers=row.headers,
        )
        if not row.has_parts:
            return letter
        with transaction(self._engine()) as tx:
            attachments, inline = find_parts(tx, row.id)
        return replace(letter, attachments=attachments, inline=inline)

    def _not_sent(self, handing: MailDelivery, fault: WorkError) -> Outcome:
        """The other side did not take the mail: it waits again, or is refused for good."""
        closed_for = self._doors.close(handing.route, fault)
        breaks = isinstance(fault, Misconfigured) or (closed_for is not None and "quota" in fault.code)
        if not handing.repeats:
            status: str | None = "refused" if isinstance(fault, Refused) else "queued"
        else:
            # This time it was not taken; what became of it the time before is as unknown as it was.
            status = "unknown" if isinstance(fault, Refused) else None
        entry = None
        if status in ("refused", "unknown"):
            entry = plan_entry(handing, f"mail.{status}", f"{status}: {fault.code}")
        self._end(handing, status, fault=fault, entry=entry, breaks=breaks, closed_for=closed_for)
        return ask_person(handing, fault.detail) if status == "unknown" else fault

    def _in_doubt(self, handing: MailDelivery, doubt: OutcomeUnknown) -> Outcome:
        """It went out and no answer came: again under its key where there is one, else a person looks."""
        is_new = not isinstance(doubt, AlreadySubmitted)
        if is_new and may_repeat(handing.route, handing.row.handed_over_at, self._clock()):
            self._end(handing, None, fault=doubt)
            return doubt
        asked = ask_person(handing, doubt.detail)
        entry = plan_entry(handing, "mail.unknown", f"handed over, outcome unknown: {doubt.code}")
        self._end(handing, "unknown", fault=asked, entry=entry)
        return asked

    def _end(
        self, handing: MailDelivery, status: str | None, *, fault: WorkError | None = None, **told: Any
    ) -> None:
        self._notes.end(
            SendResult(
                mail_id=handing.row.id,
                attempt=handing.row.attempt + 1,
                status=status,
                route=handing.route,
                error_code=fault.code if fault else None,
                last_error=fault.detail if fault else None,
                **told,
            )
        )


def find_outbox_rows(tx: Connection, keys: Iterable[str]) -> dict[str, OutboxRow]:
    """Return the mails whose ids are ``keys``, by key; a key that is no number names none."""
    ids = [int(key) for key in keys if key.isdecimal()]
    rows = tx.exec_driver_sql(_FIND, {"id": ids})
    return {str(row.id): OutboxRow(**row._mapping) for row in rows}


def _lose(tx: Connection, lost: Sequence[MailDelivery], now: datetime) -> None:
    if not lost:
        return
    detail = "the worker went away while the mail was handed over"
    changed = set(
        tx.exec_driver_sql(
            _LOSE, {"id": [one.row.id for one in lost], "code": UNKNOWN, "detail": detail}
        ).scalars()
    )
    entries = [
        plan_entry(one, "mail.unknown", "handed over, outcome unknown: the worker went away")
        for one in lost
        if one.row.id in changed
    ]
    append_all(tx, entries, now)
