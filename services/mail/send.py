"""Topic ``mail_send``: sends a mail of the outbox once.

If a worker dies between sending a mail and storing the result, the outcome is unknown. Then a person decides,
unless the transport recognizes a repeated mail; ``docs/mail.md`` lists the transports.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import Any

from sqlalchemy import Connection, Engine, Row

from services.audit.append import append_all
from services.core.clock import utc_now
from services.core.db import get_engine, is_connection_fault, transaction
from services.core.errors import OutcomeUnknown, Refused, RetryLater, WorkError
from services.core.pg_arrays import arrays
from services.ledger.work import Done, Outcome, PreparedCall, WorkItem
from services.mail.delivery_log import DeliveryLog, SendResult
from services.mail.delivery_plan import (
    UNKNOWN,
    MailDelivery,
    may_repeat,
    plan_delivery,
    plan_entry,
    plan_suppressed,
    plan_unknown_outcome,
)
from services.mail.outbox import KEY_PREFIX, find_parts
from services.mail.routes import CircuitBreaker, find_routes, reserve_sends
from services.mail.suppressions import SUPPRESSED, find_stopped
from services.mail.transports import OpenTransports
from services.providers.outgoing_mail import AddressInvalid, AlreadySubmitted, OutgoingMail

WORKER_DIED = "the worker died while it sent the mail"

_FIND = """
select id, shop_id, kind, recipient, subject, text, html, headers, has_parts, status, attempt, token,
       message_id, transport, account, created_at, handed_over_at, is_commercial
  from mail_outbox where id = any(%(id)s::bigint[])
"""

_MARK_LOST = """
update mail_outbox set status = 'unknown', error_code = %(code)s, last_error = %(detail)s
 where id = any(%(id)s::bigint[]) and status = 'sending'
returning id
"""

_MARK_SUPPRESSED = """
update mail_outbox m set status = 'refused', error_code = %(code)s, last_error = v.detail,
       work_id = v.work_id
  from unnest(%(id)s::bigint[], %(work_id)s::bigint[], %(detail)s::text[]) as v(id, work_id, detail)
 where m.id = v.id and m.status in ('queued', 'refused')
