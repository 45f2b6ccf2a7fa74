"""Topic ``mail_send``: sends a mail of the outbox once.

If a worker dies after it handed a mail over and before it stored the result, the outcome is unknown. Then a
person decides, unless the transport recognizes a repeated mail; ``docs/mail.md`` lists the transports.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import Any

from sqlalchemy import Connection, Engine

from services.audit.append import append_all
from services.core.clock import utc_now
from services.core.db import get_engine, is_connection_fault, transaction
from services.core.errors import Misconfigured, OutcomeUnknown, Refused, RetryLater, WorkError
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

_MARK_LOST = """
update mail_outbox set status = 'unknown', error_code = %(code)s, last_error = %(detail)s
 where id = any(%(id)s::bigint[]) and status = 'sending'
returning id
"""


class MailSend:
    """Sends mails. ``clock`` gives the time of each result."""

    def __init__(
        self,
        engine: Callable[[], Engine] = get_engine,
        clock: Callable[[], datetime] = utc_now,
        transports: OpenTransports | None = None,
    ) -> None:
        self._engine, self._clock = engine, clock
        self._transports = transports or OpenTransports()
        self._log = DeliveryLog(engine, clock)
        self._breaker = CircuitBreaker()

    def prepare(
        self, tx: Connection, items: Sequence[WorkItem], now: datetime
    ) -> Sequence[PreparedCall | Outcome]:
        """Return for each item the call that sends its mail, or the outcome without one.

        ``already_sent`` means that a worker stored it before it died, or that a person decided so.
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
                lost.append(plan.delivery)
                plan = plan.outcome
            plans.append(plan)
        plans = apply_rate_limits(tx, plans, rows, routes, now)
        _mark_lost(tx, lost, now)
        return plans

    def _act(self, delivery: MailDelivery) -> Outcome:
        """Send the mail and store the result."""
        fault = self._breaker.find_fault(delivery.route)
        if fault is not None:
            return fault
        try:
            mail = self._outgoing_mail(delivery)
            is_started = self._start(delivery, mail)
        except Exception as error:
            if not is_connection_fault(error):
                raise
            return RetryLater("mail.database_away", "the database went away before the mail was sent")
        if not is_started:
            return RetryLater("mail.changed_meanwhile", "another worker had this mail: it is read again")
        return self._send(delivery, mail)

    def _send(self, delivery: MailDelivery, mail: OutgoingMail) -> Outcome:
        try:
            provider_id = self._transports.get(delivery.route).send(mail)
        except OutcomeUnknown as fault:
            return self._record_unknown(delivery, fault)
        except WorkError as fault:
            return self._record_not_sent(delivery, fault)
        except AddressInvalid as fault:
            return self._record_not_sent(delivery, Refused("mail.address_invalid", str(fault)))
        entry = plan_entry(delivery, "mail.sent", "sent", mail.message_id, work_id=delivery.item.id)
        self._end(delivery, "sent", provider_id=provider_id, entry=entry)
        return Done("sent")

    def _start(self, delivery: MailDelivery, mail: OutgoingMail) -> bool:
        return self._log.begin(
            SendStarted(
                mail_id=delivery.row.id,
                attempt=delivery.row.attempt,
                transport=delivery.route.transport,
                account=delivery.route.fingerprint,
                message_id=mail.message_id,
                work_id=delivery.item.id,
            )
        )

    def _outgoing_mail(self, delivery: MailDelivery) -> OutgoingMail:
        row, route = delivery.row, delivery.route
        domain = parse_sender(route.sender)[1].rpartition("@")[2]
        mail = OutgoingMail(
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
            return mail
        with transaction(self._engine()) as tx:
            attachments, inline = find_parts(tx, row.id)
        return replace(mail, attachments=attachments, inline=inline)

    def _record_not_sent(self, delivery: MailDelivery, fault: WorkError) -> Outcome:
        """The other side did not accept the mail: it is tried again, or it is refused for good."""
        pause = self._breaker.open(delivery.route, fault)
        is_broken = isinstance(fault, Misconfigured) or (pause is not None and "quota" in fault.code)
        if not delivery.is_repeat:
            status: str | None = "refused" if isinstance(fault, Refused) else "queued"
        else:
            # Not accepted this time; the outcome of the time before is still unknown.
            status = "unknown" if isinstance(fault, Refused) else None
        entry = None
        if status in ("refused", "unknown"):
            entry = plan_entry(delivery, f"mail.{status}", f"{status}: {fault.code}")
        self._end(delivery, status, fault=fault, entry=entry, is_broken=is_broken, pause=pause)
        return ask_person(delivery, fault.detail) if status == "unknown" else fault

    def _record_unknown(self, delivery: MailDelivery, fault: OutcomeUnknown) -> Outcome:
        """No answer came: send again under the same key if the transport has keys, else ask a person."""
        is_new = not isinstance(fault, AlreadySubmitted)
        if is_new and may_repeat(delivery.route, delivery.row.handed_over_at, self._clock()):
            self._end(delivery, None, fault=fault)
            return fault
        refused = ask_person(delivery, fault.detail)
        entry = plan_entry(delivery, "mail.unknown", f"handed over, outcome unknown: {fault.code}")
        self._end(delivery, "unknown", fault=refused, entry=entry)
        return refused

    def _end(
        self, delivery: MailDelivery, status: str | None, *, fault: WorkError | None = None, **result: Any
    ) -> None:
        self._log.end(
            SendResult(
                mail_id=delivery.row.id,
                attempt=delivery.row.attempt + 1,
                status=status,
                route=delivery.route,
                error_code=fault.code if fault else None,
                last_error=fault.detail if fault else None,
                **result,
            )
        )


def find_outbox_rows(tx: Connection, keys: Iterable[str]) -> dict[str, OutboxRow]:
    """Return the mails whose ids are ``keys``, by key; a key that is not a number is left out."""
    ids = [int(key) for key in keys if key.isdecimal()]
    rows = tx.exec_driver_sql(_FIND, {"id": ids})
    return {str(row.id): OutboxRow(**row._mapping) for row in rows}


def _mark_lost(tx: Connection, lost: Sequence[MailDelivery], now: datetime) -> None:
    if not lost:
        return
    detail = "the worker died while it sent the mail"
    changed = set(
        tx.exec_driver_sql(
            _MARK_LOST, {"id": [one.row.id for one in lost], "code": UNKNOWN, "detail": detail}
        ).scalars()
    )
    entries = [
        plan_entry(one, "mail.unknown", "handed over, outcome unknown: the worker died")
        for one in lost
        if one.row.id in changed
    ]
    append_all(tx, entries, now)
