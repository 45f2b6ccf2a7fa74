"""A shop that is redacted whole loses its secrets: they are retired at once and deleted some days later."""

from collections.abc import Mapping
from datetime import datetime

from sqlalchemy import Connection

from services.privacy.holders import Holder, Subject, find_nothing, register_holder
from services.shops.revoke_secrets import retire_secrets


def redact_secrets(tx: Connection, subject: Subject, now: datetime) -> Mapping[str, int]:
    """A whole shop's secrets are retired, those before the last rotation included; a customer has none."""
    if not subject.whole_shop:
        return {}
    return {"shop_secrets": len(retire_secrets(tx, subject.shop_id, None, now))}


register_holder(
    Holder(
        name="the shop's keys to other services",
        tables=("shop_secrets",),
        find=find_nothing,
        redact=redact_secrets,
    )
)
