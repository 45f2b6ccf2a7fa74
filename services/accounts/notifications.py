"""Notifications: faults of a company that its admins are mailed about, once for each cause."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from types import MappingProxyType
from typing import Any, NamedTuple

from sqlalchemy import Connection, select
from sqlalchemy.dialects.postgresql import insert

from services.accounts.roles import Role
from services.accounts.tables import notifications, user_roles, users
from services.ledger.accept import WorkRef, record_work
from services.mail.compose import compose_mail
from services.mail.message import MailType
from services.mail.outbox import record_mails
from services.shops.shops import Shop, get_shop_by_id

KINDS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "qbt_token_expired": (
            "QuickBooks Time is not connected",
            "Connect QuickBooks Time again on the shop's page of the console. Reports that are due then go "
            "out by themselves.",
        ),
        "qbt_refresh_failed": (
            "QuickBooks Time refuses to renew its token",
            "If the client secret was replaced at QuickBooks Time, record the new one on the shop's page of "
            "the console. Then connect QuickBooks Time again there.",
        ),
        "report_send_failed": (
            "A report was not sent",
            "Repair the cause, then send it again: on the page /reports of the console, or with `fleet "
            "reports send`. A report that went out does not go again.",
        ),
    }
)
"""Title, and what to do, by kind."""

_RECORD = (
    insert(notifications)
    .on_conflict_do_nothing(constraint="uq_notifications_cause")
    .returning(notifications.c.id, notifications.c.shop_id, notifications.c.kind, notifications.c.cause)
)


class Notification(NamedTuple):
    """What happened at a shop. ``cause`` stays the same during a fault; ``text`` is a sentence."""

    shop_id: int
    kind: str
    cause: str
    text: str


def record_notifications(tx: Connection, found: Sequence[Notification], now: datetime) -> list[WorkRef]:
    """Store each notification that is new, and mail it to the shop's admins; return the work that mails.

    Admins are the people with the role admin or owner of that shop alone, and the shop's owner address;
    without any, the people with these roles in the whole fleet.
    """
    if not found:
        return []
    by_cause = {(one.shop_id, one.kind, one.cause): one for one in found}
    rows = [
        {"shop_id": shop_id, "kind": kind, "cause": cause, "text": one.text, "at": now}
        for (shop_id, kind, cause), one in sorted(by_cause.items())
    ]
    new = tx.execute(_RECORD, rows).all()
    mails = []
    for row in new:
        shop, one = get_shop_by_id(tx, row.shop_id), by_cause[row.shop_id, row.kind, row.cause]
        context = plan_notification(one.kind, one.text, now)
        mails += [
            compose_mail(NOTIFICATION_MAIL, context, shop=shop, recipient=address, period=f"{row.id}")
            for address in list_admins(tx, shop)
        ]
    return record_work(tx, record_mails(tx, mails, now), now)


def list_admins(tx: Connection, shop: Shop) -> list[str]:
    """Return the addresses of the shop's admins, sorted."""
    is_admin = user_roles.c.role.in_([role.title for role in (Role.ADMIN, Role.OWNER)])
    query = select(users.c.email).join(user_roles, user_roles.c.user_id == users.c.id)
    of_shop = tx.execute(query.where(is_admin, users.c.active, user_roles.c.shop_id == shop.id)).scalars()
    found = {shop.owner_email, *of_shop} - {""}
    if not found:
        found = set(
            tx.execute(query.where(is_admin, users.c.active, user_roles.c.shop_id.is_(None))).scalars()
        )
    return sorted(found)


def plan_notification(kind: str, text: str, now: datetime) -> dict[str, Any]:
    """Return the context of ``notification``."""
    title, to_do = KINDS[kind]
    return {"title": title, "notice": text, "to_do": to_do, "at": now, "notification_kind": kind}


def _sample(_shop: Shop | None, now: datetime) -> Mapping[str, Any]:
    text = "The report Weekly payroll for 2026-W47 was not sent: mail.client_secret_expired: HTTP 401"
    return plan_notification("report_send_failed", text, now)


NOTIFICATION_MAIL = MailType(
    name="notification",
    package="services.accounts",
    about="a report was not sent, or a connection of the company does not work",
    reader="admins of the company",
    why="You get this because you are an admin of this shop. Once for each cause.",
    sample=_sample,
)
