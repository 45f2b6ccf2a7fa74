"""Lists the outbox, and stores a person's decision about a mail."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Connection, Row

from services.audit.append import Mutation, append_change
from services.core.db import Page, fetch_page
from services.core.errors import InputInvalid, ShopfleetError
from services.core.pg_arrays import text_array
from services.core.times import format_time
from services.ledger.accept import WorkRef, record_work
from services.ledger.filters import WorkFilter
from services.ledger.requeue import requeue
from services.ledger.work import FLEET
from services.mail.outbox import make_send_work
from services.providers.outgoing_mail import mask_address

BY_PERSON = "mail.settled_by_person"

_SELECT = """
select m.id, m.shop_id, m.kind, m.period, m.recipient, m.subject, m.status, m.attempt, m.transport,
       m.message_id, m.provider_id, m.error_code, m.last_error, m.created_at, m.handed_over_at, m.sent_at,
       m.is_commercial, m.delivered_at, m.bounced_at, m.complained_at, m.emptied_at,
       w.id as work_id, w.status as work_status, w.next_retry_at,
       m.status = 'unknown' or (m.status = 'sending'
         and coalesce(w.status, 'done') in ('dead', 'discarded', 'done')) as is_stuck
  from mail_outbox m left join work_queue w on w.id = m.work_id
"""

_FIND = f"""
{_SELECT} where (%(all)s or m.shop_id is not distinct from %(shop_id)s::int)
   and (cardinality(%(status)s::text[]) = 0 or m.status = any(%(status)s::text[]))
   and (%(kind)s = '' or m.kind = %(kind)s) and (not %(bounced)s or m.bounced_at is not null)
 order by m.id desc limit %(limit)s
"""

_FIND_EVENTS = "select at, kind, provider, detail from mail_events where mail_id = %(id)s order by at, id"

_FIND_CONTENT = "select text, headers from mail_outbox where id = %(id)s"
_FIND_PARTS = """
select name, content_type, is_inline, octet_length(content) from mail_parts where mail_id = %(id)s
 order by place
"""

_LOCK = "select status from mail_outbox where id = %(id)s for update"

# A higher attempt stops a worker that still has the row from storing a result. With a new token it is a new
# mail for every transport.
_RESEND = """
update mail_outbox set status = 'queued', attempt = attempt + 1, token = gen_random_uuid()::text,
       message_id = '', provider_id = '', error_code = null, last_error = null, handed_over_at = null,
       sent_at = null, delivered_at = null, bounced_at = null, complained_at = null
 where id = %(id)s
"""

_MARK_SENT = """
update mail_outbox set status = 'sent', attempt = attempt + 1, sent_at = %(now)s, error_code = %(code)s,
       last_error = %(reason)s
 where id = %(id)s
"""


class MailUnknown(InputInvalid):
    """There is no mail of that id."""


class MailDecisionInvalid(ShopfleetError):
    """The mail's status does not allow the decision. The message says what to do instead."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MailDecision:
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
    is_bounced: bool = False,
    limit: int = 50,
) -> Page[Row[Any]]:
    """Return mails with their work, newest first. ``shop_id`` None means all, ``FLEET`` the fleet's own.

    ``is_stuck``: the outcome is unknown, and no worker will change that.
    """
    values: dict[str, Any] = {
        "all": shop_id is None,
        "shop_id": None if shop_id == FLEET else shop_id,
        "status": text_array(list(statuses)),
        "kind": kind,
        "bounced": is_bounced,
    }
    return fetch_page(tx, _FIND, limit, values)


def get_mail(tx: Connection, mail_id: int) -> Row[Any]:
    """Return one mail as ``find_mails`` does; raise ``MailUnknown``."""
    row = tx.exec_driver_sql(f"{_SELECT} where m.id = %(id)s", {"id": mail_id}).one_or_none()
    if row is None:
        raise MailUnknown(f"there is no mail {mail_id}: `fleet mail list` lists the mails")
    return row


class MailPart(NamedTuple):
    """A file or picture of a mail, without its content."""

    name: str
    content_type: str
    is_inline: bool
    bytes: int


class MailContent(NamedTuple):
    """The plain text (empty after it was deleted by age), headers and parts of a mail."""

    text: str
    headers: Mapping[str, str]
    parts: Sequence[MailPart]


