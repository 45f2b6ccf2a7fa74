"""The texts of a series: the usual ones, and those that a shop wrote."""

import re
from collections.abc import Mapping
from typing import Unpack

from sqlalchemy import Connection

from services.audit.append import Author, Mutation, append_change
from services.core.counts import format_count
from services.core.errors import InputInvalid, NothingToDo
from services.core.log_redaction import quote_value
from services.outreach.series import Series
from services.shops.shops import Shop

OutreachText = tuple[str, str]
"""A subject and a body: plain text, its paragraphs apart by an empty line.

``{name}``, ``{shop}`` and ``{last_active}`` are replaced by the values of each person.
"""

PLACEHOLDERS = ("name", "shop", "last_active")
_BRACES = re.compile(r"\{([^{}]*)\}")

USUAL: Mapping[tuple[str, str], OutreachText] = {
    ("reminders", ""): (
        "A reminder from {shop}",
        "Hello {name},\n\nthere was no activity in your account at {shop} yesterday or today. Your last "
        "activity was on {last_active}.\n\nA reminder goes out at most once a day.",
    ),
    ("founder", "day1"): (
        "Thank you for signing up at {shop}",
        "Hello {name},\n\nthank you for signing up at {shop}.\n\nIf a question comes up, you reach us at the "
        "address below.",
    ),
    ("founder", "day2"): (
        "Your first days with {shop}",
        "Hello {name},\n\nyou signed up at {shop} a short time ago. If something is unclear, please write to "
        "us: the address is below.",
    ),
    ("founder", "day3"): (
        "What can {shop} do better?",
        "Hello {name},\n\nwe would like to know what you miss at {shop}: please write to us at the address "
        "below.\n\nThis is the last mail of this sequence.",
    ),
}
LONGEST_SUBJECT, LONGEST_BODY = 150, 10_000

_FIND = "select series, step, subject, body from outreach_texts where shop_id = %(shop_id)s"
_SAVE = """
insert into outreach_texts (shop_id, series, step, subject, body, changed_at)
values (%(shop_id)s, %(series)s, %(step)s, %(subject)s, %(body)s, %(now)s)
on conflict (shop_id, series, step)
do update set subject = excluded.subject, body = excluded.body, changed_at = excluded.changed_at
"""
_DELETE = "delete from outreach_texts where shop_id = %(shop_id)s and series = %(series)s and step = %(step)s"


def read_texts(tx: Connection, shop_id: int) -> Mapping[tuple[str, str], OutreachText]:
    """Return the text of each (series, step) of the shop; the step of reminders is empty."""
    own = tx.exec_driver_sql(_FIND, {"shop_id": shop_id})
    return {**USUAL, **{(series, step): (subject, body) for series, step, subject, body in own}}


def check_step(series: Series, step: str) -> None:
    """Raise ``InputInvalid`` unless ``series`` has a text for ``step``: a step of its own, or empty."""
    if series.steps and step not in series.steps:
        *first, last = series.steps
        raise InputInvalid(f"step={step!r}: {series.name} needs --step {', '.join(first)} or {last}")
    if step and not series.steps:
        raise InputInvalid(f"step={step!r}: {series.name} has no steps, leave --step out")


def save_text(
    tx: Connection, shop: Shop, series: Series, step: str, text: OutreachText, **author: Unpack[Author]
) -> None:
    """Use ``text`` for the mails of ``step`` from now on; raise ``InputInvalid``."""
    check_step(series, step)
    subject, body = text[0].strip(), text[1].strip()
    if not 1 <= len(subject) <= LONGEST_SUBJECT or not subject.isprintable():
        raise InputInvalid(f"subject should have 1 to {LONGEST_SUBJECT} printable characters")
    if not 1 <= len(body) <= LONGEST_BODY or "\0" in body:
        raise InputInvalid(
            f"the text has {format_count(len(body), 'character')}: it should have 1 to {LONGEST_BODY:,}"
        )
    unknown = [found[0] for found in _BRACES.finditer(f"{subject}\n{body}") if found[1] not in PLACEHOLDERS]
    if unknown:
        known = ", ".join(f"{{{name}}}" for name in PLACEHOLDERS)
        raise InputInvalid(f"{quote_value(unknown[0])} should be one of {known}: it would go out as it is")
    before = read_texts(tx, shop.id)[series.name, step]
    values = {"shop_id": shop.id, "series": series.name, "step": step, "subject": subject, "body": body}
    tx.exec_driver_sql(_SAVE, values | {"now": author["now"]})
    _audit(tx, shop, series, step, before, subject, **author)


def delete_text(
    tx: Connection, shop: Shop, series: Series, step: str, **author: Unpack[Author]
) -> OutreachText:
    """Use the usual text for the mails of ``step`` again, and return it.

    Raises ``InputInvalid``, and ``NothingToDo`` if the shop has no text of its own.
    """
    check_step(series, step)
    before, usual = read_texts(tx, shop.id)[series.name, step], USUAL[series.name, step]
    values = {"shop_id": shop.id, "series": series.name, "step": step}
    if not tx.exec_driver_sql(_DELETE, values).rowcount:
        raise NothingToDo(f"{shop.slug} uses the usual text of {f'{series.name} {step}'.strip()} already")
    _audit(tx, shop, series, step, before, usual[0], **author)
    return usual


def _audit(
    tx: Connection,
    shop: Shop,
    series: Series,
    step: str,
    before: OutreachText,
    subject: str,
    **author: Unpack[Author],
) -> None:
    name = f"{series.name} {step}".strip()
    mutation = Mutation(
        "outreach_texts", name, f"text of {name} changed", {"subject": before[0]}, {"subject": subject}
    )
    append_change(tx, "outreach.text", {shop.id: [mutation]}, **author)
