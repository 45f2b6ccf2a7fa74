"""The weekly letters to owners: a person reads, changes, approves or holds each; and planned changes."""

from collections.abc import Mapping
from datetime import date, datetime
from typing import Any, Unpack

from sqlalchemy import Connection, Row, Select, delete, insert, or_, select, update

from services.audit.append import Author, Mutation, append_change
from services.closing.letter_tables import owner_letters, planned_changes
from services.core.counts import format_count
from services.core.db import Page, fetch_page
from services.core.errors import InputInvalid, ShopfleetError
from services.core.fields import LARGEST_COUNT, LONGEST_TEXT
from services.ledger.work import NewWork
from services.mail.compose import SUBJECT_CHARACTERS
from services.mail.tables import mail_outbox
from services.shops.tables import shops

TOPIC = "letter_send"
LONGEST_BODY = 10_000
"""Characters of a letter: about three printed pages."""

_column = owner_letters.c
_SELECT: Select[Any] = (
    select(
        *owner_letters.columns,
        shops.c.slug,
        shops.c.timezone,
        mail_outbox.c.status.label("mail_status"),
        mail_outbox.c.sent_at,
        mail_outbox.c.error_code,
    )
    .join(shops, shops.c.id == _column.shop_id)
    .outerjoin(mail_outbox, mail_outbox.c.id == _column.mail_id)
)


def list_letters(
    tx: Connection, *, shop_ids: list[int] | None = None, week: str = "", limit: int = 50
) -> Page[Row[Any]]:
    """Return letters, the newest first, those that a person can still change before the others."""
    wanted = _SELECT.order_by(_column.week.desc(), _column.status == "mailed", shops.c.slug)
    if shop_ids is not None:
        wanted = wanted.where(_column.shop_id.in_(shop_ids))
    if week:
        wanted = wanted.where(_column.week == week)
    return fetch_page(tx, wanted, limit)


def get_letter(tx: Connection, letter_id: int) -> Row[Any]:
    """Return a letter with the state of its mail; raise ``InputInvalid`` for an unknown id."""
    row: Row[Any] | None = tx.execute(_SELECT.where(_column.id == letter_id)).first()
    if row is None:
        raise InputInvalid(f"no letter has the id {letter_id}: `fleet letters list` shows them")
    return row


def describe_state(letter: Row[Any]) -> str:
    """Return ``draft``, ``held``, ``approved``, or the status of its mail, such as ``sent``."""
    return str(letter.mail_status or letter.status)


def find_version(letter: Row[Any]) -> str:
    """Return a text that differs after each change and decision of a person."""
    return f"{letter.status} {letter.edited_at or ''} {letter.decided_at or ''}"


def edit_letter(
    tx: Connection, letter_id: int, subject: str, body: str, *, seen: str = "", **author: Unpack[Author]
) -> Row[Any]:
    """Replace the text of a letter that is not mailed yet; return it as stored. Raises ``InputInvalid``.

    ``seen`` is the version that the person read: another one is not changed, approved or held.
    """
    subject = " ".join(subject.split())
    body = "\n\n".join(part.strip() for part in body.replace("\r\n", "\n").split("\n\n") if part.strip())
    for name, text, most in (("subject", subject, SUBJECT_CHARACTERS), ("body", body, LONGEST_BODY)):
        if not text or len(text) > most:
            raise InputInvalid(
                f"{name} has {format_count(len(text), 'character')}: it should have 1 to {most:,}"
            )
    change = {"subject": subject, "body": body, "edited_by": author["by"], "edited_at": author["now"]}
    return _change(tx, letter_id, "letter.edit", "text changed", change, seen, **author)


def approve_letter(
    tx: Connection, letter_id: int, *, seen: str = "", **author: Unpack[Author]
) -> tuple[Row[Any], NewWork]:
    """Release a letter; return it, and the work that sends it now."""
    letter = _change(tx, letter_id, "letter.approve", "approved", {"status": "approved"}, seen, **author)
    return letter, make_send_work(letter.id, letter.shop_id, None, author.get("request_id", ""))


def hold_letter(tx: Connection, letter_id: int, *, seen: str = "", **author: Unpack[Author]) -> Row[Any]:
    """Keep a letter until a person approves it; return it."""
    return _change(tx, letter_id, "letter.hold", "held", {"status": "held"}, seen, **author)


def make_send_work(letter_id: int, shop_id: int, at: datetime | None, request_id: str) -> NewWork:
    """Return the work that sends a letter at ``at``, or now. A second one of a letter finds it mailed."""
    return NewWork(
        shop_id=shop_id,
        topic=TOPIC,
        key=f"letter:{letter_id}",
        payload={"letter": letter_id},
        not_before=at,
        request_id=request_id,
    )