def find_mail_content(tx: Connection, mail_id: int) -> MailContent:
    """Return the content of a mail without its HTML; empty for no mail."""
    row = tx.exec_driver_sql(_FIND_CONTENT, {"id": mail_id}).first()
    parts = [MailPart(*one) for one in tx.exec_driver_sql(_FIND_PARTS, {"id": mail_id})]
    return MailContent(row.text, row.headers, parts) if row else MailContent("", {}, parts)


def list_mail_events(tx: Connection, mail_id: int) -> list[dict[str, Any]]:
    """Return what the mail service reported about the mail, in the order of time."""
    return [row._asdict() for row in tx.exec_driver_sql(_FIND_EVENTS, {"id": mail_id})]


def resend_mail(tx: Connection, decision: MailDecision, now: datetime) -> tuple[WorkRef, ...]:
    """Make the mail due again, as a new one; return its work, so that workers can be notified.

    For a mail of unknown outcome that did not arrive, or that its recipient lost.
    """
    line = _get_locked(tx, decision)
    if line.status == "sending" and not line.is_stuck:
        raise MailDecisionInvalid(
            f"mail {line.id} is being sent: try again in a minute; a dead worker is detected by then"
        )
    if line.emptied_at is not None:
        raise MailDecisionInvalid(
            f"the text of mail {line.id} was deleted at {format_time(line.emptied_at)} "
            "(RETENTION_MAIL_DAYS): it cannot be sent again"
        )
    tx.exec_driver_sql(_RESEND, {"id": line.id})
    refs = _requeue_mail(tx, line, decision, now)
    _audit(tx, line, decision, "mail.resend", "to be sent again", "queued", now)
    return refs


def mark_mail_delivered(tx: Connection, decision: MailDecision, now: datetime) -> tuple[WorkRef, ...]:
    """Count the mail as sent, because a person saw it; return its work, which settles as done."""
    line = _get_locked(tx, decision)
    if not line.is_stuck:
        raise MailDecisionInvalid(
            f"mail {line.id} is {line.status}: only a mail of unknown outcome can be marked as sent; to "
            f"drop waiting work, `celery -A tasks discard --id {line.work_id or '...'} --reason ...`"
        )
    values = {"id": line.id, "now": now, "code": BY_PERSON, "reason": decision.reason}
    tx.exec_driver_sql(_MARK_SENT, values)
    refs = _requeue_mail(tx, line, decision, now) if line.work_status in ("dead", "discarded") else ()
    _audit(tx, line, decision, "mail.forget", "counts as sent", "sent", now)
    return refs


def _get_locked(tx: Connection, decision: MailDecision) -> Row[Any]:
    if not decision.reason.strip():
        raise MailDecisionInvalid("reason is empty: write what you saw, for the audit")
    tx.exec_driver_sql(_LOCK, {"id": decision.mail_id})
    return get_mail(tx, decision.mail_id)


def _requeue_mail(
    tx: Connection, line: Row[Any], decision: MailDecision, now: datetime
) -> tuple[WorkRef, ...]:
    """Make the mail's work due now: the same item if it is not final, else a new one."""
    if line.work_id is not None and line.work_status in ("dead", "discarded", "error"):
        wanted = WorkFilter(ids=(line.work_id,), statuses=(line.work_status,))
        author = {"by": decision.by, "reason": decision.reason, "request_id": decision.request_id}
        return requeue(tx, wanted, now=now, **author)
    if line.work_status == "pending":
        return ()
    new = make_send_work(line.shop_id, line.id, "person", decision.request_id)
    return tuple(record_work(tx, [new], now))


def _audit(
    tx: Connection,
    line: Row[Any],
    decision: MailDecision,
    action: str,
    result: str,
    status: str,
    now: datetime,
) -> None:
    summary = f"mail {line.kind} to {mask_address(line.recipient)} {result}: {decision.reason}"
    after = {"status": status, "reason": decision.reason}
    mutation = Mutation("mail_outbox", str(line.id), summary, {"status": line.status}, after)
    append_change(
        tx, action, {line.shop_id: [mutation]}, now=now, by=decision.by, request_id=decision.request_id
    )
