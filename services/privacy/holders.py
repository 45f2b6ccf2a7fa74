"""All holders of personal data, in one table.

A test reads the columns of all tables and fails where one could have personal data and has no holder.
"""

from collections.abc import Mapping
from datetime import datetime

from sqlalchemy import Connection

from services.privacy.conversations_data import INTERACTIONS
from services.privacy.ledger_data import EVENTS, WORK
from services.privacy.mail_data import MAILS
from services.privacy.shopify_data import CUSTOMERS, LOGISTICS, ORDERS, PRIVACY_REQUESTS
from services.privacy.subject import Holder, Subject, find_nothing
from services.shops.revoke_secrets import retire_secrets


def redact_secrets(tx: Connection, subject: Subject, now: datetime) -> Mapping[str, int]:
    """Retire all secrets of a whole shop, those before the last rotation included; a customer has none."""
    if not subject.whole_shop:
        return {}
    return {"shop_secrets": len(retire_secrets(tx, subject.shop_id, None, now))}


SECRETS = Holder(
    name="the shop's keys to other services",
    tables=("shop_secrets",),
    find=find_nothing,
    redact=redact_secrets,
)

HOLDERS = (
    INTERACTIONS, MAILS, ORDERS, PRIVACY_REQUESTS, SECRETS, LOGISTICS, WORK, CUSTOMERS, EVENTS,
)  # fmt: skip
"""In the order of redaction: those that identify the subject (``knows_subject``) are last."""


def list_holders() -> tuple[Holder, ...]:
    """Return ``HOLDERS``; raise ``RuntimeError`` where it is empty: nothing would be redacted."""
    if not HOLDERS:
        raise RuntimeError("there is no holder of personal data: nothing can be exported or redacted")
    return HOLDERS
