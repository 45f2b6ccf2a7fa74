"""Personal data in mails: recipients, and customers named in a shop's own mails, such as a digest."""

from collections.abc import Iterator, Mapping
from datetime import datetime
from itertools import islice
from typing import Any, NamedTuple

from sqlalchemy import Connection

from services.core.pg_arrays import int_array, text_array
from services.mail.delivery_plan import NOBODY
from services.privacy.redaction import HIDDEN, hide_text, names_subject, normal_email
from services.privacy.scan import SET_SIZE, scan_rows
from services.privacy.subject import Holder, Subject

_GONE = b"This file was removed: it held data of a person who asked for it to be erased.\n"

# Bytes as text, as the pattern needs them. Attachments are searched, too, among them exports.
_FIND = """
select m.id, m.kind, m.period, m.status, m.recipient, m.subject, m.text, m.html,
       coalesce(m.last_error, '') as last_error, m.created_at
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

# A waiting mail to nobody is not sent. The key stays unique, without the address that was in it.
_BLANK = """
update mail_outbox m
   set recipient = v.recipient, subject = v.subject, text = v.text, html = v.html,
       last_error = nullif(v.last_error, ''),
       dedupe_key = case when v.is_theirs then 'redacted:' || m.id else m.dedupe_key end,
       headers = case when v.is_theirs then '{}'::jsonb else m.headers end,
       status = case when v.is_theirs and m.status = 'queued' then 'refused' else m.status end,
       error_code = case when v.is_theirs and m.status = 'queued' then 'privacy.redacted'
                         else m.error_code end
  from unnest(%(id)s::bigint[], %(recipient)s::text[], %(subject)s::text[], %(text)s::text[],
              %(html)s::text[], %(last_error)s::text[], %(is_theirs)s::boolean[])
       as v(id, recipient, subject, text, html, last_error, is_theirs)
 where m.id = v.id
"""

_BLANK_PARTS = """
update mail_parts p set content = %(gone)s, content_type = 'text/plain'
  from unnest(%(mail_id)s::bigint[], %(place)s::int[]) as v(mail_id, place)
 where p.mail_id = v.mail_id and p.place = v.place and p.content <> %(gone)s
"""


class _Mail(NamedTuple):
    id: int
    kind: str
    period: str
    status: str
    recipient: str
    subject: str
    text: str
    html: str
    last_error: str
    created_at: datetime


def find_mail_rows(tx: Connection, subject: Subject) -> Iterator[Mapping[str, Any]]:
    """Yield the mails to or about the subject, oldest first, with the names of their attachments."""
    for mail, files in _find(tx, subject):
        yield {
            "kind": mail.kind,
            "written_at": mail.created_at,
            "to": mail.recipient,
            "subject": mail.subject,
            "text": mail.text,
            "files": [name for _, name in files],
        }


def redact_mails(tx: Connection, subject: Subject, now: datetime) -> Mapping[str, int]:
    """Empty the mails to the subject and address them to nobody; hide the subject in other mails.

    Removes attachments that name the subject. A waiting mail to the subject is not sent. For a whole shop all
    mails are emptied.
    """
    del now
    count = {"mail_outbox": 0, "mail_parts": 0}
    found = _find(tx, subject)
    while chosen := list(islice(found, SET_SIZE)):
        redacted = [(mail, *redacted_mail(mail, subject)) for mail, _ in chosen]
        changed = [(kept, is_theirs) for mail, kept, is_theirs in redacted if kept != mail]
        count["mail_outbox"] += _blank_mails(tx, changed)
        places = [(mail.id, place) for mail, files in chosen for place, _ in files]
        count["mail_parts"] += _blank_parts(tx, places)
    return count


def redacted_mail(mail: _Mail, subject: Subject) -> tuple[_Mail, bool]:
    if subject.whole_shop or normal_email(mail.recipient) in subject.emails or mail.recipient == NOBODY:
        return mail._replace(recipient=NOBODY, subject=HIDDEN, text="", html="", last_error=""), True
    hidden = mail._replace(
        subject=hide_text(mail.subject, subject),
        text=hide_text(mail.text, subject),
        html=hide_text(mail.html, subject),
        last_error=hide_text(mail.last_error, subject),
    )
    return hidden, False


def _find(tx: Connection, subject: Subject) -> Iterator[tuple[_Mail, list[tuple[int, str]]]]:
    """Yield the mails, each with places and names of its attachments that name the subject."""
    for row in scan_rows(tx, _FIND, subject, with_ids=False):
        mail = _Mail(**row._mapping)
        files = [
            (place, name)
            for place, name, content in tx.exec_driver_sql(_FIND_PARTS, {"id": mail.id})
            if subject.whole_shop or names_subject(bytes(content).decode("utf-8", "replace"), subject)
        ]
        if subject.whole_shop or files or names_subject(_words(mail), subject):
            yield mail, files


def _words(mail: _Mail) -> str:
    return "\n".join((mail.recipient, mail.subject, mail.text, mail.html, mail.last_error))


def _blank_mails(tx: Connection, mails: list[tuple[_Mail, bool]]) -> int:
    if not mails:
        return 0
    values = {
        "id": int_array(mail.id for mail, _ in mails),
        "is_theirs": "{" + ",".join("t" if is_theirs else "f" for _, is_theirs in mails) + "}",
    }
    for name in ("recipient", "subject", "text", "html", "last_error"):
        values[name] = text_array([getattr(mail, name) for mail, _ in mails])
    return tx.exec_driver_sql(_BLANK, values).rowcount


def _blank_parts(tx: Connection, parts: list[tuple[int, int]]) -> int:
    if not parts:
        return 0
    values = {
        "mail_id": int_array(mail_id for mail_id, _ in parts),
        "place": int_array(place for _, place in parts),
        "gone": _GONE,
    }
    return tx.exec_driver_sql(_BLANK_PARTS, values).rowcount


MAILS = Holder(
    name="mails that were written",
    tables=("mail_outbox", "mail_parts"),
    find=find_mail_rows,
    redact=redact_mails,
)
