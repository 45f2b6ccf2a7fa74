"""The lists of mails, and of the people and sends of reminders and sequences."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, FromClause, Select, and_, case, func, literal, or_, select

from services.accounts.roles import Role
from services.console.list_candidates import select_newest
from services.console.list_page import (
    ListColumn,
    ListFilter,
    ListPage,
    Values,
    by_shop,
    by_time,
    by_value,
)
from services.core.clock import utc_now
from services.mail.tables import STATUSES as MAIL_STATUSES
from services.mail.tables import mail_outbox
from services.outreach.series import SERIES
from services.outreach.tables import STATUSES as SEND_STATUSES
from services.outreach.tables import outreach_consents, outreach_people, outreach_sends

MAIL_STATES = (*MAIL_STATUSES, "delivered", "bounced", "complained")
CONSENTS = ("express", "implied", "expired", "withdrawn", "none")
HIDDEN_SUBJECT = "•••"
"""Subjects of commercial mail may have the name of a person."""
_MAIL_COLUMNS = (
    "id", "shop_id", "kind", "recipient", "status", "transport", "error_code", "created_at", "sent_at",
)  # fmt: skip


def _fixed(values: Sequence[str]) -> Any:
    return lambda _tx: values


def find_mails(tx: Connection, values: Values) -> Select[Any]:
    column = mail_outbox.c
    state = case(
        (column.complained_at.is_not(None), "complained"),
        (column.bounced_at.is_not(None), "bounced"),
        (column.delivered_at.is_not(None), "delivered"),
        else_=column.status,
    )
    subject = case((column.is_commercial, HIDDEN_SUBJECT), else_=column.subject)
    shown = [column[name] for name in _MAIL_COLUMNS]
    found = select_newest(tx, mail_outbox, values, "created_at")
    return found.with_only_columns(*shown, state.label("state"), subject.label("subject"))


def find_people(tx: Connection, values: Values) -> Select[Any]:
    """Select people with their consent: the strongest that holds now, else why none does."""
    one, now = outreach_consents.c, utc_now()
    holds = and_(
        one.withdrawn_at.is_(None), one.given_at <= now, or_(one.expires_at.is_(None), one.expires_at > now)
    )
    consent = case(
        (func.bool_or(and_(holds, one.basis == "express")), "express"),
        (func.bool_or(holds), "implied"),
        (func.bool_or(one.withdrawn_at.is_not(None)), "withdrawn"),
        (func.count() > 0, "expired"),
        else_="none",
    )
    of_person = select(consent).where(one.person_id == outreach_people.c.id).scalar_subquery()
    found, person = select_newest(tx, outreach_people, values, "created_at"), outreach_people.c
    if "shop" in values:  # by the indexes that begin with the shop
        if "external_id" in values:
            found = found.where(person.external_id == values["external_id"])
        if "address" in values:
            found = found.where(person.email == values["address"].lower())
    return found.add_columns(of_person.label("consent"))


def find_sends(tx: Connection, values: Values) -> Select[Any]:
    found = select_newest(tx, outreach_sends, values, "created_at")
    for name in ("person", "run"):
        if name in values:
            found = found.where(outreach_sends.c[f"{name}_id"] == values[name])
    return found


def _is_shown_id(rows: FromClause, value: Any) -> ColumnElement[bool]:
    """Match an own id that is shown: one that is a mail address is masked."""
    is_address = func.strpos(rows.c.external_id, literal("@")) > 0
    return and_(rows.c.external_id == value, ~is_address)


def _by_number(name: str, label: str, column: str) -> ListFilter:
    return ListFilter(
        name=name, label=label, kind="number", condition=lambda rows, value: rows.c[column] == value
    )


def _by_address(column: str) -> ListFilter:
    """Return the filter for a whole address, which is masked."""
    return ListFilter(
        name="address",
        label="Whole address",
        kind="text",
        condition=lambda rows, value: func.lower(rows.c[column]) == value.lower(),
        needs=("shop",),
        role=Role.ADMIN,
    )


MAILS = ListPage(
    name="mails",
    title="Mails",
    about="Every mail of the outbox with its result, also what mail services reported later.",
    columns=(
        ListColumn("id", "Id", "number"),
        ListColumn("created_at", "Created", "time"),
        ListColumn("shop_id", "Shop", "shop"),
        ListColumn("kind", "Kind", "code"),
        ListColumn("recipient", "To", "address"),
        ListColumn("subject", "Subject"),
        ListColumn("state", "State", "state"),
        ListColumn("sent_at", "Sent", "time"),
        ListColumn("transport", "Transport"),
        ListColumn("error_code", "Error", "code"),
    ),
    filters=(
        by_shop(),
        by_value("state", "State", _fixed(MAIL_STATES)),
        by_value("kind", "Kind"),
        by_value("error_code", "Error code"),
        by_value("transport", "Transport"),
        *by_time("created_at"),
        _by_address("recipient"),
    ),
    candidates=find_mails,
    table="mail_outbox",
    facet="state",
    detail="details.mail",
)

PEOPLE = ListPage(
    name="people",
    title="People",
    about="People of shops who get reminders and sequences, with the consent that holds now.",
    columns=(
        ListColumn("id", "Id", "number"),
        ListColumn("created_at", "Imported", "time"),
        ListColumn("shop_id", "Shop", "shop"),
        ListColumn("external_id", "Own id", "address"),
        ListColumn("email", "Address", "address"),
        ListColumn("timezone", "Zone"),
        ListColumn("signed_up_at", "Signed up", "time"),
        ListColumn("last_active_at", "Active", "time"),
        ListColumn("consent", "Consent", "state"),
    ),
    filters=(
        by_shop(),
        by_value("consent", "Consent", _fixed(CONSENTS)),
        ListFilter(name="external_id", label="Own id", kind="text", condition=_is_shown_id),
        *by_time("created_at"),
        _by_address("email"),
    ),
    candidates=find_people,
    table="outreach_people",
    facet="consent",
    detail="lists.sends",
    detail_key="person",
)

SENDS = ListPage(
    name="sends",
    title="Sends",
    about="Steps of reminders and sequences: one row for each person and step, for ever.",
    columns=(
        ListColumn("id", "Id", "number"),
        ListColumn("created_at", "Created", "time"),
        ListColumn("shop_id", "Shop", "shop"),
        ListColumn("person_id", "Person", "number"),
        ListColumn("series", "Series"),
        ListColumn("step", "Step"),
        ListColumn("local_day", "Day there"),
        ListColumn("status", "Status", "state"),
        ListColumn("reason", "Reason", "code"),
        ListColumn("mail_id", "Mail", "mail"),
        ListColumn("run_id", "Run", "number"),
    ),
    filters=(
        by_shop(),
        by_value("series", "Series", _fixed(tuple(SERIES))),
        by_value("step", "Step"),
        by_value("status", "Status", _fixed(SEND_STATUSES)),
        by_value("reason", "Reason"),
        _by_number("person", "Person", "person_id"),
        _by_number("run", "Run", "run_id"),
        *by_time("created_at"),
    ),
    candidates=find_sends,
    facet="status",
)
