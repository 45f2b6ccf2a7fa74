"""Lists the outbox for a person, and stores a person's decision about a mail of unknown outcome."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Connection

from services.audit.append import Mutation, append_audit
from services.core.errors import ShopfleetError
from services.core.pg_arrays import text_array
from services.ledger.accept import WorkRef, record_work
from services.ledger.filters import WorkFilter
from services.ledger.requeue import requeue
from services.ledger.work import FLEET, NewWork
from services.mail.outbox import TOPIC
from services.mail.tables import STATUSES
from services.providers.outgoing_mail import mask_address

BY_PERSON = "mail.settled_by_person"

_SELECT = """
select m.id, m.shop_id, m.kind, m.period, m.recipient, m.subject, m.status, m.attempt, m.transport,
       m.message_id, m.provider_id, m.error_code, m.last_error, m.created_at, m.handed_over_at, m.sent_at,
       w.id as work_id, w.status as work_status, w.next_retry_at
  from mail_outbox m left join work_queue w on w.id = m.work_id
"""

_FIND = f"""
{_SELECT} where (%(all)s or m.shop_id is not distinct from %(shop_id)s::int)
   and (cardinality(%(status)s::text[]) = 0 or m.status = any(%(status)s::text[]))
   and (%(kind)s = '' or m.kind = %(kind)s)
 order by m.id desc limit %(limit)s
"""

_GET = f"{_SELECT} where m.id = %(id)s"

_LOCK = "select status from mail_outbox where id = %(id)s for update"

# The attempt goes up, so a worker that still has the row cannot store a result. A new token makes it a new
# mail for every transport, as the person decided.
_RESEND = """
update mail_outbox set status = 'queued', attempt = attempt + 1, token = gen_random_uuid()::text,
       message_id = '', provider_id = '', error_code = null, last_error = null, handed_over_at = null,
       sent_at = null
 where id = %(id)s
"""

_MARK_SENT = """
update mail_outbox set status = 'sent', attempt = attempt + 1, sent_at = %(now)s, error_code = %(code)s,
       last_error = %(reason)s
 where id = %(id)s
"""


class MailUnknown(ShopfleetError):
    """There is no mail of that id."""


class DecisionInvalid(ShopfleetError):
    """The mail's status does not allow the decision. The message says what to do instead."""


class MailLine(NamedTuple):
    """A mail in a list; ``work_status`` is that of the work item that sends it."""

    id: int
    shop_id: int | None
    kind: str
    period: str
    recipient: str
    subject: str
    status: str
    attempt: int
    transport: str
    message_id: str
    provider_id: str
    error_code: str | None
    last_error: str | None
    created_at: datetime
    handed_over_at: datetime | None
    sent_at: datetime | None
    work_id: int | None
    work_status: str | None
    next_retry_at: datetime | None

    @property
    def is_stuck(self) -> bool:
        """Whether its outcome is unknown and no worker will find it out."""
        return self.status == "unknown" or (
            self.status == "sending" and self.work_status in (None, "dead", "discarded", "done")
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """Who decides about one mail, and why."""

    mail_id: int
    by: str
    reason: str
    request_id: str = ""


def find_mails(
    tx: Connection,
    *,
    shop_id: int | None = None,
    statuses: Sequence[str] = (),
    kind: str = "",
    limit: int = 50,
) -> list[MailLine]:
    """Return mails, newest first. ``shop_id`` None is all of them, ``FLEET`` the fleet's own."""
    for status in statuses:
        if status not in STATUSES:
            raise DecisionInvalid(f"status={status!r} should be one of {', '.join(STATUSES)}")
    values: dict[str, Any] = {
        "all": shop_id is None,
        "shop_id": None if shop_id == FLEET else shop_id,
        "status": text_array(list(statuses)),
        "kind": kind,
        "limit": limit,
    }
    return [MailLine(**row._mapping) for row in tx.exec_driver_sql(_FIND, values)]


def get_mail(tx: Connection, mail_id: int) -> MailLine:
    """Return one mail; raise ``MailUnknown``."""
    row = tx.exec_driver_sql(_GET, {"id": mail_id}).one_or_none()
    if row is None:
        raise MailUnknown(f"there is no mail {mail_id}: `fleet mail list` shows those there are")
    return MailLine(**row._mapping)


def resend_mail(tx: Connection, decision: Decision, now: datetime) -> tuple[WorkRef, ...]:
    """Send the mail once more, as a new one; return its work, to notify workers of.

    For a mail of unknown outcome that did not arrive, or one that its reader lost.
    """
    line = _get_locked(tx, decision)
    if line.status == "sending" and not line.is_stuck:
        raise DecisionInvalid(
            f"mail {line.id} is being sent: try again in a minute, when a dead worker is known"
        )
    tx.exec_driver_sql(_RESEND, {"id": line.id})
    refs = _plan_again(tx, line, decision, now)
    _audit(tx, line, decision, "mail.resend", "to be sent again", "queued", now)
    return refs


def mark_mail_delivered(tx: Connection, decision: Decision, now: datetime) -> tuple[WorkRef, ...]:
    """Count the mail as sent, because a person saw that it arrived; return its work, which will be done."""
    line = _get_locked(tx, decision)
    if not line.is_stuck:
        raise DecisionInvalid(
            f"mail {line.id} is {line.status}: only one of unknown outcome can be marked as sent; to drop "
            f"work that waits, `celery -A tasks discard --id {line.work_id or '...'} --reason ...`"
        )
    values = {"id": line.id, "now": now, "code": BY_PERSON, "reason": decision.reason}
    tx.exec_driver_sql(_MARK_SENT, values)
    refs = _plan_again(tx, line, decision, now) if line.work_status in ("dead", "discarded") else ()
    _audit(tx, line, decision, "mail.forget", "counts as sent", "sent", now)
    return refs


def _get_locked(tx: Connection, decision: Decision) -> MailLine:
    if not decision.reason.strip():
        raise DecisionInvalid("reason is empty: write what you saw, for the audit")
    tx.exec_driver_sql(_LOCK, {"id": decision.mail_id})
    return get_mail(tx, decision.mail_id)


def _plan_again(tx: Connection, line: MailLine, decision: Decision, now: datetime) -> tuple[WorkRef, ...]:
    """Make the mail's work due now: the same item if it is not final, else a new one."""
    if line.work_id is not None and line.work_status in ("dead", "discarded", "error"):
        wanted = WorkFilter(ids=(line.work_id,), statuses=(line.work_status,))
        return requeue(
            tx,
            wanted,
            now=now,
            by=decision.by,
            reason=decision.reason,
            request_id=decision.request_id,
        )
    if line.work_status == "pending":
        return ()
    shop_id = FLEET if line.shop_id is None else line.shop_id
    new = NewWork(
        shop_id=shop_id, topic=TOPIC, key=str(line.id), origin="person", request_id=decision.request_id
    )
    return tuple(record_work(tx, [new], now))


def _audit(
    tx: Connection, line: MailLine, decision: Decision, action: str, result: str, status: str, now: datetime
) -> None:
    summary = f"mail {line.kind} to {mask_address(line.recipient)} {result}: {decision.reason}"
    mutation = Mutation(
        "mail_outbox",
        str(line.id),
        summary,
        {"status": line.status},
        {"status": status, "reason": decision.reason},
    )
    append_audit(
        tx,
        shop_id=line.shop_id,
        staff_label=decision.by,
        action=action,
        request_id=decision.request_id,
        now=now,
        mutations=[mutation],
    )
