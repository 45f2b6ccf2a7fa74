"""The mail to a shop's owner with the export of a customer's data."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from services.mail.message import MailShop, MailType


def _sample(_shop: MailShop | None, now: datetime) -> Mapping[str, Any]:
    """Return the template's context. ``lies`` is the key of a file that is too large to attach."""
    received_at = now.astimezone(UTC) - timedelta(minutes=4)
    return {
        "customer_id": "191167",
        "contact": "john@example.com",
        "count": 14,
        "received_at": received_at,
        "due_at": received_at + timedelta(days=30),
        "file": "customer-191167.json",
        "lies": "",
    }


PRIVACY_EXPORT_MAIL = MailType(
    name="privacy_export",
    package="services.privacy",
    about="what is kept of a customer who asked for it",
    reader="shop owner",
    why="You get this because a customer of yours asked for their data. One mail for each request.",
    sample=_sample,
)
