"""The mail to a shop's owner with the export of a customer's data. Pure."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from services.mail.mail_types import MailShop, MailType


def plan_export_facts(
    *,
    customer_id: int,
    contact: str,
    count: int,
    received_at: datetime,
    due_at: datetime,
    file: str,
    lies: str,
) -> dict[str, Any]:
    """Return the template context of ``privacy_export``. ``lies``: the key of a file too large to attach."""
    return {
        "customer_id": str(customer_id),
        "contact": contact,
        "count": count,
        "received_at": received_at,
        "due_at": due_at,
        "file": file,
        "lies": lies,
    }


def _sample(_shop: MailShop | None, now: datetime) -> Mapping[str, Any]:
    asked_at = now.astimezone(UTC) - timedelta(minutes=4)
    return plan_export_facts(
        customer_id=191167,
        contact="john@example.com",
        count=14,
        received_at=asked_at,
        due_at=asked_at + timedelta(days=30),
        file="customer-191167.json",
        lies="",
    )


PRIVACY_EXPORT_MAIL = MailType(
    name="privacy_export",
    package="services.privacy",
    about="what is kept of a customer who asked for it",
    reader="shop owner",
    why="You get this because a customer of yours asked for their data. One mail for each request.",
    sample=_sample,
)
