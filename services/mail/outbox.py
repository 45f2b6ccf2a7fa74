"""The outbox: stores each mail once, with the work item that sends it."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, select

from services.core.counts import format_count
from services.core.pg_arrays import array_parameters, encode_rows
from services.ledger.work import FLEET, NewWork
from services.mail.message import Mail, MailInvalid, make_headers
from services.mail.tables import mail_outbox, mail_parts
from services.providers.outgoing_mail import Attachment, one_line

TOPIC = "mail_send"
KEY_PREFIX = "shopfleet-"
"""A mail's idempotency key is this and its token."""
LARGEST_BYTES = 25 * 1024 * 1024
"""The largest mail with all its parts that most mail servers accept."""

# The key never expires, so a mail is stored once, sent or not. A transaction waits for another one's
# uncommitted row with the same key.
_COLUMNS = (
    "shop_id", "dedupe_key", "kind", "period", "recipient", "subject", "text", "html", "headers", "has_parts",
    "is_commercial", "request_id", "created_at",
)  # fmt: skip
_RECORD = f"""
insert into mail_outbox ({", ".join(_COLUMNS)})
select * from unnest({array_parameters(mail_outbox, _COLUMNS)})
    on conflict on constraint uq_mail_outbox_key do nothing
returning id, shop_id, dedupe_key
"""  # noqa: S608 - our own names


def record_mails(
    tx: Connection, mails: Sequence[Mail], now: datetime, *, request_id: str = ""
) -> list[NewWork]:
    """Store the mails that are not in the outbox yet; return the work that sends these.

    A mail with the shop and ``dedupe_key`` of a stored one is ignored, also if both are stored at the same
    time.
    """
    if not mails:
        return []
    first: dict[tuple[int | None, str], Mail] = {}
    for mail in mails:
        _check_size(mail)
        first.setdefault((mail.shop_id, make_storable(mail.dedupe_key)), mail)
    # Sorted, so that two transactions with the same mails do not deadlock.
    keys = sorted(first, key=lambda key: (key[0] or FLEET, key[1]))
    usual = {"request_id": request_id, "created_at": now}
    made = [_make_row(first[key], key[1]) | usual for key in keys]
    rows = encode_rows(mail_outbox, _COLUMNS, [[row[name] for name in _COLUMNS] for row in made])
    stored = tx.exec_driver_sql(_RECORD, rows).all()
    for mail_id, shop_id, key in stored:
        _record_parts(tx, mail_id, first[shop_id, key])
    return [make_send_work(shop_id, mail_id, "mail", request_id) for mail_id, shop_id, _ in sorted(stored)]


def make_send_work(shop_id: int | None, mail_id: int, origin: str, request_id: str) -> NewWork:
    """Return the work that sends a mail of the outbox."""
    shop = FLEET if shop_id is None else shop_id
    return NewWork(shop_id=shop, topic=TOPIC, key=str(mail_id), origin=origin, request_id=request_id)


def find_parts(tx: Connection, mail_id: int) -> tuple[tuple[Attachment, ...], tuple[Attachment, ...]]:
    """Return the (attachments, inline images) of a mail."""
    parts: dict[bool, list[Attachment]] = {False: [], True: []}
    stored = select(mail_parts).where(mail_parts.c.mail_id == mail_id).order_by(mail_parts.c.place)
    for row in tx.execute(stored):
        part = Attachment(
            name=row.name,
            content_type=row.content_type,
            content=bytes(row.content),
            content_id=row.content_id,
        )
        parts[row.is_inline].append(part)
    return tuple(parts[False]), tuple(parts[True])


def _make_row(mail: Mail, key: str) -> dict[str, Any]:
    return {
        "shop_id": mail.shop_id,
        "dedupe_key": key,
        "kind": make_storable(mail.kind),
        "period": make_storable(mail.period),
        "recipient": make_storable(mail.recipient.strip()),
        "subject": make_storable(one_line(mail.subject)),
        "text": make_storable(mail.text),
        "html": make_storable(mail.html),
        "headers": {name: make_storable(one_line(value)) for name, value in make_headers(mail).items()},
        "has_parts": bool(mail.attachments or mail.inline),
        "is_commercial": bool(mail.list_unsubscribe),
    }


def _record_parts(tx: Connection, mail_id: int, mail: Mail) -> None:
    parts = [(part, False) for part in mail.attachments] + [(part, True) for part in mail.inline]
    rows = [
        {
            "mail_id": mail_id,
            "place": place,
            "name": make_storable(part.name),
            "content_type": make_storable(part.content_type),
            "content_id": make_storable(part.content_id),
            "is_inline": is_inline,
            "content": part.content,
        }
        for place, (part, is_inline) in enumerate(parts)
    ]
    if rows:
        tx.execute(mail_parts.insert(), rows)


def _check_size(mail: Mail) -> None:
    size = len(mail.text) + len(mail.html) + sum(len(p.content) for p in (*mail.attachments, *mail.inline))
    if size > LARGEST_BYTES:
        raise MailInvalid(
            f"mail {mail.kind} of {mail.period} has {format_count(size, 'byte')}: at most {LARGEST_BYTES:,} "
            "can be sent, so link to the file instead"
        )


def make_storable(text: str) -> str:
    """Return ``text`` without characters that PostgreSQL cannot store: NUL and lone surrogates."""
    text = text.replace("\0", "")
    return text if text.isascii() else text.encode("utf-8", "replace").decode()