"""


class MailSendHandler:
    """The handler of topic ``mail_send``."""

    def __init__(self, engine: Callable[[], Engine] = get_engine) -> None:
        self._engine = engine
        self._transports, self._breaker = OpenTransports(), CircuitBreaker()
        self._log = DeliveryLog(engine)

    def prepare(
        self, tx: Connection, items: Sequence[WorkItem], now: datetime
    ) -> Sequence[PreparedCall | Outcome]:
        """Return for each item the call that sends its mail, or the outcome without one.

        ``already_sent``: a worker stored the result and died, or a person marked the mail as sent.
        ``suppressed``: a commercial mail to an address that is suppressed, also since the mail was stored.
        """
        rows = find_outbox_rows(tx, (item.key for item in items))
        routes = find_routes(tx, {row.shop_id for row in rows.values()})
        stops = find_stopped(tx, rows.values())
        plans: list[MailDelivery | Outcome] = []
        for item in items:
            row = rows.get(item.key)
            plans.append(plan_delivery(item, row, routes[row.shop_id] if row else None, now))
        plans = _stop_suppressed(tx, plans, stops, now)
        deliveries = [plan for plan in plans if isinstance(plan, MailDelivery)]
        waits = reserve_sends(tx, [one for one in deliveries if not one.is_lost], now)
        _mark_lost(tx, [one for one in deliveries if one.is_lost], now)
        return [self._plan_call(plan, waits) if isinstance(plan, MailDelivery) else plan for plan in plans]

    def _plan_call(self, delivery: MailDelivery, waits: dict[int, Outcome]) -> PreparedCall | Outcome:
        if delivery.is_lost:
            return plan_unknown_outcome(delivery, WORKER_DIED)
        call = PreparedCall(item=delivery.item, act=partial(self._act, delivery))
        return waits.get(delivery.item.id, call)

    def _act(self, delivery: MailDelivery) -> Outcome:
        """Send the mail and store the result."""
        closed = self._breaker.find_fault(delivery.route)
        if closed is not None:
            return closed
        try:
            mail = self._make_mail(delivery)
            is_started = self._log.begin(delivery)
        except Exception as error:
            if not is_connection_fault(error):
                raise
            return RetryLater("mail.database_away", "the database connection broke before the mail was sent")
        if not is_started:
            return RetryLater("mail.changed_meanwhile", "another worker changed this mail: it is read again")
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
        self._log.end(SendResult(delivery, "sent", provider_id=provider_id, summary="sent"))
        return Done("sent")

    def _make_mail(self, delivery: MailDelivery) -> OutgoingMail:
        row = delivery.row
        mail = OutgoingMail(
            sender=delivery.route.sender,
            recipient=row.recipient,
            subject=row.subject,
            text=row.text,
            html=row.html,
            message_id=delivery.message_id,
            date=row.created_at,
            idempotency_key=f"{KEY_PREFIX}{row.token}",
            reference=str(row.id),
            headers=row.headers,
        )
        if not row.has_parts:
            return mail
        with transaction(self._engine()) as tx:
            attachments, inline = find_parts(tx, row.id)
        return replace(mail, attachments=attachments, inline=inline)

    def _record_not_sent(self, delivery: MailDelivery, fault: WorkError) -> Outcome:
        """Store that the mail was not accepted; return the outcome: it is tried again, or it is refused."""
        pause = self._breaker.open(delivery.route, fault)
        is_refused = isinstance(fault, Refused)
        status: str | None = "refused" if is_refused else "queued"
        if delivery.is_repeat:
            # Not accepted this time; the outcome of the attempt before is still unknown.
            status = "unknown" if is_refused else None
        summary = f"{status}: {fault.code}" if is_refused else ""
        self._log.end(SendResult(delivery, status, fault, summary=summary, pause=pause))
        return plan_unknown_outcome(delivery, fault.detail) if status == "unknown" else fault

    def _record_unknown(self, delivery: MailDelivery, fault: OutcomeUnknown) -> Outcome:
        """Store that no answer came: it is sent again if that is safe, else a person decides."""
        is_new = not isinstance(fault, AlreadySubmitted)
        if is_new and may_repeat(delivery.route, delivery.row.handed_over_at, utc_now()):
            self._log.end(SendResult(delivery, None, fault))
            return fault
        refused = plan_unknown_outcome(delivery, fault.detail)
        summary = f"handed over, outcome unknown: {fault.code}"
        self._log.end(SendResult(delivery, "unknown", refused, summary=summary))
        return refused


def find_outbox_rows(tx: Connection, keys: Iterable[str]) -> dict[str, Row[Any]]:
    """Return the mails whose ids are ``keys``, by key; a key that is not a number is left out."""
    ids = [int(key) for key in keys if key.isdecimal()]
    return {str(row.id): row for row in tx.exec_driver_sql(_FIND, {"id": ids})}


def _stop_suppressed(
    tx: Connection, plans: Sequence[MailDelivery | Outcome], stops: Mapping[int, str], now: datetime
) -> list[MailDelivery | Outcome]:
    """Refuse the mails in ``stops`` (their ids, with why); return ``plans`` with their outcomes.

    A mail of unknown outcome is not sent again, and stays unknown.
    """
    result: list[MailDelivery | Outcome] = []
    stopped: list[tuple[MailDelivery, Refused]] = []
    for plan in plans:
        if not isinstance(plan, MailDelivery) or plan.row.id not in stops:
            result.append(plan)
        elif plan.is_repeat:
            result.append(replace(plan, is_lost=True))
        else:
            fault = plan_suppressed(plan, stops[plan.row.id])
            stopped.append((plan, fault))
            result.append(Done("suppressed") if plan.row.is_commercial else fault)
    if stopped:
        rows = [(plan.row.id, plan.item.id, fault.detail) for plan, fault in stopped]
        tx.exec_driver_sql(_MARK_SUPPRESSED, arrays("id work_id detail", rows) | {"code": SUPPRESSED})
        summary = f"refused: {SUPPRESSED}"
        append_all(tx, [plan_entry(plan, "refused", summary) for plan, _ in stopped], now)
    return result


def _mark_lost(tx: Connection, lost: Sequence[MailDelivery], now: datetime) -> None:
    if not lost:
        return
    values = {"id": [one.row.id for one in lost], "code": UNKNOWN, "detail": WORKER_DIED}
    changed = set(tx.exec_driver_sql(_MARK_LOST, values).scalars())
    summary = "handed over, outcome unknown: the worker died"
    append_all(tx, [plan_entry(one, "unknown", summary) for one in lost if one.row.id in changed], now)
