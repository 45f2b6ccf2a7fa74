"""Personal data in mails: recipients, and customers named in a shop's mails, such as a digest."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row

from services.core.pg_arrays import int_array
from services.mail.delivery_plan import REDACTED_RECIPIENT
from services.mail.suppressions import hash_address, normalize_address
from services.mail.tables import mail_outbox, mail_suppressions
from services.privacy.body_redaction import HIDDEN, hide_text, normalize_email
from services.privacy.subject import DataSubject, PersonalDataRows, PersonalDataSource
from services.privacy.text_data import has_subject, scan_rows, update_rows

# Attachments are searched too, exports included.
_FIND_MAILS = """
select m.id, m.kind, m.recipient, m.subject, m.text, m.html, coalesce(m.last_error, '') as last_error,
       m.created_at
  from mail_outbox m
 where m.shop_id = %(shop_id)s
   and (%(whole_shop)s
        or encode(convert_to(concat_ws(' ', m.recipient, m.subject, m.text, m.html, m.last_error), 'UTF8'),
                  'escape') collate "C" ~* %(pattern)s
        or (m.has_parts and exists (select from mail_parts p where p.mail_id = m.id
                                       and encode(p.content, 'escape') collate "C" ~* %(pattern)s)))
 order by m.id
"""

_FIND_PARTS = "select place, name, content from mail_parts where mail_id = %(id)s order by place"

# A waiting mail to nobody is not sent. The new key is unique and has no address.
_EMPTY_MAILS = """
update mail_outbox
   set recipient = %(nobody)s, subject = %(hidden)s, text = '', html = '', last_error = null,
       dedupe_key = 'redacted:' || id, headers = '{}',
       status = case when status = 'queued' then 'refused' else status end,
       error_code = case when status = 'queued' then 'privacy.redacted' else error_code end
 where id = any(%(id)s::bigint[]) and (recipient, subject, text, html, coalesce(last_error, ''))
       <> (%(nobody)s, %(hidden)s, '', '', '')
"""

_EMPTY_PARTS = """
update mail_parts p set content = %(gone)s, content_type = 'text/plain'
  from unnest(%(id)s::bigint[], %(place)s::int[]) as v(id, place)
 where p.mail_id = v.id and p.place = v.place and p.content <> %(gone)s
"""

_FIND_SUPPRESSIONS = """
select id, shop_id, address, reason, created_at from mail_suppressions
 where shop_id = %(shop_id)s and address like '%%@%%'
   and (%(whole_shop)s or address = any(%(addresses)s::text[]))
 order by id
"""

_GONE = b"This file was removed: it had data of a person who requested to be erased.\n"


def find_mail_rows(tx: Connection, subject: DataSubject) -> PersonalDataRows:
    """Yield the mails to or about the subject, oldest first, with the names of their attachments."""
    for mail, parts in _find_mails(tx, subject):
        yield {
            "kind": mail.kind,
            "written_at": mail.created_at,
            "to": mail.recipient,
            "subject": mail.subject,
            "text": mail.text,
            "files": [part.name for part in parts],
        }


def redact_mails(tx: Connection, subject: DataSubject, _now: datetime) -> Mapping[str, int]:
    """Empty the mails to the subject and address them to nobody; hide the subject in other mails.

    Removes attachments that name the subject. A waiting mail to the subject is not sent. For a whole shop all
    mails are emptied.
    """
    emptied: list[int] = []
    parts: list[tuple[int, int]] = []

    def redact(mail: Row[Any]) -> Mapping[str, Any]:
        is_redacted = mail.recipient == REDACTED_RECIPIENT
        if subject.whole_shop or is_redacted or normalize_email(mail.recipient) in subject.emails:
            emptied.append(mail.id)
            return {}
        texts = {name: getattr(mail, name) for name in ("subject", "text", "html", "last_error")}
        hidden: dict[str, str | None] = {name: hide_text(text, subject) for name, text in texts.items()}
        return {} if hidden == texts else hidden | {"last_error": hidden["last_error"] or None}

    def collect_parts() -> Iterator[Row[Any]]:
        for mail, named in _find_mails(tx, subject):
            parts.extend((mail.id, part.place) for part in named)
            yield mail

    count = update_rows(tx, mail_outbox, collect_parts(), redact)
    fixed = {"nobody": REDACTED_RECIPIENT, "hidden": HIDDEN}
    count += tx.exec_driver_sql(_EMPTY_MAILS, fixed | {"id": int_array(emptied)}).rowcount
    values = {"id": int_array(mail for mail, _ in parts), "place": int_array(place for _, place in parts)}
    removed = tx.exec_driver_sql(_EMPTY_PARTS, values | {"gone": _GONE}).rowcount
    return {"mail_outbox": count, "mail_parts": removed}


def _find_mails(tx: Connection, subject: DataSubject) -> Iterator[tuple[Row[Any], list[Row[Any]]]]:
    """Yield the mails, each with its attachments that name the subject."""
    for mail in scan_rows(tx, _FIND_MAILS, subject):
        parts = [
            part
            for part in tx.exec_driver_sql(_FIND_PARTS, {"id": mail.id})
            if has_subject(subject, bytes(part.content).decode("utf-8", "replace"))
        ]
        if parts or has_subject(subject, mail.recipient, mail.subject, mail.text, mail.html, mail.last_error):
            yield mail, parts


MAILS = PersonalDataSource(
    name="mails that were written",
    tables=("mail_outbox", "mail_parts"),
    find=find_mail_rows,
    redact=redact_mails,
)


def find_suppression_rows(tx: Connection, subject: DataSubject) -> PersonalDataRows:
    """Yield why and since when the subject's addresses get no mail."""
    for row in _find_suppressions(tx, subject):
        yield {"address": row.address, "no_mail_because": row.reason, "since": row.created_at}


def redact_suppressions(tx: Connection, subject: DataSubject, _now: datetime) -> Mapping[str, int]:
    """Replace the subject's addresses by their hash: they cannot be read, and still get no mail."""

    def redact(row: Row[Any]) -> Mapping[str, Any]:
        return {"address": hash_address(row.shop_id, row.address)}

    found = iter(_find_suppressions(tx, subject))
    return {"mail_suppressions": update_rows(tx, mail_suppressions, found, redact)}


def _find_suppressions(tx: Connection, subject: DataSubject) -> Sequence[Row[Any]]:
    values = {
        "shop_id": subject.shop_id,
        "whole_shop": subject.whole_shop,
        "addresses": [normalize_address(address) for address in subject.emails],
    }
    return tx.exec_driver_sql(_FIND_SUPPRESSIONS, values).all()


MAIL_SUPPRESSIONS = PersonalDataSource(
    name="addresses that get no mail",
    tables=("mail_suppressions",),
    find=find_suppression_rows,
    redact=redact_suppressions,
)