def _change(
    tx: Connection,
    letter_id: int,
    action: str,
    what: str,
    change: Mapping[str, Any],
    seen: str,
    **author: Unpack[Author],
) -> Row[Any]:
    # Two people at once: the second reads what the first decided.
    tx.execute(select(_column.id).where(_column.id == letter_id).with_for_update())
    before = get_letter(tx, letter_id)
    if seen and seen != find_version(before):
        person = before.edited_by if what == "text changed" else before.decided_by or before.edited_by
        raise ShopfleetError(
            f"nothing was changed: since you opened this letter, {person or 'another person'} changed it or "
            f"decided about it, and it is {describe_state(before)} now. Read it again"
        )
    values = dict(change)
    if "status" in change:
        decided = {"decided_by": author["by"], "decided_at": author["now"]}
        values |= decided | {"reason": author.get("reason", "")}
    is_open = (_column.id == letter_id) & (_column.status != "mailed")
    if not tx.execute(update(owner_letters).where(is_open).values(values)).rowcount:
        raise ShopfleetError(
            f"letter {letter_id} of {before.slug} for {before.week} is {describe_state(before)} already: "
            "write to the owner yourself"
        )
    summary = f"owner letter of {before.week} {what}"
    # Not the body: a chain is never redacted.
    old = {name: getattr(before, name) for name in change if name in ("status", "subject")}
    new = {name: change[name] for name in old}
    mutation = Mutation("owner_letters", str(letter_id), summary, old, new)
    append_change(tx, action, {before.shop_id: [mutation]}, **author)
    return get_letter(tx, letter_id)


def list_planned(tx: Connection, since: date, shop_id: int | None = None) -> list[Row[Any]]:
    """Return the planned changes from ``since`` on, with ``slug``: of one shop and the fleet, or of all."""
    table = planned_changes
    wanted: Select[Any] = select(*table.columns, shops.c.slug).outerjoin(shops, shops.c.id == table.c.shop_id)
    wanted = wanted.where(table.c.planned_on >= since).order_by(table.c.planned_on, table.c.id)
    if shop_id is not None:
        wanted = wanted.where(or_(table.c.shop_id.is_(None), table.c.shop_id == shop_id))
    return [*tx.execute(wanted)]


def get_planned(tx: Connection, number: int) -> Row[Any]:
    """Return a planned change; raise ``InputInvalid`` for an unknown id."""
    row = tx.execute(
        select(planned_changes).where(planned_changes.c.id == min(number, LARGEST_COUNT))
    ).first()
    if row is None:
        raise InputInvalid(f"no planned change has the id {number}: `fleet letters planned` shows them")
    return row


def add_planned(
    tx: Connection, text: str, planned_on: date, today: date, shop_id: int | None, **author: Unpack[Author]
) -> int:
    """Add a change that letters announce until its day is over; return its id. Raises ``InputInvalid``."""
    text = " ".join(text.split())
    if not text or len(text) > LONGEST_TEXT:
        raise InputInvalid(
            f"text has {format_count(len(text), 'character')}: it should have 1 to {LONGEST_TEXT:,}"
        )
    if planned_on < today:
        raise InputInvalid(f"on={planned_on} is over: it should be {today} or later")
    values = {"shop_id": shop_id, "planned_on": planned_on, "text": text}
    added = values | {"added_by": author["by"], "added_at": author["now"]}
    number = int(
        tx.execute(insert(planned_changes).values(added).returning(planned_changes.c.id)).scalar_one()
    )
    after = values | {"planned_on": planned_on.isoformat()}
    mutation = Mutation("planned_changes", str(number), f"change planned on {planned_on}", None, after)
    append_change(tx, "planned_change.add", {shop_id: [mutation]}, **author)
    return number


def remove_planned(tx: Connection, number: int, **author: Unpack[Author]) -> Row[Any]:
    """Delete a planned change; return it. Raises ``InputInvalid`` for an unknown id."""
    row = get_planned(tx, number)
    tx.execute(delete(planned_changes).where(planned_changes.c.id == number))
    before = {"shop_id": row.shop_id, "planned_on": row.planned_on.isoformat(), "text": row.text}
    mutation = Mutation("planned_changes", str(number), f"change of {row.planned_on} removed", before, None)
    append_change(tx, "planned_change.remove", {row.shop_id: [mutation]}, **author)
    return row
